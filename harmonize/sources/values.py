"""What the value[x] of an Observation says about a variable, and in which state the value is."""

__all__ = ["Values", "reasons"]

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from harmonize import units
from harmonize.events import State
from harmonize.profile import CodeVariable, LabVariable
from harmonize.resources import CodeableConcept, Extension, ObservationPart, Quantity
from harmonize.sources.facts import ABSENT_REASONS

_COMPARATORS: Final[Mapping[str | None, State]] = MappingProxyType(
    {
        None: State.VALUE,
        "<": State.BELOW_LIMIT,
        "<=": State.BELOW_LIMIT,
        ">": State.ABOVE_LIMIT,
        ">=": State.ABOVE_LIMIT,
    }
)
_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
# Answers LL1971-2 of LOINC, qualifiers of SNOMED CT, HL7's ObservationInterpretation, and words.
_FINDINGS: Final[Mapping[str, State]] = MappingProxyType(
    dict.fromkeys(
        ("LA9633-4", "52101004", "260373001", "10828004", "POS", "DET", "present", "positive", "detected"), State.VALUE
    )
    | dict.fromkeys(
        ("LA9634-2", "2667000", "260415000", "260385009", "NEG", "ND", "absent", "negative", "not detected"),
        State.TESTED_NEGATIVE,
    )
    | dict.fromkeys(("LA18198-4", "LA11884-6", "82334004", "IND", "indeterminate", "no call"), State.UNKNOWN)
)
_FRACTIONS: Final[Mapping[str | None, Decimal]] = MappingProxyType({"1": Decimal(1), "%": Decimal("0.01")})
_TRUTH: Final[Mapping[State, bool]] = MappingProxyType({State.VALUE: True, State.TESTED_NEGATIVE: False})
# Wide intervals around what laboratories call normal in adults, by the LOINC code and canonical unit that a variable
# has. They only tell units apart; no value is judged by them, so they are not part of a profile.
_NORMAL: Final[Mapping[tuple[str, str], tuple[Decimal, Decimal]]] = MappingProxyType(
    {
        ("718-7", "g/dL"): (Decimal("11.5"), Decimal("17.5")),  # haemoglobin
        ("6690-2", "10*9/L"): (Decimal("3.5"), Decimal("11.5")),  # leukocytes
        ("777-3", "10*9/L"): (Decimal(140), Decimal(440)),  # platelets
        ("1751-7", "g/L"): (Decimal(33), Decimal(52)),  # albumin
        ("17861-6", "mmol/L"): (Decimal("2.1"), Decimal("2.7")),  # calcium
        ("2160-0", "umol/L"): (Decimal(45), Decimal(115)),  # creatinine
    }
)
_MOST: Final = 1 << 16  # numbers and units remembered; then the memory is cleared: it must not grow with the file


class Values:
    """Numbers and units are each made once: laboratories repeat themselves."""

    def __init__(self) -> None:
        self._decimals: dict[float | None, tuple[Decimal, int]] = {}
        self._units: dict[str | None, str] = {}

    def plain(self, part: ObservationPart, quantity: Quantity) -> tuple[tuple[Decimal, int], str] | None:
        """(number and its hash, unit) of a measurement of which nothing else is to be said; None for all others."""
        if (
            quantity.comparator is not None
            or quantity.beside_value is not None
            or quantity.extension
            or part.data_absent_reason is not None
            or part.reference_range
        ):
            return None
        value, code = quantity.value, quantity.code
        if value is None or not code:
            return None
        return self._decimals.get(value) or self._number(value), self._units.get(code) or self._unit(code)

    def measured(
        self, part: ObservationPart, variable: LabVariable
    ) -> tuple[Decimal | None, str | None, State, str | None]:
        """(number, unit as written, state, code of an issue or None)."""
        quantity = part.value_quantity
        if quantity is not None and quantity.value is not None and reasons(part) is None:
            state = _COMPARATORS.get(quantity.comparator)
            if state is None:
                return None, None, State.INVALID, "comparator-unknown"
            written = quantity.code or quantity.unit
            unit = self._unit(written) if written else None
            suspect = bool(part.reference_range) and _contradicts(part, unit, variable)
            return self._number(quantity.value)[0], unit, state, "unit-suspect" if suspect else None
        if (missing := _missing(part)) is not None:
            return None, None, *missing
        if part.value_integer is not None:
            # An integer has no place for a unit; a score needs none.
            bare = variable.unit == "1" or variable.unit.startswith("{")
            return Decimal(part.value_integer), variable.unit if bare else None, State.VALUE, None
        return None, None, *_other(part)

    def category(self, part: ObservationPart, variable: CodeVariable) -> tuple[str | None, State, str | None]:
        """(category, state, code of an issue or None)."""
        if (missing := _missing(part)) is not None:
            return None, *missing
        texts = [*_codes(part.value_codeable_concept), *_texts(part)]
        if part.value_integer is not None:
            texts.append(str(part.value_integer))
        if part.value_boolean is not None:
            texts.append(str(part.value_boolean).lower())
        for text in texts:
            category = variable.answers.get(text, text)
            if category in variable.values or category in variable.unused:
                return category, State.VALUE, None
        return (None, State.INVALID, "code-unknown") if texts else (None, *_other(part))

    def finding(self, part: ObservationPart) -> tuple[Decimal | bool | None, State, str | None]:
        """(found or not, or a count; state; code of an issue or None) of a cytogenetic finding with its own code."""
        if (missing := _missing(part)) is not None:
            return None, *missing
        if part.value_boolean is not None:
            return part.value_boolean, State.VALUE if part.value_boolean else State.TESTED_NEGATIVE, None
        if part.value_integer is not None:
            return Decimal(part.value_integer), State.VALUE, None
        # A share of nuclei says nothing without the laboratory's cut-off: its interpretation does.
        stated = [*_codes(part.value_codeable_concept), *(text.casefold() for text in _texts(part))]
        read = [*stated, *(code for concept in part.interpretation for code in _codes(concept))]
        for text in read:
            if text in _FINDINGS:
                return _TRUTH.get(_FINDINGS[text]), _FINDINGS[text], None
        return (None, State.INVALID, "code-unknown") if stated else (None, *_other(part))

    def variant(self, part: ObservationPart) -> tuple[Decimal | bool | None, State, str | None]:
        """(found or not, or an allele fraction; state; code of an issue or None) of a gene under our own code."""
        quantity = part.value_quantity
        if quantity is None or quantity.value is None or reasons(part) is not None:
            return self.finding(part)
        factor = _FRACTIONS.get(quantity.code or quantity.unit)
        if factor is None:
            return None, State.INVALID, "unit-unknown"
        return self._number(quantity.value)[0] * factor, State.VALUE, None

    def _number(self, value: float) -> tuple[Decimal, int]:
        known = self._decimals.get(value)
        if known is None:
            if len(self._decimals) >= _MOST:
                self._decimals.clear()
            # repr is the shortest decimal that gives this float: the number as the laboratory wrote it.
            number = Decimal(repr(value))
            known = self._decimals[value] = (number, hash(number))
        return known

    def _unit(self, unit: str) -> str:
        """The coded unit is meant for machines; the free text counts only where there is no code."""
        if len(self._units) >= _MOST:
            self._units.clear()
        return self._units.setdefault(unit, unit)


