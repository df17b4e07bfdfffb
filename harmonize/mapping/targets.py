"""What kind of thing a mapped column holds, and which keys that kind takes."""

__all__ = ["AGE_UNITS", "KEYS", "Kind", "kind", "targets", "vaf_factor"]

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from harmonize.events import FACTS, Fact
from harmonize.profile import Profile
from harmonize.variables import (
    CodeVariable,
    CytogeneticVariable,
    DerivedVariable,
    FeatureVariable,
    LabVariable,
    VariantVariable,
)

_COUNTED: Final = frozenset({"ipssr_class", "abnormalities"})  # karyotype features that are no yes or no


class Kind(StrEnum):
    """Kinds of columns; the texts name them in messages."""

    LAB = "a measurement"
    AGE = "an age"
    CODE = "a category"
    FINDING = "a cytogenetic finding"
    COUNT = "a class or count"
    VARIANT = "a variant"
    DATE = "a date"
    TRUTH = "yes or no"
    KARYOTYPE = "a karyotype"
    PANEL = "the genes tested"
    OUTCOME = "an outcome"
    SURVIVAL = "overall survival"


_TRUTH = frozenset({"codes", "present", "absent"})
_OUTCOME = _TRUTH | {"date_format", "event_column"}
KEYS: Final[Mapping[Kind, frozenset[str]]] = MappingProxyType(
    {
        Kind.LAB: frozenset({"unit", "unit_column", "date_column", "date_format"}),
        Kind.AGE: frozenset({"unit"}),
        Kind.CODE: frozenset({"codes", "checkboxes", "checked"}),
        Kind.FINDING: _TRUTH | {"tested_column", "tested"},
        Kind.COUNT: frozenset({"codes"}),
        Kind.VARIANT: _TRUTH | {"tested_column", "tested", "unit"},
        Kind.DATE: frozenset({"date_format"}),
        Kind.TRUTH: _TRUTH,
        Kind.KARYOTYPE: frozenset(),
        Kind.PANEL: frozenset({"codes"}),
        Kind.OUTCOME: _OUTCOME,
        Kind.SURVIVAL: _OUTCOME,
    }
)

AGE_UNITS: Final[Mapping[str, Decimal]] = MappingProxyType(
    {"a": Decimal(1), "mo": 1 / Decimal(12), "d": 1 / Decimal("365.25")}
)
_VAF_UNITS: Final[Mapping[str, Decimal]] = MappingProxyType(
    {"fraction": Decimal(1), "1": Decimal(1), "percent": Decimal("0.01"), "%": Decimal("0.01")}
)


def vaf_factor(unit: str) -> Decimal | None:
    """From a unit of allele fractions to 0 … 1; None if it is none.

    >>> vaf_factor("percent"), vaf_factor("ppm")
    (Decimal('0.01'), None)
    """
    return _VAF_UNITS.get(unit)


def targets(profile: Profile) -> frozenset[str]:
    """Every name that may stand under [columns]."""
    outcomes = {profile.outcome.name, *(outcome.name for outcome in profile.outcomes)}
    scalars = {variable.name for variable in profile.scalars}
    return frozenset(FACTS - {str(Fact.VARIANT)} | scalars | outcomes)


def kind(target: str, profile: Profile) -> Kind:
    """The kind of one of `targets`."""
    if target in FACTS:
        return _FACT_KINDS.get(Fact(target), Kind.DATE)
    if target == profile.outcome.name:
        return Kind.SURVIVAL
    if any(outcome.name == target for outcome in profile.outcomes):
        return Kind.OUTCOME
    variable = profile.variable(target)
    match variable:
        case LabVariable():
            return Kind.LAB
        case DerivedVariable():
            return Kind.AGE
        case CodeVariable():
            return Kind.CODE
        case CytogeneticVariable():
            return Kind.COUNT if variable.feature in _COUNTED else Kind.FINDING
        case VariantVariable():
            return Kind.VARIANT
        case FeatureVariable():
            raise KeyError(target)


_FACT_KINDS: Final = {
    Fact.DECEASED: Kind.TRUTH,
    Fact.KARYOTYPE: Kind.KARYOTYPE,
    Fact.GENES_TESTED: Kind.PANEL,
}
