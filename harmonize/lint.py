"""The linter: what a profile must satisfy beyond its types."""

__all__ = ["check", "findings"]

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from harmonize.codes import RULES
from harmonize.errors import ProfileError
from harmonize.events import FACTS
from harmonize.genetics.genes import HGNC, SYMBOL
from harmonize.karyotype import FEATURES
from harmonize.modalities import OF_SCALARS
from harmonize.profile import CodeVariable, DerivedVariable, FeatureVariable, LabVariable, Profile, Scalar
from harmonize.variables import Coded, Codes, CytogeneticVariable, Range, Scale, Variable, VariantVariable

# Column names that the table and the mapping file use themselves.
RESERVED: Final = FACTS | {"pid", "time", "event", "patient"}
_RELEASES: Final = frozenset({"4.0.1", "4.3.0"})
# Valid UCUM with another meaning than laboratories': gauss, tesla, kelvin. As aliases they may stand, with ours.
_MISREAD: Final = ("G/", "T/", "K/")
_SCORES: Final = frozenset({"abnormalities", "ipssr_class"})  # cytogenetic features that are numbers, not findings
_IPSSR_CLASS: Final[Range] = (Decimal(0), Decimal(4))
_FOUND_OR_NOT: Final[Range] = (Decimal(0), Decimal(1))
_LARGEST_NUMBER: Final = Decimal(10) ** 30  # of a vector, which is kept in single precision
# A derived feature is a rule about one gene: HGNC ids.
_FLT3, _KMT2A, _TP53, _CEBPA = 3765, 7132, 11998, 1833
_GENE_OF: Final = {
    "itd": _FLT3,
    "tkd": _FLT3,
    "ptd": _KMT2A,
    "multi-hit": _TP53,
    "bzip": _CEBPA,
    "biallelic": _CEBPA,
}


def check(profile: Profile) -> None:
    """Refuse a profile with findings.

    Raises:
        ProfileError: with every finding on one line.
    """
    if found := list(findings(profile)):
        raise ProfileError(f"profile {profile.profile}: " + "; ".join(found))


def findings(profile: Profile) -> Iterator[str]:
    """Yield each finding as 'field: what is wrong'."""
    yield from _head(profile)
    yield from _names(profile)
    yield from _claims(profile)
    for variable in profile.variables:
        yield from _variable(f"variables.{variable.name}", variable)
    yield from _duration("outcome", profile.outcome.hard)
    for outcome in profile.outcomes:
        yield from _duration(f"outcomes.{outcome.name}", outcome.hard)
    yield from _panels(profile)
    yield from _same_question(profile)


def _variable(place: str, variable: Variable) -> Iterator[str]:
    if not isinstance(variable, FeatureVariable):
        yield from _bounds(place, variable)
    match variable:
        case LabVariable():
            yield from _units(place, variable)
            yield from _aliases(place, variable)
        case CodeVariable():
            yield from _categories(place, variable)
        case DerivedVariable():
            if not variable.hard[0] < variable.top_code <= variable.hard[1]:
                yield f"{place}.top_code: must lie inside the hard range"
        case CytogeneticVariable():
            yield from _cytogenetic(place, variable)
        case VariantVariable():
            yield from _variant(place, variable)
        case FeatureVariable():
            yield from _vector(place, variable)


def _head(profile: Profile) -> Iterator[str]:
    if not profile.fhir or not _RELEASES.issuperset(profile.fhir):
        yield f"fhir: must list some of {', '.join(sorted(_RELEASES))}"
    for uri, count in Counter(profile.systems.values()).items():
        if count > 1:
            yield f"systems: {uri} is listed under {count} keys"


def _names(profile: Profile) -> Iterator[str]:
    names = [variable.name for variable in profile.variables]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"variables.{name}: defined twice"
    for name in sorted(RESERVED.intersection(names)):
        yield f"variables.{name}: the name is reserved"
    for name in names:
        if "__" in name:
            yield f"variables.{name}: two underscores are reserved for state columns"
    taken = {*names, *RESERVED, profile.outcome.name}
    for outcome in profile.outcomes:
        own = {outcome.name, f"{outcome.name}_time", f"{outcome.name}_event"}
        if shared := sorted(own & taken):
            yield f"outcomes.{outcome.name}: {shared[0]} is already a name of the profile, or reserved"
        if "__" in outcome.name:
            yield f"outcomes.{outcome.name}: two underscores are reserved for state columns"
        taken |= own


