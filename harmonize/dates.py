"""Dates as sources write them: FHIR's partial dates, and formats that a mapping file declares."""

__all__ = ["Parsed", "parse_declared", "parse_fhir"]

import datetime as dt
import re
from dataclasses import dataclass, field
from enum import StrEnum

_FHIR = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?P<time>T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)


class Precision(StrEnum):
    """What the source knew."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A calendar date: the middle of what the source gave, which it gave to `precision`."""

    date: dt.date = field(repr=False)
    precision: Precision = Precision.DAY
    zone_missing: bool = False


def parse_fhir(text: str) -> Parsed | None:
    """A FHIR date, dateTime or instant; None if it is none of them.

    The calendar date is taken as written, in the zone of whoever wrote it. A missing day becomes the 15th, a
    missing month 1 July.

    >>> parse_fhir("2012-03-04T23:30:00+01:00").date.isoformat(), parse_fhir("2012-03").date.isoformat()
    ('2012-03-04', '2012-03-15')
    >>> parse_fhir("04/03/2012") is None, parse_fhir("2012-02-30") is None
    (True, True)
    """
    match = _FHIR.fullmatch(text)
    if match is None:
        return None
    year, month, day = match["year"], match["month"], match["day"]
    precision = Precision.DAY if day else Precision.MONTH if month else Precision.YEAR
    try:
        date = dt.date(int(year), int(month or 7), int(day or (15 if month else 1)))
    except ValueError:
        return None
    return Parsed(date, precision, zone_missing=bool(match["time"]) and not match["zone"])


def parse_declared(text: str, form: str) -> Parsed | None:
    """A date in a declared strptime format; None if it does not fit.

    >>> parse_declared("04.03.2012", "%d.%m.%Y").date.isoformat(), parse_declared("2012-03-04", "%d.%m.%Y")
    ('2012-03-04', None)
    """
    try:
        parsed = dt.datetime.strptime(text.strip(), form)  # noqa: DTZ007  a calendar date has no zone
    except ValueError:
        return None
    # strptime fills what the format leaves out with 1; the middle of the month or year is the fairer guess.
    if "%d" in form:
        return Parsed(parsed.date())
    if "%m" in form:
        return Parsed(parsed.date().replace(day=15), Precision.MONTH)
    return Parsed(parsed.date().replace(month=7, day=1), Precision.YEAR)
