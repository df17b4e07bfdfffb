"""Recorded sessions, refusals included: a change of any label, encoding, key or order shows here.

Three times over: the implementation plays each session again and must say the same octets; an independent verifier,
which shares no code with it, derives every value of the records; and the verifier must notice whatever is changed.
"""

import ast
import contextlib
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secagg import PROTOCOL_VERSION, PeerError, masks
from secagg.keys import Label, Purpose
from secagg.messages import decode
from tests.secagg import primitives, verifier
from tests.secagg.primitives import dec, enc
from tests.secagg.record_transcript import MANIFESTS, SESSIONS, STUDIES, file
from tests.secagg.recorder import Member, replay
from tests.secagg.vectors import load
from tests.secagg.verifier import Wrong, verify, verify_hedged_key
from tests.sweeps import thinned

ROOT = Path(__file__).parents[2]
RECORDS = {name: load(file(name)) for name in SESSIONS}
GOOD = {name: record | {"refusals": []} for name, record in RECORDS.items()}
PROSE = {"call", "source", "why"}


@pytest.mark.parametrize("backend", [masks.CTR, masks.GCM], ids=lambda each: each.name)
@pytest.mark.parametrize("name", SESSIONS)
def test_the_session_is_played_again_to_the_octet(
    name: str, backend: masks.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Member, "backend", backend)
    played, record = SESSIONS[name](RECORDS[name]), RECORDS[name]
    for number, (now, then) in enumerate(zip(played["events"], record["events"], strict=False)):
        assert now == then, f"event {number} of {name} differs: record it again if that is meant"
    assert played == record


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, record in RECORDS.items() for case in record["refusals"]],
    ids=lambda each: each if isinstance(each, str) else each["why"].replace(" ", "_"),
)
def test_a_recorded_refusal(name: str, case: dict[str, Any]) -> None:
    client = replay(RECORDS[name], MANIFESTS[name], STUDIES[name], name, case["member"], case["after"])
    site = Member(MANIFESTS[name], case["member"], STUDIES[name], name)
    site.client = client
    with pytest.raises(PeerError) as refusal:
        site.take(decode(bytes.fromhex(case["message"])))
    assert refusal.value.code == case["code"]
    assert not client.ready


# ---- the independent verifier


@pytest.mark.parametrize("name", SESSIONS)
def test_the_verifier_accepts_the_record(name: str) -> None:
    verify(RECORDS[name])


def test_the_verifier_accepts_the_hedged_key() -> None:
    case = RECORDS["a"]["hedged_key"]
    verify_hedged_key(case)
    for name in case:
        with pytest.raises(Wrong):
            verify_hedged_key(case | {name: case[name][:-1] + ("0" if case[name][-1] != "0" else "1")})


def test_the_verifier_shares_no_code_with_what_it_verifies() -> None:
    for module in (verifier, primitives):
        tree = ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")))
        imported = [each.module or "" for each in tree if isinstance(each, ast.ImportFrom)]
        assert not [each for each in imported if each.split(".")[0] == "secagg"]
        assert {each for each in imported if each.startswith("tests")} <= {"tests.secagg.primitives"}


Way = tuple[Any, ...]
"""Keys and indices that lead to a value of a record; ``…`` stands where a message in hex is entered."""


def leaves(value: Any, way: Way = ()) -> Iterator[Way]:
    """The ways to all values of a record, those inside its messages too."""
    if isinstance(value, dict):
        for key in value:  # in order: workers that share the tests must agree on it
            if key not in PROSE:
                yield from leaves(value[key], (*way, key))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from leaves(each, (*way, index))
    elif way and (way[-1] == "message" or way[-2:-1] == ("answers",)):
        yield from leaves(dec(bytes.fromhex(value)), (*way, ...))
    else:
        yield way


