"""Record whole sessions as test vectors: ``python -m tests.secagg.record_transcript``.

``transcript-a``: three members, mode A, two rounds. ``transcript-b``: four members, mode B; in the first round one does
not finish its upload, in the second one breaks off after it. ``transcript-narrow``: lanes of 16 bits, and a round that
ends in blame. ``transcript-late``: a listed member misses set-up and joins in a second wave, while rounds go on.

Each record has refusals: a member, a point, a message, and the code with which the member stops.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from secagg import Manifest, Mode, hedged_key
from secagg.messages import (
    Agreement,
    Blame,
    Bundles,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Consent,
    Invite,
    Part,
    Step,
    Sum,
    Survivors,
)
from tests.federation import Study, manifest
from tests.secagg.recorder import Session
from tests.secagg.vectors import FOLDER

FRAME: Final = {"run_id": b"\1" * 32, "study_digest": b"\2" * 32, "max_rounds": 100}
MANIFESTS: Final[dict[str, Manifest]] = {
    "a": manifest(3, 1, **FRAME),
    "b": manifest(4, 1, mode=Mode.B, **FRAME),
    "narrow": manifest(3, 1, lane_bits=16, **FRAME),
    "late": manifest(4, 1, **FRAME),
}
STUDIES: Final[dict[str, Study]] = {
    "a": Study(steps=2, length=3),
    "b": Study(steps=2, length=3),
    "narrow": Study(steps=2, length=10, bound=30_000, clamp=9_000, scale=9_000),
    "late": Study(steps=3, length=2),
}
Record = dict[str, Any]


def changed(total: Sum, position: int, add: int = 1) -> Sum:
    """A sum with another word."""
    words = np.frombuffer(total.words, dtype="<u8").copy()
    words[position] += np.uint64(add)
    return replace(total, words=words.tobytes())


def session(name: str, record: Record | None) -> Session:
    return Session(name, MANIFESTS[name], STUDIES[name], record)


def mode_a(record: Record | None = None) -> Record:
    s = session("a", record)
    s.start(1, 2, 3)
    s.run()
    lies = _set_up_lies(s)
    after, (first, second) = s.find(1, "sum"), s.sums
    roster = first.roster
    lies += [
        s.lie(after, message, code, why)
        for message, code, why in [
            (Step(1, 1, roster), "round-refused", "a number used before"),
            (Step(2, 0, roster), "round-refused", "a history shorter than this member's"),
            (Step(101, 1, roster), "round-refused", "beyond the run's last"),
            (Step(2 + 1024, 1, roster), "round-refused", "more than 1024 ahead"),
            (Step(2, 1, roster[:2]), "roster-refused", "smaller than the minimum"),
            (Step(2, 1, ((1, bytes(32)), *roster[1:])), "roster-refused", "an old session of this member"),
            (Step(2, 1, (*roster, (9, bytes(32)))), "roster-refused", "a stranger"),
            (first, "round-refused", "a sum again"),
        ]
    ]
    scaled = np.frombuffer(second.words, dtype="<u8").copy()
    scaled[:-1] *= np.uint64(3)
    lies += [
        s.lie(s.find(1, "sum", nth=1) - 1, total, "forged-sum", why, member=1)
        for total, why in [
            (changed(second, 0), "another word"),
            (replace(second, words=scaled.tobytes()), "scaled with its tag"),
            (changed(second, -2), "another tag"),
            (changed(second, -1), "another canary"),
            (replace(second, round=3), "under another number"),
            (replace(second, survivors=(1, 2)), "over a part of the roster"),
            (replace(second, words=second.words[8:]), "a word too few"),
        ]
    ]
    secrets = {"fresh": b"\3" * 32, "secret": b"\4" * 32, "context": first.words[:24] + bytes(8)}
    hedged = {name: value.hex() for name, value in {**secrets, "key": hedged_key(**secrets)}.items()}
    return s.record(*lies) | {"hedged_key": hedged}


def _set_up_lies(s: Session) -> list[Record]:
    began, agreed = s.find(2, "begin"), s.find(2, "receive", Ciphertexts)
    bundles, ciphertexts, confirmed = (s.got(s.find(2, "receive", kind)) for kind in (Bundles, Ciphertexts, Confirmed))
    first, own, third = bundles.bundles
    swapped = replace(bundles, bundles=(replace(first, x25519=third.x25519), own, third))
    few = replace(bundles, newcomers=(1, 2), bundles=(first, own))
    reflected = tuple((peer, mac, b"") for peer, mac, _ in s.said(agreed, Confirmations).to)
    (_, _, box), last = confirmed.of
    return (
        [
            s.lie(s.find(3, "begin"), swapped, "bad-signature", "another X25519 key in a bundle"),
            s.lie(s.find(3, "begin"), few, "roster-refused", "set-up without this member"),
            s.lie(agreed, replace(confirmed, of=reflected), "unconfirmed", "this member's own confirmations sent back"),
            s.lie(agreed, replace(confirmed, of=(confirmed.of[0],)), "malformed-message", "confirmations left out"),
            s.lie(
                agreed, replace(confirmed, of=((1, confirmed.of[0][1], b""), last)), "malformed-message", "no group key"
            ),
            s.lie(
                agreed,
                replace(confirmed, of=((1, confirmed.of[0][1], bytes(48)), last)),
                "unconfirmed",
                "a box that does not open",
            ),
            s.lie(
                agreed, replace(ciphertexts, of=((1, bytes(1088)),)), "second-message", "other ciphertexts than before"
            ),
        ]
        if began and box
        else []
    )


def mode_b(record: Record | None = None) -> Record:
    s = session("b", record)
    s.hold = lambda member, message: isinstance(message, Part) and (member, message.round) == (4, 1) and message.last
    s.start(1, 2, 3, 4)
    s.run()  # until the last part of member 4 is missed
    s.hold = lambda member, message: isinstance(message, Consent) and (member, message.round) == (3, 2)
    s.do(s.server.deadline())
    s.up += s.held  # too late, hence ignored
    s.run()  # until a consent is missed
    s.do(s.server.disconnect(3))
    s.do(s.server.deadline())
    s.run()
    first, second = s.sums
    uploaded, consented = s.find(1, "step", nth=1), s.find(1, "receive", Survivors, 1)
    answered = s.find(1, "receive", Agreement, 1)
    old, agreement = (s.got(s.find(1, "receive", Agreement, nth)) for nth in (0, 1))
    reflected = tuple((peer, mac) for peer, mac in s.said(consented, Consent).to if peer in dict(agreement.macs))
    box = {2: dict(old.boxes)[2]}
    replayed = tuple((peer, box.get(peer, good)) for peer, good in agreement.boxes)
    return s.record(
        s.lie(uploaded, Survivors(2, (1, 2)), "roster-refused", "fewer survivors than the threshold"),
        s.lie(uploaded, Survivors(2, (2, 3, 4)), "roster-refused", "survivors without this member, which has uploaded"),
        s.lie(uploaded, Survivors(2, (1, 2, 3, 9)), "roster-refused", "a survivor who was not on the roster"),
        s.lie(uploaded, agreement, "unexpected-message", "an agreement before this member's consent"),
        s.lie(uploaded, Blame(2), "unexpected-message", "blame in mode B"),
        s.lie(consented, Survivors(2, (1, 2, 4)), "second-message", "second survivors"),
        s.lie(consented, replace(agreement, macs=reflected), "unconfirmed", "this member's own consent sent back"),
        s.lie(consented, replace(agreement, macs=old.macs), "unconfirmed", "consents of an earlier round"),
        s.lie(consented, replace(agreement, macs=agreement.macs[:1]), "unconfirmed", "too few consents"),
        s.lie(consented, replace(agreement, boxes=replayed), "unconfirmed", "a box of an earlier round"),
        s.lie(consented, replace(agreement, boxes=replayed[:2]), "unexpected-message", "a box left out"),
        s.lie(answered, changed(second, 0), "forged-sum", "another word"),
        s.lie(answered, changed(second, -1), "forged-sum", "another canary"),
        s.lie(answered, replace(second, survivors=(1, 2, 4)), "forged-sum", "over other survivors than consented to"),
        s.lie(answered, first, "round-refused", "a sum again"),
    )


def narrow(record: Record | None = None) -> Record:
    s = session("narrow", record)
    s.tamper = _spoiled
    s.start(1, 2, 3)
    s.run()
    (total,) = s.sums
    before, uploaded = s.find(1, "sum") - 1, s.find(1, "step", nth=1)
    return s.record(
        s.lie(before, changed(total, 2, 1 << 48), "forged-sum", "a lane that belongs to no coordinate", member=1),
        s.lie(before, changed(total, 0, 1 << 16), "forged-sum", "another coordinate", member=1),
        s.lie(uploaded, Blame(1), "unexpected-message", "blame for a round whose sum was accepted"),
    )


def _spoiled(message: Any) -> Any:
    """What arrives of member 3's second upload: its last word changed."""
    if isinstance(message, Part) and message.last and (message.member, message.round) == (3, 2):
        return replace(message, words=message.words[:-1] + bytes([message.words[-1] ^ 1]))
    return message