def reasons(part: ObservationPart) -> list[str] | None:
    """Codes of why there is no value, wherever FHIR lets them stand; None if no reason is given."""
    if part.data_absent_reason is not None:
        return [coding.code or "" for coding in part.data_absent_reason.coding]
    quantity = part.value_quantity
    if quantity is not None:
        if not quantity.extension and quantity.beside_value is None:
            return None
        extensions: Iterable[Extension] = (
            *quantity.extension,
            *(quantity.beside_value.extension if quantity.beside_value is not None else ()),
        )
    else:
        beside = part.beside_value_integer or part.beside_value_string or part.beside_value_boolean
        extensions = beside.extension if beside is not None else ()
    found = [extension.value_code or "" for extension in extensions if extension.url == _REASON]
    return found or None


def _missing(part: ObservationPart) -> tuple[State, str | None] | None:
    """The state that a reason means; None without one."""
    codes = reasons(part)
    if codes is None:
        return None
    if _stated(part):
        return State.INVALID, "value-and-reason"
    return next((ABSENT_REASONS[code] for code in codes if code in ABSENT_REASONS), State.UNKNOWN), None


def _stated(part: ObservationPart) -> bool:
    quantity = part.value_quantity
    return (quantity is not None and quantity.value is not None) or any(
        value is not None
        for value in (
            part.value_codeable_concept,
            part.value_string,
            part.value_integer,
            part.value_boolean,
            part.value_range,
        )
    )


def _other(part: ObservationPart) -> tuple[State, str | None]:
    """No value of the kind that a variable needs: another one, or none at all."""
    return (State.INVALID, "value-type") if _stated(part) else (State.NOT_RECORDED, None)


def _codes(concept: CodeableConcept | None) -> Iterator[str]:
    for coding in concept.coding if concept is not None else ():
        if coding.code:
            yield coding.code


def _texts(part: ObservationPart) -> Iterator[str]:
    """What is written instead of coded, if it is a whole answer."""
    concept = part.value_codeable_concept
    for text in (None if concept is None else concept.text, part.value_string):
        if text and text.strip():
            yield text.strip()


def _contradicts(part: ObservationPart, unit: str | None, variable: LabVariable) -> bool:
    """Whether what the laboratory calls normal is nowhere near normal in the unit that it states."""
    codes = variable.codes.get("loinc", ())
    normal = next((_NORMAL[code, variable.unit] for code in codes if (code, variable.unit) in _NORMAL), None)
    if normal is None:
        return False
    for interval in part.reference_range:
        low, high = (_canonical(bound, unit, variable) for bound in (interval.low, interval.high))
        if (low is not None and low > normal[1]) or (high is not None and high < normal[0]):
            return True
    return False


def _canonical(bound: Quantity | None, unit: str | None, variable: LabVariable) -> Decimal | None:
    if bound is None or bound.value is None:
        return None
    written = bound.code or bound.unit or unit
    return None if written is None else units.convert(Decimal(repr(bound.value)), written, variable)
