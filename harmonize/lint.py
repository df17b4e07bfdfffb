"""The linter: what a profile must satisfy beyond its types."""

__all__ = ["check", "findings"]

from collections.abc import Callable, Iterator

from harmonize.codes import loinc_is_well_formed, snomed_is_well_formed
from harmonize.errors import ProfileError
from harmonize.profile import Codes, CodeVariable, DerivedVariable, LabVariable, Profile, Variable

_CHECK_DIGITS: dict[str, Callable[[str], bool]] = {
    "http://loinc.org": loinc_is_well_formed,
    "http://snomed.info/sct": snomed_is_well_formed,
}
# Column names that the table and the mapping file use themselves.
RESERVED = frozenset(
    {
        "pid",
        "time",
        "event",
        "birth_date",
        "index_date",
        "death_date",
        "deceased",
        "last_follow_up",
        "patient",
    }
)


def check(profile: Profile) -> None:
    """Refuse a profile with findings.

    Raises:
        ProfileError: with every finding on one line.
    """
    if found := list(findings(profile)):
        raise ProfileError(f"profile {profile.profile}: " + "; ".join(found))


def findings(profile: Profile) -> Iterator[str]:
    """Yield each finding as 'field: what is wrong'."""
    yield from _names(profile)
    owners: dict[tuple[str, str], str] = {}
    yield from _codes("diagnosis", profile.diagnosis.codes, profile, owners)
    for variable in profile.variables:
        place = f"variables.{variable.name}"
        if not isinstance(variable, DerivedVariable):
            yield from _codes(place, variable.codes, profile, owners)
        yield from _bounds(place, variable)
        match variable:
            case LabVariable():
                yield from _units(place, variable)
            case CodeVariable():
                yield from _categories(place, variable)
            case DerivedVariable():
                if not variable.hard[0] < variable.top_code <= variable.hard[1]:
                    yield f"{place}.top_code: must lie inside the hard range"
    low, high = profile.outcome.hard
    if not 0 <= low < high:
        yield "outcome.hard: must be ordered and start at 0 or later"


def _names(profile: Profile) -> Iterator[str]:
    names = [variable.name for variable in profile.variables]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"variables.{name}: defined twice"
    for name in sorted(RESERVED.intersection(names)):
        yield f"variables.{name}: the name is reserved"
    for name in names:
        if "__" in name:
            yield f"variables.{name}: two underscores are reserved for state columns"


def _codes(place: str, codes: Codes, profile: Profile, owners: dict[tuple[str, str], str]) -> Iterator[str]:
    for system, values in codes.items():
        if system not in profile.systems:
            yield f"{place}.codes.{system}: the system is not listed under systems"
            continue
        uri = profile.systems[system]
        well_formed = _CHECK_DIGITS.get(uri)
        for code in values:
            if well_formed is not None and not well_formed(code):
                yield f"{place}.codes.{system}: {code} has a wrong check digit or shape"
            # One key per system and code: the same code claimed twice would feed two columns with one
            # measurement.
            owner = owners.setdefault((uri, code), place)
            if owner != place:
                yield f"{place}.codes.{system}: {code} is already claimed by {owner}"


def _bounds(place: str, variable: Variable) -> Iterator[str]:
    scale = variable.scale
    if scale.spread <= 0:
        yield f"{place}.scale.spread: must be positive"
    if not scale.clip[0] < scale.clip[1]:
        yield f"{place}.scale.clip: must be ordered"
    if scale.transform == "log1p" and scale.clip[0] <= -1:
        yield f"{place}.scale.clip: log1p needs values above -1"
    if not 0 <= variable.missing.max_rate <= 1:
        yield f"{place}.missing.max_rate: must lie in [0, 1]"
    if isinstance(variable, CodeVariable):
        return
    hard, soft = variable.hard, variable.soft
    if not hard[0] < hard[1]:
        yield f"{place}.hard: must be ordered"
    if not hard[0] <= soft[0] < soft[1] <= hard[1]:
        yield f"{place}.soft: must be ordered and inside the hard range"
    if not hard[0] <= scale.clip[0] < scale.clip[1] <= hard[1]:
        yield f"{place}.scale.clip: must lie inside the hard range"


def _units(place: str, variable: LabVariable) -> Iterator[str]:
    if variable.units.get(variable.unit) != 1:
        yield f"{place}.units: the canonical unit {variable.unit} must be listed with factor 1"
    for unit, factor in variable.units.items():
        if factor <= 0:
            yield f"{place}.units.{unit}: the factor must be positive"
    for alias, unit in variable.unit_aliases.items():
        if unit not in variable.units:
            yield f"{place}.unit_aliases.{alias}: {unit} is not listed under units"
        if alias in variable.units:
            yield f"{place}.unit_aliases.{alias}: is itself a unit"
    before, after = variable.select.window_days
    if not before <= 0 <= after:
        yield f"{place}.select.window_days: must span day 0"


def _categories(place: str, variable: CodeVariable) -> Iterator[str]:
    if len(set(variable.values.values())) != len(variable.values) or len(variable.values) < 2:
        yield f"{place}.values: needs at least two categories with different numbers"
    if any(not -128 <= number <= 127 for number in variable.values.values()):
        yield f"{place}.values: numbers must lie in [-128, 127]"
    if shared := sorted(variable.values.keys() & set(variable.unused)):
        yield f"{place}.unused: {shared[0]} is also listed under values"
    known = variable.values.keys() | set(variable.unused)
    for answer, category in variable.answers.items():
        if category not in known:
            yield f"{place}.answers.{answer}: {category} is not a category"