def late(record: Record | None = None) -> Record:
    s = session("late", record)
    s.start(1, 3, 4)
    s.run()
    s.do(s.server.deadline())
    s.run(lambda: bool(s.events) and s.events[-1]["call"] == "step")
    s.hold = lambda member, message: isinstance(message, Part) and (member, message.round) == (3, 2)
    s.start(2)
    s.run()  # the second wave, while the second round waits for member 3
    s.hold = lambda _member, _message: False
    s.up += s.held
    s.run()
    opened, after = s.find(1, "step"), s.find(1, "sum")
    roster = s.sums[0].roster
    everybody = (roster[0], (2, s.members[2].nonce), *roster[1:])
    return s.record(
        s.lie(after, Step(2, 1, everybody), "roster-refused", "a member that shares no keys yet"),
        s.lie(opened, Invite(2, (2,)), "roster-refused", "a wave left out"),
        s.lie(opened, Invite(1, (3,)), "roster-refused", "a newcomer that shares keys already"),
        s.lie(opened, Invite(1, (1, 2)), "roster-refused", "this member for a newcomer"),
        s.lie(opened, Invite(1, (9,)), "roster-refused", "a stranger"),
    )


SESSIONS: Final[dict[str, Callable[[Record | None], Record]]] = {
    "a": mode_a,
    "b": mode_b,
    "narrow": narrow,
    "late": late,
}


def file(name: str) -> str:
    return f"transcript-{name}.json"


if __name__ == "__main__":
    for name, recorded in SESSIONS.items():
        (FOLDER / file(name)).write_text(json.dumps(recorded(None), indent=1) + "\n", encoding="utf-8")
