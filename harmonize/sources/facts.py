"""What all sources do alike: judge a date that was parsed, and turn reasons of absence into states."""

__all__ = ["ABSENT_REASONS", "judge_date"]

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from harmonize.dates import Parsed, Precision
from harmonize.events import Fact, State

# http://terminology.hl7.org/CodeSystem/data-absent-reason; what is not listed says only that it is not known.
ABSENT_REASONS: Final[Mapping[str, State]] = MappingProxyType(
    {"not-performed": State.NOT_TESTED, "not-a-number": State.INVALID, "error": State.INVALID}
)


def judge_date(parsed: Parsed | None, variable: str) -> tuple[dt.date | None, tuple[str, ...]]:
    """The date to use, or None, and the codes of the issues to report.

    A year alone is enough for a birth date (an age is off by at most one), but not for a duration.
    """
    if parsed is None:
        return None, ("date-malformed",)
    issues = ("time-zone-missing",) if parsed.zone_missing else ()
    if parsed.precision is Precision.YEAR and variable != Fact.BIRTH_DATE:
        return None, (*issues, "date-coarse")
    if parsed.precision is not Precision.DAY:
        issues = (*issues, "date-partial")
    return parsed.date, issues
