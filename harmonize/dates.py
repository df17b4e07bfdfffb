"""Dates as sources write them: FHIR's partial dates, and formats that a mapping file declares."""

__all__ = ["DateFormat", "Parsed", "Precision", "instant", "parse_declared", "parse_fhir"]

import datetime as dt
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Final

_FHIR = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?P<time>T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


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


@lru_cache(maxsize=4096)
def instant(text: str) -> int | None:
    """Microseconds since 1970, whatever the time zone of the text; None if it is no instant, or has no time zone.

    >>> instant("2024-03-01T10:00:00+02:00") < instant("2024-03-01T09:30:00Z") < instant("2024-03-01T09:30:00.5Z")
    True
    >>> instant("2024-03-01"), instant("3")
    (None, None)
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) if moment.tzinfo is not None else None


@dataclass(frozen=True, slots=True)
class DateFormat:
    """A form of dates that a mapping file declares.

    | form | reads |
    |---|---|
    | `%d.%m.%Y`, … | calendar dates: `%d` `%m` `%b` (English month) `%Y`; `%H` `%M` `%S` `%z` are read and dropped |
    | `excel`, `excel-1904` | serial numbers of a spreadsheet (`excel-1904`: of old Mac workbooks) |
    | `days-from-diagnosis`, `months-…`, `years-…` | numbers relative to day 0: 30.4375 d a month, 365.25 d a year |

    Attributes:
        pattern: of calendar dates; None for numbers.
        days: days of one unit, for relative forms; None for calendar dates.
        epoch: day 0 of serial numbers.
    """

    text: str
    pattern: re.Pattern[str] | None = None
    days: Decimal | None = None
    epoch: dt.date | None = None

    @classmethod
    def parse(cls, form: str) -> "DateFormat":
        """Compile a form.

        Raises:
            ValueError: not one of the above; two-digit years (%y) would guess the century.
        """
        if form in _RELATIVE:
            return cls(form, days=_RELATIVE[form])
        if form in _EPOCHS:
            return cls(form, epoch=_EPOCHS[form])
        directives = re.findall(r"%.", form)
        if not {"%Y"} <= set(directives) <= set(_DIRECTIVES) or len(set(directives)) < len(directives):
            raise ValueError(
                "may use %d, %m, %b, %Y, %H, %M, %S and %z only, each once, and needs %Y; or is excel, excel-1904, "
                + ", ".join(_RELATIVE)
            )
        parts = re.split(r"(%.)", form)
        return cls(form, re.compile("".join(_DIRECTIVES.get(part) or re.escape(part) for part in parts)))

    @property
    def relative(self) -> bool:
        """Whether its dates are numbers of days, months or years since day 0."""
        return self.days is not None

    def read(self, text: str) -> Parsed | None:
        """A calendar date or serial number; None if it does not fit.

        >>> DateFormat.parse("%d-%b-%Y").read("04-MAR-2012").date.isoformat()
        '2012-03-04'
        >>> DateFormat.parse("excel").read("43831").date.isoformat(), DateFormat.parse("%Y-%m-%d").read("43831")
        ('2020-01-01', None)
        >>> DateFormat.parse("excel").read("61").date.isoformat(), DateFormat.parse("excel").read("60")
        ('1900-03-01', None)
        """
        if self.epoch is not None:
            return self._serial(text, self.epoch)
        match = self.pattern.fullmatch(text) if self.pattern else None
        if match is None:
            return None
        found = match.groupdict()
        month = found.get("m") or _MONTHS.get(found.get("b", "").lower())
        try:
            # The middle of what is left out is the fairest guess.
            day = int(found.get("d") or (15 if month else 1))
            date = dt.date(int(found["Y"]), int(month or 7), day)
        except ValueError:
            return None
        precision = Precision.DAY if "d" in found else Precision.MONTH if month else Precision.YEAR
        return Parsed(date, precision)

    def shifted(self, number: Decimal, day0: dt.date) -> dt.date | None:
        """Day 0 plus a relative date, rounded to whole days (half to even); None outside the calendar.

        >>> DateFormat.parse("months-from-diagnosis").shifted(Decimal("12"), dt.date(2000, 1, 1)).isoformat()
        '2000-12-31'
        """
        if self.days is None:
            raise ValueError("not a relative form")
        try:
            return day0 + dt.timedelta(days=int((number * self.days).to_integral_value()))
        except (OverflowError, InvalidOperation):
            return None

    @staticmethod
    def _serial(text: str, epoch: dt.date) -> Parsed | None:
        # Before March 1900 spreadsheets count a 29 February that never was.
        if not (match := _SERIAL.fullmatch(text)) or int(match["day"]) <= _FALSE_LEAP_DAY:
            return None
        return Parsed(epoch + dt.timedelta(days=int(match["day"])))


def parse_declared(text: str, form: str) -> Parsed | None:
    """A calendar date in a declared form; None if it does not fit.

    >>> parse_declared("04.03.2012", "%d.%m.%Y").date.isoformat(), parse_declared("2012-03-04", "%d.%m.%Y")
    ('2012-03-04', None)
    """
    return DateFormat.parse(form).read(text.strip())


_DAYS_PER_MONTH: Final = Decimal("30.4375")
_DAYS_PER_YEAR: Final = Decimal("365.25")
_RELATIVE: Final = {
    "days-from-diagnosis": Decimal(1),
    "months-from-diagnosis": _DAYS_PER_MONTH,
    "years-from-diagnosis": _DAYS_PER_YEAR,
}
_EPOCHS: Final = {"excel": dt.date(1899, 12, 30), "excel-1904": dt.date(1904, 1, 1)}
_FALSE_LEAP_DAY: Final = 60
_SERIAL = re.compile(r"(?P<day>[0-9]{1,6})(?:[.,][0-9]+)?")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_DIRECTIVES: Final = {
    "%d": r"(?P<d>[0-9]{1,2})",
    "%m": r"(?P<m>[0-9]{1,2})",
    "%b": r"(?P<b>[A-Za-z]{3})",
    "%Y": r"(?P<Y>[0-9]{4})",
    "%H": r"[0-9]{1,2}",
    "%M": r"[0-9]{1,2}",
    "%S": r"[0-9]{1,2}(?:[.][0-9]+)?",
    "%z": r"(?:Z|[+-][0-9]{2}:?[0-9]{2})",
}
