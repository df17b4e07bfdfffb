"""Findings about measurements, categories, vectors and genes: collected in `harmonize.reporting.issues`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from harmonize.events import Severity
from harmonize.kinds import Check, Kind

__all__ = ["VALUES"]

_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFORMATION

VALUES: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        # what
        "number-malformed": Kind(
            _ERROR,
            "value",
            "not a number in the declared notation; not used",
            "declare decimal and thousands in the mapping file, or the token as missing",
        ),
        "excel-date-damage": Kind(
            _ERROR,
            "value",
            "a date instead of a number, gene or category: a spreadsheet made it (1-Mar of MARCH1); not used",
            "export again without opening the file in a spreadsheet",
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
        "unit-suspect": Kind(
            _WARNING,
            "value",
            "the measurements look as if they were in another unit of the profile; used as declared",
            "compare some with the laboratory's reports, and correct the unit in the export or the mapping",
            Check.PLAUSIBILITY,
        ),
        "code-unknown": Kind(
            _ERROR,
            "code-invalid",
            "a category that neither the mapping nor the profile knows; not used",
            "add it to the column's codes in the mapping file",
        ),
        "comparator-unknown": Kind(
            _ERROR, "code-invalid", "a comparator other than <, <=, >= and >; not used", "correct the record"
        ),
        "value-type": Kind(
            _ERROR,
            "value",
            "a value of a kind that the variable cannot have (text for a number, a range); not used",
            "export numbers as valueQuantity, answers as valueCodeableConcept",
        ),
        "range-hard": Kind(
            _ERROR,
            "value",
            "outside the possible range; not used",
            "check the unit and the value at the source",
            Check.PLAUSIBILITY,
        ),
        "range-soft": Kind(
            _WARNING, "value", "outside the usual range; used", "check the unit of the column", Check.PLAUSIBILITY
        ),
        "outside-window": Kind(
            _INFO, "informational", "measured too long before or after the diagnosis; not used", "none needed"
        ),
        "multiple-matches": Kind(
            _WARNING,
            "multiple-matches",
            "different values of the day that counts; the lowest is used",
            "check for duplicates",
        ),
        "conflicting-values": Kind(
            _ERROR, "conflict", "records of one patient disagree; not used", "correct the records"
        ),
        # one value against another
        "finding-disagrees": Kind(
            _WARNING,
            "conflict",
            "a stated finding is not what the karyotype or the variants say; found in one of them counts as found, "
            "a stated class, count or fraction is used",
            "compare the column with the laboratory's report",
        ),
        "sex-against-karyotype": Kind(
            _WARNING,
            "business-rule",
            "administrative sex and sex chromosomes differ; both are used",
            "check for exchanged samples; a graft of the other sex and true differences exist",
        ),
        "blasts-against-diagnosis": Kind(
            _WARNING,
            "business-rule",
            "marrow blasts of another diagnosis: 20 % or more outside of leukaemia, or less in leukaemia without a "
            "defining lesion; used",
            "check the diagnosis, and the unit of the column",
        ),
        "lesion-against-diagnosis": Kind(
            _WARNING,
            "business-rule",
            "a karyotype that defines acute leukaemia at any blast count; used",
            "check the diagnosis",
        ),
        "monocytes-against-diagnosis": Kind(
            _WARNING,
            "business-rule",
            "fewer monocytes than the diagnosis needs (0.5 10*9/L and 10 %); used",
            "check the unit of the column, and the diagnosis",
        ),
        "differential-exceeds-total": Kind(
            _WARNING,
            "business-rule",
            "neutrophils and monocytes of one day exceed the white cells; all are used",
            "check the units of the three columns",
        ),
        "ratio-disagrees": Kind(
            _ERROR,
            "business-rule",
            "the light chain ratio is more than 15 % off kappa / lambda of the same day; the ratio is not used",
            "check the units: laboratories report mg/L and mg/dL",
        ),
        "origin-disagrees": Kind(
            _WARNING,
            "business-rule",
            "after cytotoxic therapy or radiation, and stated as de novo; both are used",
            "secondary includes therapy-related disease: correct that column",
        ),
        "gene-disagrees": Kind(
            _ERROR,
            "business-rule",
            "a gene stated as not mutated, with a fraction or another finding of its own; the 0 is not used",
            "compare the columns of the gene with the laboratory's report",
        ),
        "stage-disagrees": Kind(
            _WARNING,
            "business-rule",
            "the stated ISS stage is not that of beta-2 microglobulin and albumin; all are used",
            "check the units of the two columns, and the stage",
        ),
        # vectors
        "features-not-finite": Kind(
            _ERROR, "value", "a vector with NaN or infinite numbers; not used", "compute its features again"
        ),
        "features-clipped": Kind(
            _WARNING,
            "value",
            "a vector with numbers beyond the profile's bounds; they are set to the bound",
            "check encoder and settings",
        ),
        "karyotype-unparsed": Kind(
            _ERROR, "value", "a karyotype that cannot be read; not used, never guessed", "write it in ISCN"
        ),
        "karyotype-failed": Kind(
            _INFO,
            "informational",
            "the text says that there is no karyotype; counts as not tested",
            "none needed",
            Check.COMPLETENESS,
        ),
        "value-and-reason": Kind(
            _ERROR, "invariant", "a value and a reason for its absence; not used", "correct the record"
        ),
        # genes
        "gene-unknown": Kind(
            _WARNING,
            "code-invalid",
            "a name that is no known gene; the finding is not used",
            "write the HGNC symbol or id; a spreadsheet may have turned it into a date",
        ),
        "code-display-mismatch": Kind(
            _WARNING,
            "code-invalid",
            "a code whose display names something else; the code is used",
            "correct the code or its display at the source",
        ),
        "variant-presence-unknown": Kind(
            _ERROR,
            "code-invalid",
            "a variant that is neither present nor absent in the codes of LL1971-2; not used",
            "export Present, Absent, No call or Indeterminate as LOINC answers",
        ),
        "variant-several-genes": Kind(
            _INFO, "informational", "a rearrangement of several genes is no mutation of either; not used", "none needed"
        ),
        "variant-germline": Kind(
            _INFO,
            "informational",
            "a germline variant, which no variable is about; without a somatic one its gene counts as unknown",
            "none needed",
        ),
        "variant-denied": Kind(
            _WARNING,
            "code-invalid",
            "a variant whose words say that there is none (not detected, wild type); its gene counts as unknown",
            "leave such rows out and name the panel that was tested, or map the column as yes and no",
        ),
        "variant-benign": Kind(_INFO, "informational", "a variant called (likely) benign; not used", "none needed"),
        "vaf-range": Kind(
            _ERROR,
            "value",
            "an allele fraction outside 0 to 1, or over 1 and not in %; the variant is used without it",
            "write percentages with the unit %, or declare vaf_unit in the mapping file",
            Check.PLAUSIBILITY,
        ),
        "vaf-unit-unknown": Kind(
            _ERROR,
            "code-invalid",
            "an allele fraction in a unit that is neither 1 nor %; the variant is used without it",
            "export the fraction with UCUM code 1 or %",
        ),
        "vaf-unit-uncoded": Kind(
            _INFO, "informational", "an allele fraction without a coded unit; taken as 0 to 1", "export UCUM code 1"
        ),
        "region-partial": Kind(
            _INFO,
            "informational",
            "single mutations of a gene were looked for, not the gene; not used as evidence of absence",
            "none needed",
        ),
    }
)
