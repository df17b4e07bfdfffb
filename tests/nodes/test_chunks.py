"""A sum arrives whole and as it was, or not at all; and never takes more memory than the study's longest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.chunks import CHUNK, PIECE, Assembler, SumPart, cut, outgoing
from secagg.errors import MalformedMessage, UnexpectedMessage
from secagg.messages import Complete, Step, Sum, Upload

ROSTER = ((1, b"n" * 32), (2, b"m" * 32), (4, b"o" * 32))


def total(words: int, number: int = 7) -> Sum:
    return Sum(number, ROSTER, (1, 4), bytes(each % 251 for each in range(8 * words)))


def test_sizes_of_pieces() -> None:
    assert CHUNK == 1 << 20
    assert PIECE % 8 == 0
    assert PIECE <= CHUNK
    pieces = list(cut(total(1000), 800))
    assert [(piece.offset, len(piece.words)) for piece in pieces] == [(each, 800) for each in range(0, 8000, 800)]
    assert [bool(piece.roster) for piece in pieces] == [True] + [False] * 9


@given(words=st.integers(3, 200), most=st.integers(1, 60))
def test_sums_one_after_the_other_arrive_whole(words: int, most: int) -> None:
    assembler = Assembler(200)
    for number in (3, 4):
        sent = total(words, number)
        arrived = [assembler.take(piece) for piece in cut(sent, 8 * most)]
        assert arrived == [None] * (len(arrived) - 1) + [sent]
        assert assembler.take(Step(9, 1, ROSTER)) == Step(9, 1, ROSTER)


def test_a_sum_longer_than_the_study_knows_is_refused_before_memory_is_taken() -> None:
    assembler = Assembler(200)
    first = next(cut(total(201), 8))

    with pytest.raises(MalformedMessage, match="1608 octets; the longest of the study has 1600"):
        assembler.take(first)
    with pytest.raises(MalformedMessage, match=f"{1 << 36} octets"):
        assembler.take(replace(first, size=1 << 36))
    assert assembler._words == b""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"offset": 8}, "octet 8 of 80, where octet 16 of 80 of round 7 belongs"),  # again
        ({"offset": 24}, "octet 24 of 80, where octet 16"),  # a gap
        ({"offset": 0, "roster": ROSTER, "survivors": (1,)}, "octet 0 of 80, where octet 16"),  # from the beginning
        ({"round": 8}, "round 8"),
        ({"size": 96}, "of 96"),
    ],
)
def test_pieces_come_in_order_and_belong_together(change: dict[str, Any], says: str) -> None:
    assembler = Assembler(200)
    pieces = list(cut(total(10), 8))
    assembler.take(pieces[0])
    assembler.take(pieces[1])

    with pytest.raises(UnexpectedMessage, match=says):
        assembler.take(replace(pieces[2], **change))


def test_nothing_comes_between_the_pieces_of_a_sum() -> None:
    assembler = Assembler(200)
    assembler.take(next(cut(total(10), 8)))

    with pytest.raises(UnexpectedMessage, match="Step inside the sum of round 7"):
        assembler.take(Step(9, 1, ROSTER))


def test_a_sum_does_not_begin_in_the_middle() -> None:
    with pytest.raises(UnexpectedMessage, match="octet 8 of 80, where octet 0"):
        Assembler(200).take(list(cut(total(10), 8))[1])


def test_the_whole_is_checked_like_any_sum() -> None:
    pieces = [replace(piece, survivors=(3,) if piece.survivors else ()) for piece in cut(total(3), 8)]
    assembler = Assembler(200)
    assembler.take(pieces[0])
    assembler.take(pieces[1])

    with pytest.raises(MalformedMessage, match="a survivor was not on the roster"):
        assembler.take(pieces[2])


@pytest.mark.parametrize(
    "change",
    [
        {"round": 0},
        {"size": 23},
        {"size": 16},
        {"offset": 4},
        {"words": b""},
        {"words": bytes(12)},
        {"words": bytes(88)},
        {"roster": ()},
        {"survivors": ()},
        {"roster": ((1, b"short"),)},
        {"roster": ((2, b"n" * 32), (1, b"n" * 32))},
        {"survivors": (4, 1)},
        {"survivors": (0,)},
        {"offset": 8},  # a later piece with a roster
    ],
)
def test_fields_of_a_piece(change: dict[str, Any]) -> None:
    first = next(cut(total(10), 8))

    with pytest.raises(MalformedMessage):
        replace(first, **change)


def test_an_upload_travels_in_parts_and_anything_else_as_it_is() -> None:
    upload = Upload(2, 9, bytes(PIECE + 8), ((1, b"b" * 48),))

    parts = list(outgoing(upload))

    assert [(part.offset, len(part.words), part.boxes) for part in parts] == [
        (0, PIECE, ()),
        (PIECE, 8, ((1, b"b" * 48),)),
    ]
    assert list(outgoing(Complete(1, b"t" * 32))) == [Complete(1, b"t" * 32)]


def test_a_piece_shows_no_words() -> None:
    assert "words" not in repr(SumPart(7, 24, 0, bytes(24), ROSTER, (1,)))
