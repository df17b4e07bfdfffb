"""What a column of an unknown file cannot be: the cells of some rows rule out most kinds of columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from statistics import median
from typing import Final

from harmonize.mapping.targets import AGE_UNITS, Kind
from harmonize.variables import Range

__all__ = ["TOKENS", "Sample"]

TOKENS: Final = frozenset(
    {"na", "n/a", "nan", "nd", "n.d.", "k.a.", ".", "-", "?", "null", "none", "unknown", "-99", "-9"}
)
"""Texts, in lower case, that often mean that nothing is known."""

_JUDGED: Final = 200  # distinct texts looked at; more of them would say the same
_MOST: Final = 0.5  # of the texts: typing errors and odd tokens do not rule out a column
_WORDS: Final = 30  # distinct texts of a category at most, or half of all
_NUMBER: Final = re.compile(r"[<>=~≤≥ ]*-?[0-9]+(?:[.,' ][0-9]+)*(?:[eE][+-]?[0-9]+)?(?: *%|\s+\S.{0,11})?")
_DATE: Final = re.compile(r"[0-9]{1,4}([-./ ])(?:[0-9]{1,2}|[A-Za-z]{3,9})(?:\1[0-9]{1,4}(?:[T ].*)?)?")
_UUID: Final = re.compile(r"(?:urn:uuid:)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PLAIN: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)?")


class Sample:
    """The cells of one column in some rows.

    Attributes:
        texts: those that say something, in the order of rows.
    """

    def __init__(self, cells: Sequence[str]) -> None:
        self.texts = [text.strip() for text in cells if text.strip() and text.strip().lower() not in TOKENS]
        self._distinct = list(dict.fromkeys(self.texts))
        judged = self._distinct[:_JUDGED]
        count = len(judged) or 1
        uuids = [bool(_UUID.fullmatch(text)) for text in judged]
        dates = [bool(_DATE.fullmatch(text)) for text in judged]
        numbers = [bool(_NUMBER.fullmatch(text)) for text in judged]
        self._uuids = sum(uuids) / count
        self._numbers = sum(numbers) / count
        self._times = sum(map(any, zip(dates, numbers, strict=True))) / count

    def rules_out(self, kind: Kind) -> bool:
        """Whether a column with these cells is of another kind; without any, none is ruled out.

        | kind | what rules it out |
        |---|---|
        | any | UUIDs |
        | a measurement, an age | hardly any number |
        | a date, overall survival | hardly any date or number (of days) |
        | an outcome | the same, and too many different texts for yes and no |
        | a category, a finding, yes or no, the genes tested, a class or count | too many different texts |
        | a karyotype | dates or numbers |
        """
        if not self.texts:
            return False
        if self._uuids >= _MOST:
            return True
        match kind:
            case Kind.LAB | Kind.AGE:
                return self._numbers < _MOST
            case Kind.DATE | Kind.SURVIVAL:
                return self._times < _MOST
            case Kind.OUTCOME:
                return self._times < _MOST and self._various
            case Kind.CODE | Kind.FINDING | Kind.TRUTH | Kind.PANEL | Kind.COUNT:
                return self._various
            case Kind.KARYOTYPE:
                return self._times >= _MOST
            case Kind.VARIANT:
                return False

    @property
    def _various(self) -> bool:
        return len(self._distinct) > max(_WORDS, len(self.texts) * _MOST)

    def age_units(self, usual: Range) -> list[str]:
        """Units in which these ages would be usual ones, of years, months and days; all of them without ages.

        Args:
            usual: in years.
        """
        ages = [Decimal(text.replace(",", ".")) for text in self.texts if _PLAIN.fullmatch(text)]
        if not ages:
            return list(AGE_UNITS)
        middle = median(ages)
        return [unit for unit, years in AGE_UNITS.items() if usual[0] <= middle * years <= usual[1]]
