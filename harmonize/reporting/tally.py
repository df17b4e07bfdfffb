"""Counting while a source is read: what was found how often and where, and under which codes and units."""

__all__ = ["Finding", "Karyotypes", "Tally", "shown"]

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from harmonize.events import Event, Issue, Pointer, Severity
from harmonize.reporting.issues import CODES, Check

_PLACES_KEPT = 10
_ORDER = {severity: rank for rank, severity in enumerate(Severity)}
_BINS_PER_DECADE: Final = 20
_NOT_POSITIVE: Final = -(1 << 30)
_LONGEST: Final = 80
_LINE: Final = re.compile(":[0-9]{1,19}$")
# Controls, line and paragraph separators, and the marks that let a text show other characters than it holds.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def shown(text: str) -> str:
    """A name from a source as a report may show it: short, printable, and no formula; ":line" at its end is never cut.

    Reports are copied into spreadsheets, which run what begins with one of ``= + - @``.

    >>> shown("=HYPERLINK(1)"), shown("Hb" + chr(27) + "[2J"), len(shown("x" * 200))
    ("'=HYPERLINK(1)", 'Hb�[2J', 80)
    """
    text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    if len(text) > _LONGEST:
        line = match[0] if (match := _LINE.search(text)) else ""
        text = f"{text[: _LONGEST - 1 - len(line)]}…{line}"
    return f"'{text}" if text.lstrip()[:1] in {"=", "+", "-", "@"} else text


@dataclass(frozen=True, slots=True)
class Karyotypes:
    """What became of the karyotypes, in texts.

    Attributes:
        parsed: read completely.
        failed: the laboratory says that there is no result.
        unparsed: not understood, so not used; never guessed.
    """

    parsed: int = 0
    failed: int = 0
    unparsed: int = 0

    @property
    def rate(self) -> float | None:
        """Share parsed of those that hold a result; None without any."""
        results = self.parsed + self.unparsed
        return self.parsed / results if results else None


@dataclass(frozen=True, slots=True)
class Finding:
    """Equal issues, counted.

    Attributes:
        code: key of `harmonize.reporting.issues.CODES`.
        variable: variable or fact concerned, or "".
        field: column or JSON path, or "".
        count: how often.
        places: the first ten, as "file:line".
    """

    code: str
    variable: str
    field: str
    count: int
    places: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        """Severity of its kind."""
        return CODES[self.code].severity

    @property
    def check(self) -> Check:
        """What it says about the data."""
        return CODES[self.code].check

    @property
    def meaning(self) -> str:
        """What was found and what became of it."""
        return CODES[self.code].meaning

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return CODES[self.code].remedy


class Tally:
    """Counts while a stream is read; memory grows with the kinds of things counted, not with their number."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._places: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
        self._codes: Counter[tuple[str, str]] = Counter()
        self._sizes: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        self._karyotypes = Karyotypes()

    def add(self, issue: Issue) -> None:
        """Count one issue."""
        self.add_equal(issue, (issue.where,))

    def add_equal(self, issue: Issue, places: Iterable[Pointer]) -> None:
        """Count equal issues.

        Args:
            issue: one of them; `count` says how many there are.
            places: of all of them, in order, with the field that `issue` has; only the first are looked at.
        """
        key = (issue.code, issue.variable, issue.where.field)
        self._counts[key] += issue.count
        known = self._places.setdefault(key, set())
        if len(known) == _PLACES_KEPT:
            return
        for place in places:
            # A file name may hold bytes that are no UTF-8; a report is UTF-8.
            known.add((place.file.encode(errors="replace").decode(), place.line))
            if len(known) == _PLACES_KEPT:
                break

    def seen(self, *events: Event) -> None:
        """Count where a source has facts: their codes, or their columns."""
        self._codes.update([(event.variable, event.code or event.where.field) for event in events])

    def measured(self, variable: str, unit: str, value: Decimal, count: int = 1) -> None:
        """Count measurements with a unit that the profile knows, before any range is looked at.

        Of the value only its size to a twentieth of a decade is counted: enough to see a wrong unit.

        Args:
            variable: of the profile.
            unit: as written.
            value: as written, in `unit`.
            count: how many measurements have this value and unit.
        """
        size = math.floor(math.log10(value) * _BINS_PER_DECADE) if value > 0 else _NOT_POSITIVE
        self._sizes[variable, unit][size] += count

    def karyotype(self, outcome: str) -> None:
        """Count what became of one text: "parsed", or the issue code that says why not."""
        name = outcome.removeprefix("karyotype-")
        self._karyotypes = replace(self._karyotypes, **{name: getattr(self._karyotypes, name) + 1})

    @property
    def karyotypes(self) -> Karyotypes:
        """What became of the karyotypes."""
        return self._karyotypes

    def codes(self, variable: str) -> dict[str, int]:
        """Code or column -> facts, as `seen`."""
        return {code: count for (name, code), count in sorted(self._codes.items()) if name == variable and code}

    def units(self, variable: str) -> dict[str, int]:
        """Unit as written -> measurements, as `measured`."""
        return {unit: sizes.total() for (name, unit), sizes in sorted(self._sizes.items()) if name == variable}

    def typical(self, variable: str, unit: str) -> float | None:
        """Median of the positive measurements as written in `unit`, to 6 %; None without any."""
        sizes = {size: count for size, count in self._sizes[variable, unit].items() if size != _NOT_POSITIVE}
        half, below = sum(sizes.values()) / 2, 0
        for size in sorted(sizes):
            below += sizes[size]
            if below >= half:
                return float(10 ** ((size + 0.5) / _BINS_PER_DECADE))
        return None

    def findings(self) -> tuple[Finding, ...]:
        """Worst first, then by name: the same findings in the same order for the same source."""
        found = [
            Finding(
                *key,
                count,
                tuple(f"{file}:{line}" if line else file for file, line in sorted(self._places[key]) if file),
            )
            for key, count in self._counts.items()
        ]
        return tuple(sorted(found, key=lambda f: (_ORDER[f.severity], f.code, f.variable, f.field)))
