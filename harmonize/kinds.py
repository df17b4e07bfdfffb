"""What a kind of finding is: its severity, its FHIR issue type, and what it says about the data."""

__all__ = ["Check", "Kind"]

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from harmonize.events import Severity


class Check(StrEnum):
    """What a finding says about the data: Kahn et al., eGEMs 2016;4:1244, as in OHDSI's Data Quality Dashboard.

    Uniqueness stands apart from plausibility, and linkage is added: whether facts and feature files find their patient.
    """

    CONFORMANCE = "conformance"  # written in the agreed form: format, unit, code
    COMPLETENESS = "completeness"  # there at all
    PLAUSIBILITY = "plausibility"  # can be true: range, order of dates, agreement between fields
    UNIQUENESS = "uniqueness"  # there once
    LINKAGE = "linkage"  # belongs to a known patient


_BY_TYPE: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "required": Check.COMPLETENESS,
        "business-rule": Check.PLAUSIBILITY,
        "conflict": Check.PLAUSIBILITY,
        "duplicate": Check.UNIQUENESS,
        "multiple-matches": Check.UNIQUENESS,
        "not-found": Check.LINKAGE,
    }
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Attributes:
        severity: of FHIR's OperationOutcome.
        type: code of http://hl7.org/fhir/issue-type.
        meaning: what was found and what became of it.
        remedy: what a data manager does about it.
        stated: the check, where `type` does not say it: FHIR has one type for a number that is none and one too large.
    """

    severity: Severity
    type: str
    meaning: str
    remedy: str
    stated: Check | None = None

    @property
    def check(self) -> Check:
        """What a finding of this kind says about the data."""
        return self.stated or _BY_TYPE.get(self.type, Check.CONFORMANCE)