def _claims(profile: Profile) -> Iterator[str]:
    """One owner per system and code: the same code claimed twice would feed two columns with one finding.

    A first-event outcome may use the code of another profile's diagnosis (leukaemic transformation), never of
    this one's.
    """
    owners: dict[tuple[str, str], str] = {}
    yield from _codes("diagnosis", profile.diagnosis.codes, profile, owners)
    for variable in profile.variables:
        if isinstance(variable, Coded):
            yield from _codes(f"variables.{variable.name}", variable.codes, profile, owners)
    for outcome in profile.outcomes:
        if not any(outcome.codes.values()):
            yield f"outcomes.{outcome.name}.codes: must not be empty"
        yield from _codes(f"outcomes.{outcome.name}", outcome.codes, profile, owners)


def _codes(place: str, codes: Codes, profile: Profile, owners: dict[tuple[str, str], str]) -> Iterator[str]:
    for system, values in codes.items():
        if system not in profile.systems:
            yield f"{place}.codes.{system}: the system is not listed under systems"
            continue
        uri = profile.systems[system]
        well_formed = RULES.get(uri)
        for code in values:
            if well_formed is not None and not well_formed(code):
                yield f"{place}.codes.{system}: {code} has a wrong check digit or shape"
            owner = owners.setdefault((uri, code), place)
            if owner != place:
                yield f"{place}.codes.{system}: {code} is already claimed by {owner}"


def _bounds(place: str, variable: Scalar) -> Iterator[str]:
    scale = variable.scale
    yield from _scale(f"{place}.scale", scale)
    if not 0 <= variable.missing.max_rate <= 1:
        yield f"{place}.missing.max_rate: must lie in [0, 1]"
    if isinstance(variable, CodeVariable):
        return
    hard = variable.hard
    soft = variable.soft if isinstance(variable, LabVariable | DerivedVariable) else hard
    if not hard[0] < hard[1]:
        yield f"{place}.hard: must be ordered"
    if not hard[0] <= soft[0] < soft[1] <= hard[1]:
        yield f"{place}.soft: must be ordered and inside the hard range"
    if not hard[0] <= scale.clip[0] < scale.clip[1] <= hard[1]:
        yield f"{place}.scale.clip: must lie inside the hard range"


def _scale(place: str, scale: Scale) -> Iterator[str]:
    if scale.spread <= 0:
        yield f"{place}.spread: must be positive"
    if not scale.clip[0] < scale.clip[1]:
        yield f"{place}.clip: must be ordered"
    elif scale.transform == "log1p" and scale.clip[0] <= -1:
        yield f"{place}.clip: log1p needs values above -1"
    elif not _scaled(scale.clip[0], scale) <= scale.centre <= _scaled(scale.clip[1], scale):
        # What is missing is filled with it: it must lie inside the bounds that everybody counts on.
        yield f"{place}.centre: must lie inside the clip, after its transform"
    if not scale.source.strip():
        yield f"{place}.source: must name the cohort or definition"


def _scaled(value: Decimal, scale: Scale) -> Decimal:
    return (value + 1).ln() if scale.transform == "log1p" else value


def _units(place: str, variable: LabVariable) -> Iterator[str]:
    if variable.units.get(variable.unit) != 1:
        yield f"{place}.units: the canonical unit {variable.unit} must be listed with factor 1"
    for unit, factor in variable.units.items():
        if factor <= 0:
            yield f"{place}.units.{unit}: the factor must be positive"
        if unit.startswith(_MISREAD):
            yield f"{place}.units.{unit}: means something else in UCUM; list it under unit_aliases"
    before, after = variable.select.window_days
    if not before <= 0 <= after:
        yield f"{place}.select.window_days: must span day 0"


def _aliases(place: str, variable: LabVariable) -> Iterator[str]:
    for alias, unit in variable.unit_aliases.items():
        if unit not in variable.units:
            yield f"{place}.unit_aliases.{alias}: {unit} is not listed under units"
        if alias in variable.units:
            yield f"{place}.unit_aliases.{alias}: is itself a unit"
    for spelled in (*variable.units, *variable.unit_aliases):
        if not spelled or spelled != spelled.strip():
            yield f"{place}.units.{spelled}: blanks around a unit never match"


