"""Record a whole session as a test vector: ``python -m tests.secagg.record_transcript``.

Three members, two rounds, and the refusals. Everything follows from fixed seeds except the ML-KEM
ciphertexts, whose randomness is the library's own; a replay takes them, and the state of a member that made
them, from the record.
"""

import json
from typing import Any

import numpy as np

from secagg import PROTOCOL_VERSION, Client, Manifest, Terms
from secagg.messages import Bundles, Confirmations, Encapsulations, Step, decode, encode
from tests.federation import Study, add, entropy, identity, manifest, pins
from tests.secagg.vectors import FOLDER

STUDY = Study(length=3)
FILE = FOLDER / "transcript.json"


def session() -> Manifest:
    return manifest(3, 1, run_id=b"\1" * 32, study_digest=b"\2" * 32, max_rounds=100)


def terms(step: int) -> Terms:
    return STUDY.terms(step, 3, 1)


def client(member: int, snapshot: bytes | None = None) -> Client:
    of = session()
    return Client(
        of, member, identity(member), entropy=entropy(f"transcript {member}"), nonce=bytes([member]) * 32,
        pins=pins(of), snapshot=snapshot,
    )  # fmt: skip


def refusals(first: Any, second: Any, roster: Any) -> list[dict[str, Any]]:
    """What each of these must be answered with, by a member that has accepted the first sum."""
    words = np.frombuffer(second.words, dtype="<u8")
    flipped, scaled, canary = words.copy(), words.copy(), words.copy()
    flipped[0] ^= np.uint64(1)
    scaled[:4] *= np.uint64(3)
    canary[-1] += np.uint64(1)
    steps = [
        (Step(2, roster, ()), "round-refused", "a number used before"),
        (Step(2 + 1024 + 1, roster, ()), "round-refused", "more than 1024 ahead"),
        (Step(101, roster, ()), "round-refused", "beyond the run's last"),
        (Step(3, roster[:2], ()), "roster-refused", "smaller than the minimum"),
        (Step(3, ((1, bytes(32)), *roster[1:]), ()), "roster-refused", "an old session of this member"),
    ]
    sums = [
        (first, "round-refused", "a sum again"),
        *(
            (type(second)(2, roster, lie.tobytes()), "forged-sum", why)
            for lie, why in [(flipped, "one bit"), (scaled, "scaled with its tag"), (canary, "canary")]
        ),
        (type(second)(3, roster, second.words), "forged-sum", "under another number"),
    ]
    return [
        {
            "call": "open" if isinstance(each, Step) else "accept",
            "message": encode(each).hex(),
            "code": code,
            "why": why,
        }
        for each, code, why in steps + sums
    ]


def record() -> dict[str, Any]:  # noqa: C901  # one session, told in order
    clients = {member: client(member) for member in (1, 2, 3)}
    events: list[dict[str, Any]] = []

    def receive(member: int, message: Any) -> list[Any]:
        answers = clients[member].receive(message)
        event = {"member": member, "call": "receive", "message": encode(message).hex()}
        event["answers"] = [encode(answer).hex() for answer in answers]
        if isinstance(message, Bundles) and member < 3:
            event["snapshot"] = clients[member].snapshot().hex()
        events.append(event)
        return answers

    bundles = Bundles(tuple(each.begin()[0] for each in clients.values()))
    pending = [answer for member in clients for answer in receive(member, bundles)]
    while pending:
        message = pending.pop(0)
        match message:
            case Encapsulations(sender, to):
                for peer, ciphertext in to:
                    pending += receive(peer, Encapsulations(sender, ((peer, ciphertext),)))
            case Confirmations(sender, to):
                for peer, mac, box in to:
                    pending += receive(peer, Confirmations(sender, ((peer, mac, box),)))

    roster = tuple((member, bytes([member]) * 32) for member in clients)
    sums: list[Any] = []
    for number in (1, 2):
        uploads = []
        for member, each in clients.items():
            step = Step(number, roster, ())
            context = each.open(step, terms(number - 1))
            values = STUDY.data(member, number, 0)
            uploads.append(each.upload(context, values))
            events.append(
                {"member": member, "call": "upload", "message": encode(step).hex(),
                 "context": context.digest.hex(), "values": values.tolist(),
                 "answers": [encode(uploads[-1]).hex()]}
            )  # fmt: skip
        sums.append(add(number, roster, *uploads))
        if number == 2:
            break
        for member, each in clients.items():
            values = each.accept(sums[0], terms(0))
            events.append(
                {"member": member, "call": "accept", "message": encode(sums[0]).hex(),
                 "values": values.tolist(), "transcript": each.transcript.hex()}
            )  # fmt: skip
    return {
        "source": "recorded by tests/secagg/record_transcript.py from this implementation",
        "protocol": PROTOCOL_VERSION,
        "manifest": session().digest().hex(),
        "bundles": encode(bundles).hex(),
        "events": events,
        "refusals": refusals(*sums, roster),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(record(), indent=1) + "\n")
    decode(bytes.fromhex(json.loads(FILE.read_text())["bundles"]))
