"""The quality report as typed values: what was found in a source and what became of it.

Counts, codes and places; the one exception are the five-number summaries. It is local: exact counts depend on
single patients, so nothing of it crosses the wire. Only statistics that went through the noisy secure sum, and
were charged, may leave a site. What a person may hand over is `harmonize.reporting.disclosure.Shareable`.
"""

__all__ = [
    "Finding",
    "FiveNumbers",
    "Flow",
    "Gene",
    "Karyotypes",
    "PanelQuality",
    "Quality",
    "Tally",
    "VariableQuality",
]

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from harmonize.errors import TableError
from harmonize.events import State
from harmonize.profile import Profile
from harmonize.reporting.issues import CODES
from harmonize.reporting.tally import Finding, Karyotypes, Tally, shown

ISSUE_SYSTEM: Final = "urn:haemfed:codesystem:issue"
FORMAT: Final = "haemfed/quality/1"


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
class FiveNumbers:
    """Minimum, quartiles and maximum in canonical units: values of patients, so for this site only."""

    minimum: float = field(repr=False)
    lower_quartile: float = field(repr=False)
    median: float = field(repr=False)
    upper_quartile: float = field(repr=False)
    maximum: float = field(repr=False)


@dataclass(frozen=True, slots=True)
class VariableQuality:
    """One variable over the rows of the table.

    Attributes:
        name, title: from the profile.
        states: state name -> rows.
        units: unit that the profile knows, as written in the source -> measurements.
        kind, unit, tier: from the profile; `unit` is the canonical one, or "".
        max_missing: share of rows without a value with which a site may still join.
        codes: column, or "system|code", under which the source has it -> facts.
        converted: measurements whose unit is another than the canonical one.
        dropped: issue code -> facts not used.
        soft: rows outside the usual range.
        summary: five numbers of the usable values; None for categories, and for less than five values.
        suspect: unit in which the measurements seem to be, if not the declared one; else "".
    """

    name: str
    title: str
    states: Mapping[str, int]
    units: Mapping[str, int]
    kind: str = ""
    unit: str = ""
    tier: str = "A"
    max_missing: float = 1.0
    codes: Mapping[str, int] = field(default_factory=dict)
    converted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    soft: int = 0
    summary: FiveNumbers | None = None
    suspect: str = ""

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return sum(self.states.values())

    @property
    def usable(self) -> int:
        """Rows with a number."""
        return sum(count for name, count in self.states.items() if _state(name).usable)

    @property
    def missing(self) -> Mapping[str, int]:
        """State name -> rows without a number: the reasons."""
        return {name: count for name, count in self.states.items() if not _state(name).usable}

    @property
    def too_sparse(self) -> bool:
        """Whether a study refuses the table for this variable (tier A, see `Table.require_ready`)."""
        return self.tier == "A" and self.rows > 0 and 1 - self.usable / self.rows > self.max_missing


@dataclass(frozen=True, slots=True)
class Gene:
    """Who was tested for one gene. Absent is not negative: only rows with evidence count as tested.

    Attributes:
        hgnc, symbol: from the profile.
        tested: rows with a finding or a negative result.
        found: rows with a finding.
    """

    hgnc: int
    symbol: str
    tested: int
    found: int


@dataclass(frozen=True, slots=True)
class PanelQuality:
    """Rows tested for every gene of a panel that the profile has a variable for."""

    name: str
    title: str
    genes: int
    complete: int


@dataclass(frozen=True, slots=True)
class Quality:
    """The report of one harmonisation. `harmonize.reporting.describe.quality` fills all of it.

    Attributes:
        profile, version, digest: what was harmonised to.
        flow: from source to table.
        variables: one per variable of the profile, in its order.
        findings: worst first.
        genes, panels: coverage; empty if the profile has no genes.
        karyotypes: what became of the karyotypes.
    """

    profile: str
    version: str
    digest: str
    flow: Flow
    variables: tuple[VariableQuality, ...]
    findings: tuple[Finding, ...]
    genes: tuple[Gene, ...] = ()
    panels: tuple[PanelQuality, ...] = ()
    karyotypes: Karyotypes = field(default_factory=Karyotypes)

    @classmethod
    def of(cls, profile: Profile, flow: Flow, variables: tuple[VariableQuality, ...], tally: Tally) -> "Quality":
        """Put a report together."""
        return cls(
            profile.profile,
            profile.version,
            profile.digest,
            flow,
            variables,
            tally.findings(),
            karyotypes=tally.karyotypes,
        )

    def count(self, code: str, variable: str | None = None) -> int:
        """How often an issue occurred (in one variable, or in all).

        Raises:
            KeyError: there is no such issue code.
        """
        CODES[code]
        return sum(f.count for f in self.findings if f.code == code and variable in (None, f.variable))

    def to_json(self) -> bytes:
        """The whole report as JSON, for this site's own files: `from_json` reads it back."""
        return msgspec.json.encode({"format": FORMAT, "quality": self}, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes) -> "Quality":
        """Read a report back.

        Raises:
            TableError: not one of ours, damaged, or of another version.
        """
        try:
            stored = msgspec.json.decode(data, type=_Stored)
        except msgspec.DecodeError:
            stored = None
        if stored is None or stored.format != FORMAT or any(f.code not in CODES for f in stored.quality.findings):
            raise TableError(f"the stored quality report is not {FORMAT}, or damaged; harmonise the source again")
        return stored.quality

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


@dataclass(frozen=True, slots=True)
class _Stored:
    """A report in a file."""

    format: str
    quality: Quality


def _state(name: str) -> State:
    return State[name.upper().replace("-", "_")]


def _outcome_issue(finding: Finding) -> dict[str, Any]:
    more = ", …" if finding.count > len(finding.places) else ""
    places = f": {', '.join(map(shown, finding.places))}{more}" if finding.places else ""
    issue: dict[str, Any] = {
        "severity": str(finding.severity),
        "code": CODES[finding.code].type,
        "details": {
            "coding": [{"system": ISSUE_SYSTEM, "code": finding.code}],
            "text": finding.meaning,
        },
        "diagnostics": f"{finding.count} times{places}; {finding.remedy}",
    }
    # A path of FHIR begins with a letter and a column name is quoted nowhere: only what `shown` lets through.
    if expression := finding.field or finding.variable:
        issue["expression"] = [shown(expression)]
    return issue
