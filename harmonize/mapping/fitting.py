"""What the types of a mapping cannot say: everything serves the profile, and the sources serve each other."""

__all__ = ["fit", "introduces"]

from collections.abc import Collection, Iterable, Iterator

from harmonize.dates import DateFormat
from harmonize.errors import MappingError
from harmonize.events import Fact
from harmonize.mapping.model import Bulk, Bundles, Column, Csv, Features, Ndjson, Server, Source, Variants
from harmonize.mapping.names import nearest
from harmonize.mapping.targets import AGE_UNITS, KEYS, Kind, kind, targets, vaf_factor
from harmonize.profile import Profile
from harmonize.units import factor
from harmonize.variables import CodeVariable, LabVariable

_EVERYWHERE = frozenset({"missing"})
_WIDE = frozenset({"column", "event", "instrument"})
# Keys that name another column of the same row; a long file has one fact a row.
_OTHER_COLUMNS = frozenset({"unit_column", "date_column", "tested_column", "tested", "checkboxes", "checked"})
_PAIR = frozenset({"event_column"})
_CHECKBOX = "___"  # REDCap's, between the field and the choice

Placed = tuple[str, Source]


def fit(sources: Collection[Placed], profile: Profile, name: str) -> None:
    """Refuse sources that do not fit the profile, or one another.

    Args:
        sources: (how messages call it, source).
        profile: the study's.
        name: of the mapping file.

    Raises:
        MappingError: with the first misfit: file, source, key and the way out.
    """
    for place, source in sources:
        for misfit in _misfits(source, profile):
            raise MappingError(f"{name}: {place}{misfit}")
    for place, misfit in _together(sources, profile):
        raise MappingError(f"{name}: {place}{misfit}")


def introduces(source: Csv, profile: Profile) -> bool:
    """Whether the rows of a file are the cohort: it has day 0 or, on relative dates, what followed.

    Other files only add facts to the patients of some source that does.
    """
    if Fact.INDEX_DATE in source.columns:
        return True
    followed = {str(Fact.DEATH_DATE), str(Fact.LAST_FOLLOW_UP), profile.outcome.name}
    return any(form.relative for target, form in _forms(source, profile) if target in followed)


def _misfits(source: Source, profile: Profile) -> Iterator[str]:
    match source:
        case Csv():
            yield from _layout(source)
            for target, column in source.columns.items():
                yield from (f"columns.{target}{misfit}" for misfit in _column(target, column, source, profile))
        case Variants():
            yield from _variants(source, profile)
        case Features():
            yield from _features(source, profile)
        case Bundles() | Ndjson() | Bulk() | Server():
            pass


def _layout(source: Csv) -> Iterator[str]:
    if (source.layout == "long") != (source.long is not None):
        yield 'layout: "long" needs [long] with code and value, and only "long" takes it'
    if source.layout == "long" and source.redcap is not None:
        yield "redcap: exports of REDCap are wide; remove layout"
    if source.redcap is None:
        for target, column in source.columns.items():
            if column.event or column.instrument:
                yield f"columns.{target}: event and instrument need [redcap]"


def _column(target: str, column: Column, source: Csv, profile: Profile) -> Iterator[str]:
    known = targets(profile)
    if target not in known:
        if target == Fact.VARIANT:
            yield ': variants have a row each; give them a [[source]] with format = "variants"'
        elif any(variable.name == target for variable in profile.features):
            yield ': feature vectors come in Parquet; give them a [[source]] with format = "features"'
        else:
            yield f": no such variable in {profile.profile}{nearest(target, known)}"
        return
    what = kind(target, profile)
    yield from _keys(column, what, source)
    yield from _place(column, what, source)
    yield from _unit(target, column, what, source, profile)
    yield from _codes(target, column, what, source, profile)
    missing = source.csv.missing if column.missing is None else column.missing
    for text in sorted({"", *missing} & {*column.truths, *source.csv.true, *source.csv.false}):
        yield f".codes: {text!r} already means missing" + (
            ", as every blank cell does" if not text else "; say it once"
        )
    if target == Fact.INDEX_DATE and _form(column, source).relative:
        yield ".date_format: day 0 cannot be relative to itself; leave index_date out where every date is relative"
    if column.tested_column is not None and not column.tested and not source.csv.true:
        yield ".tested: say which cell texts of tested_column mean that the test was done"


