"""Sums are read in pieces, the newest from memory, and by any number of streams at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nodes.chunks import CHUNK, PIECE, Assembler
from nodes.errors import StorageProblem
from nodes.outbox import Sums
from secagg.actions import SumRecord
from tests.nodes.messages import ROSTER
from tests.nodes.noting import Store, total

RUN = b"R" * 32
LONG = (2 * CHUNK + 5 * PIECE + 8) // 8


def whole(sums: Sums, position: int) -> Any:
    assembler = Assembler(LONG)
    return [assembler.take(part) for part in sums.parts(position)][-1]


def test_the_newest_sum_is_not_read_from_the_store_and_older_ones_piece_by_piece() -> None:
    store = Store()
    sums = Sums(store, RUN)
    for number in (5, 6):
        sums.add(total(number, LONG))

    assert whole(sums, 1) == total(6, LONG)
    assert store.reads == 0
    assert whole(sums, 0) == total(5, LONG)
    assert store.reads == 3
    assert max(len(part.words) for position in (0, 1) for part in sums.parts(position)) == PIECE


def test_after_a_restart_the_newest_sum_is_read_once_for_all() -> None:
    store = Store()
    Sums(store, RUN).add(total(5, LONG))
    sums = Sums(store, RUN)
    found: list[Any] = []
    readers = [threading.Thread(target=lambda: found.append(whole(sums, 0))) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert found == [total(5, LONG)] * 8
    assert store.reads == 1
    assert sums.records() == [SumRecord(5, ROSTER, (1, 3))]


def test_a_reader_in_the_middle_of_the_newest_sum_is_not_disturbed_by_the_next() -> None:
    sums = Sums(Store(), RUN)
    sums.add(total(5, LONG))
    reading = sums.parts(0)
    parts = [next(reading)]
    sums.add(total(6, LONG))

    assembler = Assembler(LONG)
    assert [assembler.take(part) for part in [*parts, *reading]][-1] == total(5, LONG)


def test_a_sum_that_is_not_stored_is_not_given_out() -> None:
    store = Store()
    sums = Sums(store, RUN)
    sums.add(total(5))
    store.full = True
    with pytest.raises(StorageProblem):
        sums.add(total(6))

    assert len(sums.records()) == 1
    with pytest.raises(StorageProblem, match="unreadable"):
        whole(sums, 0)