def kind(record: Any, way: Way) -> str:
    """What a value is, without its place: ``step answers Upload.3``."""
    event = record["events"][way[1]]
    hexed = event["message"] if way[2] == "message" else event["answers"][way[3]] if way[2] == "answers" else ""
    rest = way[way.index(...) + 1 :] if ... in way else way[3:]
    names = [event["call"], way[2], dec(bytes.fromhex(hexed))[0] if hexed else ""]
    return " ".join([*names, *("*" if isinstance(each, int) and i else str(each) for i, each in enumerate(rest))])


def other(value: Any, way: Way) -> Any:
    """The same record with another value there."""
    if not way:
        return changed(value)
    key, *rest = way
    if key is ...:
        return enc(*other(dec(bytes.fromhex(value)), tuple(rest))).hex()
    if isinstance(value, tuple):
        return (*value[:key], other(value[key], tuple(rest)), *value[key + 1 :])
    copied = copy.copy(value)
    copied[key] = other(value[key], tuple(rest))
    return copied


def changed(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        # Neither a bit that X25519 clamps nor the half of an ML-KEM seed that only rejected ciphertexts depend on.
        place = len(value) // 3
        return value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :] if value else b"x"
    if re.fullmatch(r"([0-9a-f]{2})+", value):
        return changed(bytes.fromhex(value)).hex()
    return value + "x"


def ways(name: str) -> list[Way]:
    record = RECORDS[name]
    return [
        ("protocol",),
        *(way for part in ("manifest", "identities", "events") for way in leaves(record[part], (part,))),
    ]


def first_of_each_kind() -> Iterator[Any]:
    """One value of each kind, from the first record that has it."""
    seen = set()
    for name, record in RECORDS.items():
        for way in ways(name):
            what = kind(record, way) if way[0] == "events" else " ".join(map(str, way))
            if what not in seen:
                seen.add(what)
                yield pytest.param(name, way, id=f"{name}: {what}")


@pytest.mark.parametrize(("name", "way"), thinned(first_of_each_kind()))
def test_the_verifier_notices_a_changed_value(name: str, way: Way) -> None:
    with pytest.raises(Wrong):
        verify(other(GOOD[name], way))


@pytest.mark.slow
@pytest.mark.parametrize("name", SESSIONS)
def test_the_verifier_notices_every_changed_value(name: str) -> None:
    unseen = []
    for way in ways(name):
        with contextlib.suppress(Wrong):
            verify(other(GOOD[name], way))
            unseen.append(way)
    assert not unseen


def test_the_verifier_says_where_a_record_is_wrong() -> None:
    record = RECORDS["a"]
    number = next(i for i, each in enumerate(record["events"]) if each["call"] == "sum")
    with pytest.raises(Wrong, match=rf"event {number} \(member 1, sum\): the transcript"):
        verify(other(GOOD["a"], ("events", number, "transcript")))


# ---- names


def test_version_and_labels_are_the_same_everywhere() -> None:
    page = (ROOT / "docs" / "reference" / "secagg-protocol.md").read_text(encoding="utf-8")
    assert {PROTOCOL_VERSION, *(record["protocol"] for record in RECORDS.values())} == {verifier.VERSION}
    assert f"Version **{PROTOCOL_VERSION}**" in page
    primitives.used.clear()
    for record in RECORDS.values():
        verify(record)
    verify_hedged_key(RECORDS["a"]["hedged_key"])
    used = {text for text in primitives.used if re.fullmatch(r"haemfed/[a-z0-9-]+/v\d+", text)}
    mine = {*map(str, Label), *(f"haemfed/{purpose}/v1" for purpose in Purpose)}
    # A label nobody used to verify could be changed unseen. The snapshot's never leaves its site: it has its own test.
    assert used == mine - {"haemfed/snapshot/v1"}


def test_a_snapshot_says_what_it_is() -> None:
    site = Member(MANIFESTS["a"], 1, STUDIES["a"], "a")
    snapshot = site.client.snapshot()
    assert snapshot.startswith(enc("haemfed/snapshot/v1", verifier.VERSION, MANIFESTS["a"].digest(), 1))