def _categories(place: str, variable: CodeVariable) -> Iterator[str]:
    numbers = variable.values.values()
    if len(set(numbers)) != len(variable.values) or len(variable.values) < 2:
        yield f"{place}.values: needs at least two categories with different numbers"
    if any(not -128 <= number <= 127 for number in numbers):
        yield f"{place}.values: numbers must lie in [-128, 127]"
    if any(not variable.scale.clip[0] <= number <= variable.scale.clip[1] for number in numbers):
        yield f"{place}.scale.clip: must hold the number of every category"
    if len(variable.values) > 2 and not variable.ordinal and variable.tier != "C":
        yield f"{place}.tier: more than two categories without an order are for no model; say ordinal, or tier C"
    if shared := sorted(variable.values.keys() & set(variable.unused)):
        yield f"{place}.unused: {shared[0]} is also listed under values"
    known = variable.values.keys() | set(variable.unused)
    for answer, category in variable.answers.items():
        if category not in known:
            yield f"{place}.answers.{answer}: {category} is not a category"
    if variable.patient_field is None and not any(variable.codes.values()):
        yield f"{place}.codes: must not be empty without patient_field"


def _cytogenetic(place: str, variable: CytogeneticVariable) -> Iterator[str]:
    if variable.feature not in FEATURES:
        yield f"{place}.feature: {variable.feature} is no feature of harmonize.karyotype"
    if variable.feature == "ipssr_class" and variable.hard != _IPSSR_CLASS:
        yield f"{place}.hard: ipssr_class is 0 to 4"
    if variable.feature not in _SCORES:
        yield from _finding(place, variable.hard)


def _variant(place: str, variable: VariantVariable) -> Iterator[str]:
    hgnc, symbols = variable.gene.hgnc, variable.gene.symbols
    if hgnc not in SYMBOL:
        yield f"{place}.gene.hgnc: {hgnc} is not listed in harmonize.genetics.genes"
    elif symbols[0] != SYMBOL[hgnc]:
        yield f"{place}.gene.symbols: the first must be {SYMBOL[hgnc]}, the approved one of HGNC:{hgnc}"
    for symbol in symbols:
        if HGNC.get(symbol, hgnc) != hgnc:
            yield f"{place}.gene.symbols: {symbol} is a symbol of HGNC:{HGNC[symbol]}"
    wanted = _GENE_OF.get(variable.feature, hgnc)
    if hgnc != wanted:
        yield f"{place}.feature: {variable.feature} is defined for HGNC:{wanted} alone"
    if not 0 <= variable.min_vaf < 1:
        yield f"{place}.min_vaf: must lie in [0, 1)"
    yield from _finding(place, variable.hard)


def _finding(place: str, hard: Range) -> Iterator[str]:
    if hard != _FOUND_OR_NOT:
        yield f"{place}.hard: must be [0, 1]"


def _vector(place: str, variable: FeatureVariable) -> Iterator[str]:
    if variable.name in OF_SCALARS:
        yield f"{place}.name: is that of a modality ({', '.join(OF_SCALARS)}); call the vector something else"
    if not variable.clip[0] < variable.clip[1]:
        yield f"{place}.clip: must be ordered"
    if max(map(abs, variable.clip)) > _LARGEST_NUMBER:
        yield f"{place}.clip: reaches beyond ±1e30, which bounds nothing; state bounds that the encoder keeps to"
    if variable.columns and len(variable.columns) != variable.length:
        yield f"{place}.columns: {len(variable.columns)} names for a length of {variable.length}"
    if len(set(variable.columns)) != len(variable.columns):
        yield f"{place}.columns: a name appears twice"
    if not variable.encoder.strip():
        yield f"{place}.encoder: must name the software and its version"


def _duration(place: str, hard: tuple[int, int]) -> Iterator[str]:
    if not 0 <= hard[0] < hard[1]:
        yield f"{place}.hard: must be ordered and start at 0 or later"


def _panels(profile: Profile) -> Iterator[str]:
    for name, panel in profile.panels.items():
        for hgnc, count in Counter(panel.genes).items():
            if count > 1:
                yield f"panels.{name}: HGNC:{hgnc} appears twice"
            if hgnc not in SYMBOL:
                yield f"panels.{name}: HGNC:{hgnc} is not listed in harmonize.genetics.genes"


def _same_question(profile: Profile) -> Iterator[str]:
    """Two columns with one meaning would count one finding twice."""
    asked: dict[object, str] = {}
    for variable in profile.variables:
        match variable:
            case CytogeneticVariable():
                question: object = variable.feature
            case VariantVariable():
                question = (variable.gene.hgnc, variable.feature, variable.min_vaf)
            case _:
                continue
        if (first := asked.setdefault(question, variable.name)) != variable.name:
            yield f"variables.{variable.name}: asks the same as {first}"
