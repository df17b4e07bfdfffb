"""A coordinator's store that notes what it is asked, and fails when told to."""

from __future__ import annotations

from typing import Any

from nodes.errors import StorageProblem
from nodes.rehearsal import MemoryStore
from nodes.store import StoredSum
from secagg.messages import Sum
from tests.nodes.messages import ROSTER


def total(number: int = 5, words: int = 3) -> Sum:
    return Sum(number, ROSTER, (1, 3), (bytes(range(251)) * (8 * words // 251 + 1))[: 8 * words])


class Store(MemoryStore):
    """Notes the order of what is stored, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.full = False
        self.reads = 0

    def _note(self, *what: Any) -> None:
        if self.full:
            raise StorageProblem("no space left")
        self.log.append(what)

    def set_last_round(self, run_id: bytes, number: int, roster: tuple[int, ...], changes: int) -> None:
        self._note("round", number, roster, changes)
        super().set_last_round(run_id, number, roster, changes)

    def add_setup(self, run_id: bytes, kind: str, member: int, payload: bytes) -> None:
        self._note("setup", kind, member)
        super().add_setup(run_id, kind, member, payload)

    def add_sum(self, run_id: bytes, new: StoredSum) -> None:
        self._note("sum", new.position, new.survivors)
        super().add_sum(run_id, new)

    def words(self, run_id: bytes, position: int, offset: int, most: int) -> bytes:
        self.reads += 1
        if self.full:
            raise StorageProblem("unreadable")
        return super().words(run_id, position, offset, most)