def _keys(column: Column, what: Kind, source: Csv) -> Iterator[str]:
    allowed = KEYS[what] | _EVERYWHERE
    if source.layout == "long":
        allowed = (allowed - _OTHER_COLUMNS - _PAIR) | {"code"}
    else:
        allowed |= _WIDE
    for key in sorted(column.model_fields_set - allowed):
        yield f".{key}: not for {what} in a {source.layout} file, which takes {', '.join(sorted(allowed))}"


def _place(column: Column, what: Kind, source: Csv) -> Iterator[str]:
    """Where the value stands is said once."""
    if source.layout == "long":
        if not column.code:
            yield ".code: is missing; say what the code column holds for it"
        if what is Kind.SURVIVAL:
            yield ": needs two columns; in a long file map death_date and last_follow_up"
        return
    places = [key for key in ("column", "checkboxes") if getattr(column, key)]
    if what is Kind.OUTCOME and column.event_column:
        return
    if len(places) != 1:
        yield ": give column" + (", or checkboxes" if what is Kind.CODE else "")
    if what is Kind.SURVIVAL and column.event_column is None:
        yield ".event_column: is missing; say where death is told from censoring"


def _unit(target: str, column: Column, what: Kind, source: Csv, profile: Profile) -> Iterator[str]:
    in_file = source.long is not None and source.long.unit is not None
    if what is Kind.LAB:
        variable = profile.variable(target)
        if not isinstance(variable, LabVariable):
            raise TypeError(target)
        if not in_file and (column.unit is None) == (column.unit_column is None):
            yield ": give either unit or unit_column" if source.layout == "wide" else ": give unit, or long.unit"
        if column.unit is not None and factor(column.unit, variable) is None:
            yield f".unit: {column.unit!r} is not a unit of {target}{nearest(column.unit, variable.units)}"
    elif what is Kind.AGE and column.unit is not None and column.unit not in AGE_UNITS:
        yield f".unit: {column.unit!r} is not one of: {', '.join(AGE_UNITS)}"
    elif what is Kind.VARIANT:
        if column.unit is not None and vaf_factor(column.unit) is None:
            yield f'.unit: {column.unit!r} is not one of: fraction, percent; leave it out for "yes or no"'
        if column.unit is None and getattr(profile.variable(target), "feature", "") == "vaf":
            yield '.unit: is missing; say whether the allele fractions are "fraction" or "percent"'


def _codes(target: str, column: Column, what: Kind, source: Csv, profile: Profile) -> Iterator[str]:
    categories = _categories(target, what, profile)
    given = set(column.codes.values()) | set(column.checkboxes.values())
    if what is Kind.COUNT:
        categories |= {text for text in given if text.isdecimal()}
    wrong = sorted(given - categories)
    if wrong:
        yield f".codes: {wrong[0]!r} is not one of: {', '.join(sorted(categories)) or '(takes no codes)'}"
    if what is Kind.PANEL and not column.codes:
        yield f".codes: say which cell text means which panel: {', '.join(sorted(profile.panels)) or '(none)'}"
    truths = column.truths
    has = {answer for answer in ("true", "false") if answer in truths.values()}
    has |= {answer for answer in ("true", "false") if not truths and getattr(source.csv, answer)}
    if what in {Kind.TRUTH, Kind.SURVIVAL} and has != {"true", "false"}:
        yield ".codes: say which cell texts mean true and which mean false"
    elif "true" not in has and (
        (what in {Kind.FINDING, Kind.VARIANT} and column.unit is None) or (what is Kind.OUTCOME and column.event_column)
    ):
        yield ".present: say which cell texts mean that it is there"
    box = what in {Kind.FINDING, Kind.VARIANT} and _CHECKBOX in (column.column or "")
    if box and "false" in has and column.tested_column is None:
        # REDCap exports every box of every record: 0 also where the form was never opened.
        yield (
            '.absent: a check-box is 0 also where nobody looked; name tested_column, or write missing = { "0" = '
            '"not-recorded" } instead'
        )


