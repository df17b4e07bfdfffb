"""The specification says what the code does: every label, name and number of it."""

import dataclasses
import re
from pathlib import Path

import pytest

from secagg import PROTOCOL_VERSION, SUITE, keys, manifest, masks, messages, ratchet, tag
from secagg.client import Client

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "secagg-protocol.md").read_text()

NAMES = [
    PROTOCOL_VERSION,
    SUITE,
    *keys.Label,
    *(f"haemfed/{purpose}/v1" for purpose in keys.Purpose),
    *(f"`{name}`" for name in messages._BY_NAME),
    *("Advertised", "Agreeing", "Confirming", "Rounds", "Over"),
    *("Idle", "Opened", "Sent", "Uploaded", "Consented", "Answered"),
    *("Gathering", "Uploading", "Consenting", "Revealing", "Blaming", "Waiting", "Finished"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_specified(name: str) -> None:
    assert name in TEXT


NUMBERS = [
    (tag.P, 2**56 - 5, "p = 2⁵⁶ \N{MINUS SIGN} 5"),
    (tag.COLUMNS, 1024, "m = 1024"),
    (ratchet.WINDOW, 1024, "r ≤ that + 1024"),
    (masks.SEGMENT, 4 << 20, "segments of 4 MiB"),
    (keys.CIPHERTEXT_SIZE, 1088, "ciphertext of 1088 octets"),
    (keys.MLKEM_SIZE, 1184, "ML-KEM key (1184)"),
    (manifest.MAX_ROUNDS, 1 << 20, "`max_rounds` ≤ 2²⁰"),
    (manifest.TAG_BOUND, 1 << 47, "B < 2⁴⁷"),
]


@pytest.mark.parametrize(("built", "meant", "written"), NUMBERS)
def test_every_number_is_specified(built: int, meant: int, written: str) -> None:
    assert built == meant
    assert written in TEXT


def test_no_label_is_specified_that_does_not_exist() -> None:
    written = set(re.findall(r"haemfed/[a-z0-9-]+/v1", TEXT))
    assert written == {*keys.Label, *(f"haemfed/{purpose}/v1" for purpose in keys.Purpose)}


def test_every_field_of_a_message_is_named() -> None:
    for name, kind in messages._BY_NAME.items():
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |"))
        for field in dataclasses.fields(kind):
            if field.name in {
                "member",
                "sender",
                "round",
                "roster",
                "words",
                "signature",
                "reason",
                "code",
                "transcript",
            }:
                assert field.name in row, (name, field.name)


def test_the_public_methods_of_the_client_are_the_agreed_ones() -> None:
    public = {name for name in vars(Client) if not name.startswith("_")}
    assert public == {
        "accept", "admit", "begin", "context", "hello", "last_round", "open", "ready", "receive", "snapshot", "sums",
        "transcript", "upload",
    }  # fmt: skip
