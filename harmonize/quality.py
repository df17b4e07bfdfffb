"""The quality report: what was found in a source and what became of it. Counts, codes and places; no value.

It is local: exact counts depend on single patients, so nothing of it crosses the wire. Only statistics that
went through the noisy secure sum, and were charged, may leave a site.
"""

__all__ = ["Finding", "Flow", "Quality", "Tally", "VariableQuality"]

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2

from harmonize.events import Issue, Severity, State
from harmonize.issues import CODES
from harmonize.profile import Profile

ISSUE_SYSTEM: Final = "urn:haemfed:codesystem:issue"
_PLACES_KEPT = 10
_ORDER = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Flow:
    """The cohort from source to table.

    Attributes:
        seen: patients in the source (several records of one patient count once).
        left_out: issue code -> patients left out for it (each patient counts once).
        usable: rows of the table.
        deaths: rows with an observed death.
    """

    seen: int
    left_out: Mapping[str, int]
    usable: int
    deaths: int


@dataclass(frozen=True, slots=True)
class VariableQuality:
    """One variable over the rows of the table.

    Attributes:
        states: state name -> rows.
        units: unit of the profile as found in the source -> measurements.
    """

    name: str
    title: str
    states: Mapping[str, int]
    units: Mapping[str, int]

    @property
    def usable(self) -> int:
        """Rows with a number."""
        return sum(count for name, count in self.states.items() if State[name.upper().replace("-", "_")].usable)


@dataclass(frozen=True, slots=True)
class Finding:
    """Equal issues, counted.

    Attributes:
        code: key of `harmonize.issues.CODES`.
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
    def meaning(self) -> str:
        """What was found and what became of it."""
        return CODES[self.code].meaning

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return CODES[self.code].remedy


class Tally:
    """Counts issues while a stream is read; memory grows with the kinds of issues, not with their number."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._places: dict[tuple[str, str, str], set[tuple[str, int]]] = {}

    def add(self, issue: Issue) -> None:
        """Count one issue."""
        key = (issue.code, issue.variable, issue.where.field)
        self._counts[key] += 1
        places = self._places.setdefault(key, set())
        if len(places) < _PLACES_KEPT:
            places.add((issue.where.file, issue.where.line))

    def findings(self) -> tuple[Finding, ...]:
        """Worst first, then by name: the same findings in the same order for the same source."""
        found = [
            Finding(
                *key,
                count,
                tuple(f"{file}:{line}" if line else file for file, line in sorted(self._places[key])),
            )
            for key, count in self._counts.items()
        ]
        return tuple(sorted(found, key=lambda f: (_ORDER[f.severity], f.code, f.variable, f.field)))


@dataclass(frozen=True, slots=True)
class Quality:
    """The report of one harmonisation."""

    profile: str
    version: str
    digest: str
    flow: Flow
    variables: tuple[VariableQuality, ...]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, profile: Profile, flow: Flow, variables: tuple[VariableQuality, ...], tally: Tally) -> "Quality":
        """Put a report together."""
        return cls(profile.profile, profile.version, profile.digest, flow, variables, tally.findings())

    def count(self, code: str, variable: str | None = None) -> int:
        """How often an issue occurred (in one variable, or in all).

        Raises:
            KeyError: there is no such issue code.
        """
        CODES[code]
        return sum(f.count for f in self.findings if f.code == code and variable in (None, f.variable))

    def render_html(self) -> str:
        """One self-contained HTML page: no script, no external asset, everything escaped."""
        return _template().render(report=self, meanings=CODES)

    def operation_outcome(self) -> dict[str, Any]:
        """The findings as a FHIR R4 OperationOutcome (as JSON types)."""
        issues = [_outcome_issue(finding) for finding in self.findings]
        return {
            "resourceType": "OperationOutcome",
            # FHIR wants at least one issue, also for "all well".
            "issue": issues or [{"severity": "information", "code": "informational", "diagnostics": "no issue"}],
        }

    def operation_outcome_json(self) -> bytes:
        """`operation_outcome` as JSON bytes."""
        return json.dumps(self.operation_outcome(), indent=1, ensure_ascii=False).encode()


def _outcome_issue(finding: Finding) -> dict[str, Any]:
    more = ", …" if finding.count > len(finding.places) else ""
    issue: dict[str, Any] = {
        "severity": str(finding.severity),
        "code": CODES[finding.code].type,
        "details": {
            "coding": [{"system": ISSUE_SYSTEM, "code": finding.code}],
            "text": finding.meaning,
        },
        "diagnostics": f"{finding.count} times: {', '.join(finding.places)}{more}; {finding.remedy}",
    }
    if expression := finding.field or finding.variable:
        issue["expression"] = [expression]
    return issue


@cache
def _template() -> jinja2.Template:
    # Column names and file names come from outside and end in HTML: autoescape is not optional.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = (resources.files("harmonize") / "templates" / "quality.html").read_text(encoding="utf-8")
    return environment.from_string(source)