def _categories(target: str, what: Kind, profile: Profile) -> set[str]:
    if what is Kind.CODE:
        variable = profile.variable(target)
        return {*variable.values, *variable.unused} if isinstance(variable, CodeVariable) else set()
    if what is Kind.PANEL:
        return set(profile.panels)
    if what is Kind.COUNT:
        return {"0"}
    return {"true", "false"} if "present" in KEYS[what] else set()


def _variants(source: Variants, profile: Profile) -> Iterator[str]:
    if source.panel is not None and source.panel not in profile.panels:
        yield f"panel: no such panel in {profile.profile}{nearest(source.panel, profile.panels)}"
    if (source.vaf is None) != (source.vaf_unit is None):
        yield 'vaf_unit: goes with vaf; say whether it is "fraction" or "percent"'
    if source.everyone_tested and source.panel is None:
        yield "everyone_tested: needs panel; without a list of genes nobody knows what was tested"
    if source.tandem_duplications and source.panel is None:
        yield "tandem_duplications: needs panel"


def _features(source: Features, profile: Profile) -> Iterator[str]:
    known = {variable.name: variable for variable in profile.features}
    if source.variable not in known:
        yield f"variable: no such feature vector in {profile.profile}{nearest(source.variable, known)}"
        return
    variable = known[source.variable]
    if (source.column is None) != bool(variable.columns):
        expected = (
            "its numbers have a column each: leave it out" if variable.columns else "say which is the list column"
        )
        yield f"column: {source.variable}: {expected}"
    for key in ("encoder", "encoder_sha256", "settings_sha256"):
        stated, agreed = getattr(source, key), getattr(variable, key)
        if None not in {stated, agreed} and stated != agreed:
            yield f"{key}: encoder-mismatch: not what the profile has for {source.variable}; compute them again"


def _together(sources: Collection[Placed], profile: Profile) -> Iterator[tuple[str, str]]:
    (_, first), *others = sources
    for place, source in others:
        if source.patient.system != first.patient.system:
            yield place, "patient.system: differs from source 1; a patient known under two would be counted twice"
    tables = [(place, source) for place, source in sources if isinstance(source, Csv)]
    calendar = any(isinstance(source, Bundles | Ndjson | Bulk | Server) for _, source in sources)
    calendar = calendar or any(Fact.INDEX_DATE in source.columns for _, source in tables)
    if calendar:
        for place, source in tables:
            yield from ((place, misfit) for misfit in _needs_own_day0(source, profile))
    else:
        yield from _day0_everywhere(tables, profile)


def _needs_own_day0(source: Csv, profile: Profile) -> Iterator[str]:
    one_row = Fact.INDEX_DATE in source.columns and source.layout == "wide" and source.redcap is None
    for target, form in _forms(source, profile):
        if form.relative and not one_row:
            yield (
                f"columns.{target}.date_format: {form.text} needs index_date in the same row; map it there, or use "
                "calendar dates, or relative dates alone everywhere"
            )


def _day0_everywhere(tables: Iterable[tuple[str, Csv]], profile: Profile) -> Iterator[tuple[str, str]]:
    """Without any date of diagnosis, every date must be relative to it."""
    forms = [(place, target, form) for place, source in tables for target, form in _forms(source, profile)]
    if any(form.relative for _, _, form in forms):
        for place, target, form in forms:
            if not form.relative:
                yield (
                    place,
                    f"columns.{target}: a calendar date beside relative ones; map index_date, or make it relative",
                )
    if not any(introduces(source, profile) for _, source in tables):
        yield "", "columns.index_date is missing: map it, or give what followed in days-from-diagnosis (date_format)"


def _forms(source: Csv, profile: Profile) -> Iterator[tuple[str, DateFormat]]:
    """The form of every mapped date."""
    for target, column in source.columns.items():
        match kind(target, profile):
            case Kind.DATE | Kind.SURVIVAL:
                yield target, _form(column, source)
            case Kind.OUTCOME if column.column or source.long is not None:
                yield target, _form(column, source)
            case Kind.LAB if column.date_column:
                yield target, _form(column, source)
            case Kind.LAB if source.long is not None and source.long.date:
                yield target, DateFormat.parse(source.long.date_format or source.csv.date_format)
            case _:
                pass


def _form(column: Column, source: Csv) -> DateFormat:
    return DateFormat.parse(column.date_format or source.csv.date_format)
