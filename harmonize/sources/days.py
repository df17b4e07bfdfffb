"""FHIR dates, each text judged once: measurements of one day are many."""

__all__ = ["Days", "Judged"]

import datetime as dt
import re
from typing import Final

from harmonize.dates import parse_fhir
from harmonize.sources.facts import judge_date

Judged = tuple[dt.date | None, tuple[str, ...]]
"""The day to use, or None, and the codes of the issues to report."""

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The time of day of a complete dateTime; second 60 is a leap second.
_CLOCK: Final = re.compile(
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_DATE: Final = 10  # characters of YYYY-MM-DD
_MOST: Final = 1 << 16  # texts remembered; then the memory is cleared: it must not grow with the file


class Days:
    """Calendar days by their text."""

    def __init__(self) -> None:
        self.known: dict[str | None, Judged] = {}

    def judge(self, text: str, fact: str = "") -> Judged:
        """The day that a date, dateTime or instant means.

        Args:
            text: as written.
            fact: a `Fact` if other rules hold for it; see `judge_date`.
        """
        if fact:
            return judge_date(parse_fhir(text), fact)
        known = self.known.get(text)
        if known is None:
            known = self._judge(text)
            if len(self.known) >= _MOST:
                self.known.clear()
            self.known[text] = known
        return known

    def _judge(self, text: str) -> Judged:
        # Most dateTimes are complete, and differ in the time of day only.
        if len(text) > _DATE and _CLOCK.fullmatch(text, _DATE):
            return self.judge(text[:_DATE])
        if _DAY.fullmatch(text):
            try:
                return dt.date(int(text[:4]), int(text[5:7]), int(text[8:])), ()
            except ValueError:
                return None, ("date-malformed",)
        return judge_date(parse_fhir(text), "")
