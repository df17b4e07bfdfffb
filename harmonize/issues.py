"""Every kind of finding: its severity, its FHIR issue type, what happened to the data, and the way out."""

__all__ = ["CODES", "Kind"]

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from harmonize.events import Severity


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Attributes:
        severity: of FHIR's OperationOutcome.
        type: code of http://hl7.org/fhir/issue-type.
        meaning: what was found and what became of it.
        remedy: what a data manager does about it.
    """

    severity: Severity
    type: str
    meaning: str
    remedy: str


_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFORMATION

CODES: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        # the file
        "structure": Kind(
            _ERROR, "structure", "not valid JSON, or cut off; the line is not used", "export the file again"
        ),
        "type": Kind(
            _ERROR,
            "structure",
            "a field has another type than FHIR R4 says; the resource is not used",
            "correct the export; numbers are JSON numbers, not text",
        ),
        "row-ragged": Kind(
            _ERROR,
            "structure",
            "more or fewer cells than the header; the row is not used",
            "look for an unquoted delimiter or line break in this row",
        ),
        "byte-order-mark": Kind(_INFO, "informational", "the file starts with a byte order mark", "none needed"),
        "resource-ignored": Kind(
            _INFO, "informational", "a resource type that the profile does not use", "none needed"
        ),
        "status-skipped": Kind(
            _INFO,
            "informational",
            "entered in error, cancelled, refuted or not done; not used",
            "none needed",
        ),
        "modifier-extension": Kind(
            _ERROR,
            "extension",
            "a modifier extension may change what the resource means; not used",
            "export without it, or ask for support of this extension",
        ),
        # who
        "patient-unresolved": Kind(
            _ERROR,
            "not-found",
            "facts about a patient whose record is not there; not used",
            "export Patient, too",
        ),
        "identifier-missing": Kind(
            _ERROR,
            "required",
            "a patient without exactly one identifier of the mapped system; not used",
            "check [patient] in the mapping file, or complete the record",
        ),
        "patient-duplicate": Kind(_INFO, "duplicate", "the same record more than once; used once", "none needed"),
        "patient-superseded": Kind(
            _WARNING, "duplicate", "an older version of the record; the newest is used", "none needed"
        ),
        "patient-contradiction": Kind(
            _ERROR,
            "duplicate",
            "several records of one patient disagree; the patient is left out",
            "correct the records, or keep one of them",
        ),
        # when
        "index-diagnosis-missing": Kind(
            _WARNING,
            "required",
            "no dated diagnosis of the profile; the patient is left out",
            "check the diagnosis codes or the date column",
        ),
        "date-malformed": Kind(
            _ERROR,
            "value",
            "not a date in the expected form; not used",
            "check date_format in the mapping file",
        ),
        "date-coarse": Kind(
            _ERROR, "value", "only a year; too coarse for a duration; not used", "add the month at least"
        ),
        "date-partial": Kind(
            _WARNING, "value", "month or year only; its middle is used", "add the full date if it is known"
        ),
        "time-missing": Kind(
            _ERROR, "required", "a measurement without a date; not used", "add the date of the measurement"
        ),
        "time-zone-missing": Kind(
            _INFO, "informational", "a date-time without time zone; its calendar date is used", "none needed"
        ),
        "birth-after-diagnosis": Kind(
            _ERROR, "business-rule", "born after the diagnosis; age not used", "correct the dates"
        ),
        "death-before-diagnosis": Kind(
            _ERROR, "business-rule", "died before the diagnosis; the patient is left out", "correct the dates"
        ),
        "follow-up-before-diagnosis": Kind(
            _ERROR,
            "business-rule",
            "last seen before the diagnosis; the patient is left out",
            "correct the dates, or add the follow-up",
        ),
        "follow-up-after-death": Kind(
            _WARNING, "business-rule", "seen after death; the date of death is used", "correct the dates"
        ),
        "follow-up-missing": Kind(
            _WARNING,
            "required",
            "alive, or not known to be dead, and never seen; the patient is left out",
            "add a date of last follow-up",
        ),
        "death-date-missing": Kind(
            _WARNING, "required", "dead without a date; the patient is left out", "add the date of death"
        ),
        "vital-status-contradiction": Kind(
            _ERROR,
            "business-rule",
            "alive with a date of death; the patient is left out",
            "correct the record",
        ),
        "outcome-implausible": Kind(
            _ERROR,
            "business-rule",
            "survival outside the profile's range; the patient is left out",
            "check dates",
        ),
        # what
        "number-malformed": Kind(
            _ERROR,
            "value",
            "not a number in the declared notation; not used",
            "declare decimal and thousands in the mapping file, or the token as missing",
        ),
        "unit-missing": Kind(
            _ERROR,
            "required",
            "a measurement without unit; not used",
            "add the unit to the export or the mapping",
        ),
        "unit-unknown": Kind(
            _ERROR,
            "code-invalid",
            "a unit that the profile does not list for this variable; not used",
            "convert to a unit of the profile, or propose the unit for the next profile version",
        ),
        "code-unknown": Kind(
            _ERROR,
            "code-invalid",
            "a category that neither the mapping nor the profile knows; not used",
            "add it to the column's codes in the mapping file",
        ),
        "range-hard": Kind(
            _ERROR,
            "value",
            "outside the possible range; not used",
            "check the unit and the value at the source",
        ),
        "range-soft": Kind(_WARNING, "value", "outside the usual range; used", "check the unit of the column"),
        "outside-window": Kind(
            _INFO, "informational", "measured too long before or after the diagnosis; not used", "none needed"
        ),
        "multiple-matches": Kind(
            _WARNING,
            "multiple-matches",
            "different values equally near the diagnosis; the lowest is used",
            "check for duplicates",
        ),
        "conflicting-values": Kind(
            _ERROR, "conflict", "records of one patient disagree; not used", "correct the records"
        ),
        "value-and-reason": Kind(
            _ERROR, "invariant", "a value and a reason for its absence; not used", "correct the record"
        ),
    }
)
