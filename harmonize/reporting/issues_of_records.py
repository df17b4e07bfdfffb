"""Findings about files, patients and dates: collected in `harmonize.reporting.issues`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from harmonize.events import Severity
from harmonize.kinds import Check, Kind

__all__ = ["RECORDS"]

_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFORMATION

RECORDS: Final[Mapping[str, Kind]] = MappingProxyType(
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
        "excel-identifier": Kind(
            _ERROR,
            "structure",
            "an identifier in scientific notation: a spreadsheet has rounded it; the row is not used",
            "export again without opening the file in a spreadsheet, or format the column as text first",
        ),
        "code-unseen": Kind(
            _WARNING,
            "not-found",
            "the mapping names a code, event or instrument that no row has",
            "check its spelling in the mapping file",
            Check.CONFORMANCE,
        ),
        "features-unmatched": Kind(
            _WARNING,
            "not-found",
            "a feature vector of nobody in the cohort, or a patient of the cohort without one",
            "check that the feature file holds the same identifiers",
        ),
        "features-incomplete": Kind(
            _WARNING,
            "value",
            "a feature vector with a number that is not finite; not used",
            "compute the features of this slide or region again",
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
        "resource-deleted": Kind(_INFO, "informational", "deleted at the server since; not used", "none needed"),
        "resource-duplicate": Kind(_INFO, "duplicate", "the same resource more than once; used once", "none needed"),
        "resource-superseded": Kind(
            _WARNING, "duplicate", "an older version of a resource; the newest is used", "export current versions only"
        ),
        "resource-contradiction": Kind(
            _WARNING,
            "duplicate",
            "versions of a resource of which nothing says which is newer; all are used",
            "export meta.lastUpdated, or current versions only",
        ),
        "preliminary-replaced": Kind(
            _INFO, "informational", "a preliminary result whose final one is there, too; not used", "none needed"
        ),
        "bulk-error": Kind(
            _WARNING,
            "incomplete",
            "the server reported problems while it exported",
            "read the files listed under error in the manifest",
            Check.COMPLETENESS,
        ),
        "resource-unknown": Kind(
            _ERROR, "structure", "a type that FHIR R4 does not have (strict mode); not used", "correct the export"
        ),
        "strict-invalid": Kind(
            _WARNING,
            "structure",
            "breaks FHIR R4B (strict mode); used as far as it can be read",
            "correct the export; the place names the field",
        ),
        "strict-binding": Kind(
            _WARNING,
            "code-invalid",
            "a code outside the value set that FHIR requires (strict mode)",
            "correct the export; the place names the field",
        ),
        "strict-invariant": Kind(
            _WARNING,
            "invariant",
            "breaks a rule of FHIR between fields (strict mode)",
            "correct the export; the place names the rule",
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
            "check date_format in the mapping file, or declare the token as missing",
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
        "excel-serial-date": Kind(
            _ERROR,
            "value",
            "a number where a date is expected: a spreadsheet has turned the date into days; not used",
            'export again, or declare date_format = "excel" for this column',
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
        "event-before-diagnosis": Kind(
            _ERROR,
            "business-rule",
            "an outcome's event before the diagnosis; this outcome is not known",
            "correct the dates",
        ),
        "event-after-death": Kind(
            _ERROR,
            "business-rule",
            "an outcome's event after death; this outcome is not known",
            "correct the dates",
        ),
        "event-implausible": Kind(
            _ERROR,
            "business-rule",
            "an outcome's event outside the profile's range; this outcome is not known",
            "check dates",
        ),
        "outcome-not-in-source": Kind(
            _WARNING,
            "required",
            "no fact about this outcome in the whole source; every patient counts as without it",
            "map its column or export its resources, or leave this outcome out of the study",
        ),
        "age-disagrees": Kind(
            _WARNING,
            "business-rule",
            "the stated age is more than a year off the date of birth; the date of birth is used",
            "correct the age or the date",
        ),
    }
)
