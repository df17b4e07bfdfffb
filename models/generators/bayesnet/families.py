"""Counts of tables: all pairs, then those that earlier sums asked for, in a vector whose length is public."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from dp.queries import Neighbours, Query, norm, query_of
from dp.releases import Marginals, Records
from models.data import Float64
from models.errors import MisuseError
from models.generators.dictionary import OUTCOME, Codes, Dictionary

__all__ = ["Families", "pairs"]

Table = tuple[int, ...]
_NOTHING: Final[tuple[Table, ...]] = ()


def pairs(dictionary: Dictionary) -> Marginals:
    """All pair tables of the columns and `OUTCOME`, kind "marginals": C(p, 2) tables, bound and proof there."""
    return Marginals.all_ways((*dictionary.names, OUTCOME), dictionary.levels, 2)


@dataclass(frozen=True)
class Families:
    """Counts over the cells of the chosen tables of `ways` columns; what they leave of the vector is zero.

    | patient                     | contribution                             |
    |-----------------------------|------------------------------------------|
    | codes                       | 1 in one cell of each chosen table       |
    | tables not used             | zero, everybody                          |

    Args:
        dictionary: of the table.
        ways: columns of one table, ≥ 3.
        tables: chosen, each of increasing positions; they follow from earlier sums and are in the query.
        most: number of tables that there is room for, public.
        cells: largest number of cells of one table, public.
        kind: "sum".

    Raises:
        MisuseError: too many tables or too large ones.
    """

    dictionary: Dictionary
    ways: int
    tables: tuple[Table, ...]
    most: int
    cells: int
    kind: str = "sum"

    def __post_init__(self) -> None:
        """Check that the tables fit the public length."""
        if len(self.tables) > self.most or any(len(t) != self.ways or self._size(t) > self.cells for t in self.tables):
            raise MisuseError(f"{self.kind}: at most {self.most} tables of {self.ways} columns and {self.cells} cells")

    @classmethod
    def blank(cls, dictionary: Dictionary, ways: int, candidates: int, cells: int) -> Families:
        """The release before any table is chosen: `candidates` tables for each column that has as many before it.

        Its length is that of a study with parents up to `MOST_PARENTS`: the same for every number of ways.
        """
        columns = len(dictionary.levels)
        most = sum(min(candidates, place) for place in range(columns))
        return cls(dictionary, ways, _NOTHING, max(most, 1), cells)

    @property
    def length(self) -> int:
        """Room for all tables at their largest."""
        return self.most * self.cells

    def sensitivity(self, neighbours: Neighbours) -> float:
        """√m for room for m tables, and √(2m) for replace-one.

        Proof: a patient adds 1 to one cell of each chosen table, of which there are at most m, and which cell is a
        function of his codes and of the dictionary; so his vector has norm ≤ √m, all coordinates are ≥ 0, and two
        patients' vectors differ by ≤ √(2m). m is a public constant, whatever was chosen. ∎
        """
        return norm(self.most if neighbours is Neighbours.ADD_OR_REMOVE_ONE else 2 * self.most)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query; its public bytes name dictionary and tables."""
        constants = {"dictionary": self.dictionary.digest, "ways": self.ways, "tables": self.tables}
        return query_of(self, {**constants, "most": self.most, "cells": self.cells}, multiplier, patient_cap, index)

    def contribution(self, codes: Codes) -> Float64:
        """Return the site's counts, float64[length], whole numbers; codes int64[n, p + 1]."""
        out = np.zeros(self.length)
        if self.tables:
            counts = self._marginals.contribution(Records(codes.astype(np.float64)))
            out[: len(counts)] = counts
        return out

    def decode(self, total: Float64, noise_sd: float) -> dict[Table, Float64]:  # noqa: ARG002 - of every release
        """Return each chosen table's counts, float64[levels…]; those below zero are zero."""
        out, start = {}, 0
        for table in self.tables:
            stop = start + self._size(table)
            shape = tuple(self.dictionary.levels[a] for a in table)
            out[table] = np.maximum(total[start:stop], 0.0).reshape(shape)
            start = stop
        return out

    @property
    def _marginals(self) -> Marginals:
        return Marginals((*self.dictionary.names, OUTCOME), self.dictionary.levels, self.tables, self.kind)

    def _size(self, table: Table) -> int:
        return math.prod(self.dictionary.levels[a] for a in table)
