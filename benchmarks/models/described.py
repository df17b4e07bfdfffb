"""Columns with their public dictionary: what a generator has to know beside a scaled matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from benchmarks import cohorts
from models.generators.dictionary import Column, Kind, continuous

__all__ = ["Described"]

_WHOLE: Final[Mapping[str, int]] = {"clin_sex_male": 2, "cyto_ipssr": 5}
"""Numbers that are few and whole, from the lower bound on."""


class Described(cohorts._Columns):
    """Collects columns scaled by public constants, and says what each may hold."""

    def __init__(self, table: pd.DataFrame) -> None:
        super().__init__(table)
        self.columns: list[Column] = []

    def number(
        self, column: str, low: float, high: float, centre: float, spread: float, *, count: bool = False
    ) -> None:
        """Add a scaled number; see `benchmarks.cohorts`."""
        super().number(column, low, high, centre, spread, count=count)
        if column in _WHOLE:
            values = tuple((low + k - centre) / spread for k in range(_WHOLE[column]))
            self.columns.append(Column(column, Kind.BINARY if len(values) == 2 else Kind.ORDINAL, values))
            return
        first, last = (float((np.log1p(v) if count else v) - centre) / spread for v in (low, high))
        self.columns.append(continuous(column, first, last, atom=low == 0))

    def flag(self, column: str) -> None:
        """Add a 0/1 column as it is."""
        super().flag(column)
        self.columns.append(Column(column, Kind.BINARY, (0.0, 1.0)))
