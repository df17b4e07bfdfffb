"""What holds a secret never shows it, is never copied, and a damaged snapshot is refused."""

import contextlib
import copy
import hashlib
import os
import pickle
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Client, Keystream, Mode, snapshot
from secagg.errors import MisuseError, SnapshotError
from secagg.messages import Step, Survivors
from secagg.tag import RoundTag
from tests.federation import Study, identity, manifest, pins, ready, roster
from tests.secagg.fuzzing import reachable, watching
from tests.secagg.primitives import dec, enc
from tests.secagg.record_transcript import late, mode_b
from tests.secagg.recorder import Member
from tests.secagg.vectors import load


@cache
def stations() -> tuple[list[tuple[str, int, Any, bytes]], set[bytes]]:
    """Every state in which the members of two recorded sessions have been, with all secrets of those sessions."""
    found: list[tuple[str, int, Any, bytes]] = []
    drawn: set[bytes] = set()
    with watching() as derived, pytest.MonkeyPatch.context() as patch:
        take = Member.take

        def seen(member: Member, message: Any) -> Any:
            event = take(member, message)
            drawn.update(each for each in member.drawn if len(each) >= 32)
            client = member.client
            found.append((type(message).__name__, member.index, (client._phase, client._round), client.snapshot()))
            return event

        patch.setattr(Member, "take", seen)
        late(load("transcript-late.json"))
        mode_b(load("transcript-b.json"))
    return found, drawn | derived


def shown(value: Any) -> str:
    return repr(value) + str(value) + format(value)


def test_no_state_shows_a_secret() -> None:
    states, secrets = stations()
    names = {type(each).__name__ for _, _, phases, _ in states for phase in phases for each in reachable(phase)}
    assert names >= {
        "Agreeing", "Confirming", "Rounds", "Ratchet", "Ephemeral", "PairKeys", "RoundKeys", "RecoveryKeys", "Uploaded",
        "Consented", "Answered", "Sent", "Confirmations", "Encapsulations",
    }  # fmt: skip
    marks = {mark for secret in secrets for mark in (secret.hex()[:16], repr(secret[:8])[2:-1])}
    texts = {shown(phase) for _, _, phases, _ in states for phase in phases}
    assert not [mark for mark in marks if any(mark in text for text in texts)]


HOLDERS = {
    "Identity": lambda: identity(1),
    "Keystream": lambda: Keystream(bytes(32)),
    "RoundTag": lambda: RoundTag(bytes(32), bytes(32), 3, bound=5),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_a_key_is_neither_copied_nor_pickled(name: str) -> None:
    uncopied(HOLDERS[name]())


def uncopied(holder: Any, ways: Any = (copy.copy, copy.deepcopy, pickle.dumps)) -> None:
    for way in ways:
        with pytest.raises(MisuseError, match="neither copied nor pickled"):
            way(holder)


def unspread(phase: Any) -> None:
    """A shallow copy of a frozen phase shares what is in it; nothing may make a second one of that."""
    uncopied(phase, (copy.deepcopy, pickle.dumps))


@pytest.mark.parametrize("mode", Mode)
def test_a_client_is_never_copied(mode: Mode) -> None:
    """Not even one whose source of entropy could be: two copies of an open round would use its masks twice."""
    of, study = manifest(4, 1, mode=mode), Study()
    fresh = Client(of, 1, identity(1), entropy=os.urandom, nonce=bytes(32), pins=pins(of))
    uncopied(fresh)
    unspread(fresh._phase)
    sites = ready(of, study)
    client = sites[1].client
    client._entropy = os.urandom
    uncopied(client)
    unspread(client._phase)
    step = Step(1, 0, roster(sites))
    context = client.open(step, sites[1].terms(4))
    uncopied(client)
    unspread(client._round)
    client.upload(context, study.data(1, 0, 0))
    uncopied(client)
    unspread(client._round)
    if mode is Mode.B:
        client.receive(Survivors(1, (1, 2, 3, 4)))
        unspread(client._round)


def test_every_state_that_leads_to_a_secret_refuses() -> None:
    states, secrets = stations()
    for _, _, phases, _ in states:
        for phase in phases:
            kept = any(isinstance(each, bytes) and each in secrets for each in reachable(phase))
            if kept and type(phase).__name__ != "Answered":  # what it holds has been sent
                unspread(phase)


# ---- snapshots


def repaired(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def run_of(data: bytes) -> Any:
    """The digest of the manifest that a snapshot names."""
    return dec(data[:-32])[2]


def test_every_state_survives_its_snapshot() -> None:
    for _, member, (phase, _), data in stations()[0]:
        state = snapshot.load(data, run_of(data), member)
        assert state[0] == phase
        assert snapshot.dump(run_of(data), member, state) == data
        for run, whose in [(bytes(32), member), (run_of(data), member + 1)]:
            with pytest.raises(SnapshotError, match="another run"):
                snapshot.load(data, run, whose)


@given(st.data())
def test_a_damaged_snapshot_is_refused(data: Any) -> None:
    _, member, _, good = data.draw(st.sampled_from(stations()[0]))
    about = run_of(good)
    place, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = data.draw(
        st.sampled_from(
            [good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :], good[:place], good + good[place:]]
        )
    )
    for damaged in (bad, data.draw(st.binary(max_size=100))):
        with pytest.raises(SnapshotError):
            snapshot.load(damaged, about, member)


plain = st.integers(0, 300) | st.binary(max_size=40) | st.text(max_size=8)
odd = st.recursive(plain, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=6)


@given(st.data())
def test_a_snapshot_of_another_layout_is_refused_or_read(data: Any) -> None:
    """The checksum is no MAC: whatever has a right one is read, or refused by name, and nothing else is raised."""
    _, member, _, good = data.draw(st.sampled_from(stations()[0]))
    record = dec(good[:-32])
    position = data.draw(st.integers(0, len(record) - 1))
    value = data.draw(odd)
    if isinstance(record[position], tuple) and record[position] and data.draw(st.booleans()):
        inner = data.draw(st.integers(0, len(record[position]) - 1))
        value = (*record[position][:inner], value, *record[position][inner + 1 :])
    body = enc(*record[:position], value, *record[position + 1 :])
    for damaged in (body, data.draw(st.binary(max_size=60)), body[: data.draw(st.integers(0, len(body)))]):
        with contextlib.suppress(SnapshotError):
            snapshot.load(repaired(damaged), run_of(good), member)
