"""Units: a closed table per variable, exact decimal arithmetic, no evaluation of unit expressions.

General UCUM libraries cannot be trusted with laboratory spellings: `G/L` is gauss per litre and `K/uL` kelvin
per microlitre in UCUM, while laboratories mean 10^9 and 10^3. What the profile does not list is not
converted.
"""

__all__ = ["convert", "factor"]

from decimal import ROUND_HALF_EVEN, Context, Decimal

from harmonize.profile import LabVariable

# An own context: the process-wide one belongs to whoever imports us. 28 digits never round
# a laboratory value.
_EXACT = Context(prec=28, rounding=ROUND_HALF_EVEN)


def factor(unit: str, variable: LabVariable) -> Decimal | None:
    """The number that turns a value in `unit` into the canonical unit; None if the unit is not listed.

    Spelling is exact apart from surrounding blanks: letter case distinguishes units (`/uL`, `/UL`).
    """
    spelled = unit.strip()
    return variable.units.get(variable.unit_aliases.get(spelled, spelled))


def convert(value: Decimal, unit: str, variable: LabVariable) -> Decimal | None:
    """`value` in the variable's canonical unit, exactly; None if the unit is not listed.

    >>> from harmonize import profile
    >>> wbc = profile.load("aml_core").variable("wbc")
    >>> convert(Decimal("13300"), "/µL", wbc) == convert(Decimal("13.3"), "G/L", wbc) == Decimal("13.3")
    True
    >>> convert(Decimal("13.3"), "g/L", wbc) is None
    True
    """
    known = factor(unit, variable)
    return None if known is None else _EXACT.multiply(value, known)
