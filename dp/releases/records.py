"""Rows of a table with the patients they belong to: the unit of privacy is the patient, never the row."""

from dataclasses import dataclass, field

import numpy as np

from dp.errors import MisuseError
from dp.queries import Float64, Int64


@dataclass(frozen=True, eq=False)
class Records:
    """One site's rows.

    Args:
        values: float64[n, d]; anything may stand in it, NaN and infinity included.
        patient: int64[n], an identifier of the row's patient within this table; None = one row per
            patient. All rows of a patient count as one contribution.

    Raises:
        MisuseError: the shapes do not agree.
    """

    values: Float64 = field(repr=False)
    patient: Int64 | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float64:
            raise MisuseError(f"records are float64[rows, columns], got {self.values.dtype}{list(self.values.shape)}")
        if self.patient is not None and self.patient.shape != self.values.shape[:1]:
            raise MisuseError(f"{len(self.values)} rows but {self.patient.size} patient identifiers")

    def of_width(self, kind: str, columns: int) -> "Records":
        """Return these records if they have so many columns.

        Raises:
            MisuseError: they have not.
        """
        if self.values.shape[1] != columns:
            raise MisuseError(f"{kind}: expected {columns} columns, got {self.values.shape[1]}")
        return self

    def sums(self) -> Float64:
        """Each patient's sum over his own rows, float64[patients, d], in the order of his rows.

        Not finite where one of his rows is not: `dp.rows` turns such a patient into zero.
        """
        if self.patient is None:
            return self.values
        unique, place = np.unique(self.patient, return_inverse=True)
        totals = np.zeros((len(unique), self.values.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(totals, place, self.values)
        return totals

    def firsts(self, usable: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Float64:
        """The first usable row of each patient who has one, float64[≤ patients, d].

        Args:
            usable: bool[n], a function of each row alone.
        """
        if self.patient is None:
            return self.values[usable]
        _, first = np.unique(self.patient[usable], return_index=True)
        rows: Float64 = self.values[usable][first]
        return rows
