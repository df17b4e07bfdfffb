"""A first mapping file for an unknown CSV: proposals by likeness of names and by cells, none of them in force."""

__all__ = ["propose"]

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from harmonize.dates import DateFormat
from harmonize.events import Fact
from harmonize.mapping.samples import TOKENS, Sample
from harmonize.mapping.targets import AGE_UNITS, Kind, kind, targets
from harmonize.profile import Profile
from harmonize.spreadsheets import is_serial_date
from harmonize.variables import CodeVariable, DerivedVariable, LabVariable

_LIKE: Final = 0.72  # below this likeness a proposal would be noise
_FEW: Final = 12  # distinct texts of a category at most
_OFTEN: Final = 3  # a text that fewer rows have may be a person's, not a category's
_LONGEST: Final = 30
_SHORTEST: Final = 3  # shorter words are in too many names
_FIRST: Final = 2
_PATIENT: Final = "patient"
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    _PATIENT: (
        "record id", "patient id", "patient", "pseudonym", "subject id", "case id", "patnr", "patienten nr", "pid",
        "bcr patient barcode", "participant id", "id",
    ),
    Fact.INDEX_DATE: ("date of diagnosis", "diagnosis date", "dx date", "dx", "erstdiagnose", "diagnosedatum"),
    Fact.BIRTH_DATE: ("date of birth", "birth date", "dob", "days to birth", "geburtsdatum"),
    Fact.DEATH_DATE: ("date of death", "death date", "dod", "days to death", "sterbedatum", "todesdatum"),
    Fact.LAST_FOLLOW_UP: (
        "last follow up", "date of last follow up", "last contact", "days to last follow up", "last seen",
        "letzter kontakt",
    ),
    Fact.DECEASED: ("deceased", "vital status", "dead", "status", "verstorben"),
    Fact.KARYOTYPE: ("karyotype", "iscn", "karyotyp", "cytogenetics"),
    Fact.GENES_TESTED: ("panel", "ngs panel", "genes tested"),
    "sex": ("sex", "gender", "geschlecht"),
    "age": ("age", "age at diagnosis", "alter", "alter bei diagnose"),
}  # fmt: skip
_FORMATS: Final = (
    "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%Y", "%Y%m%d", "%Y-%m-%d %H:%M:%S", "%Y-%m", "%Y",
)  # fmt: skip


def propose(
    header: Sequence[str],
    profile: Profile,
    samples: Mapping[str, Sequence[str]] | None = None,
    file: str = "data.csv",
) -> str:
    """Write the skeleton of a mapping file for a data manager to complete.

    Nothing is decided: every proposed column is commented out, and what a file cannot do without is marked
    "check". Category texts that at least three of the sampled rows share are shown, other cell texts never.

    Args:
        header: column names.
        profile: what the study wants.
        samples: column name -> cell texts of some rows; they rule out what a column cannot be, and help with date
            formats, the unit of ages and category texts.
        file: name of the CSV file.

    Returns:
        TOML with comments. It loads only after somebody has put the proposals in force.
    """
    names = [name.strip() for name in header]
    seen = {name: Sample(cells) for name, cells in (samples or {}).items()}
    candidates = {_PATIENT: _WORDS[_PATIENT]} | {each: _candidates(each, profile) for each in _order(profile)}
    kinds = {each: kind(each, profile) for each in _order(profile)}
    chosen = _assigned(
        candidates,
        names,
        lambda target, name: target in kinds and name in seen and seen[name].rules_out(kinds[target]),
    )
    patient = chosen.get(_PATIENT, names[0] if names else "")
    lines = [
        f"# A skeleton for {_text(file)}, from its header and first rows. Lines with # are proposals: check each",
        "# against the data dictionary, complete what ... stands for, and remove the # at its start.",
        'format = "csv"',
        f"profile = {_text(profile.profile)}",
        f"files = [{_text(file)}]  # check",
        "",
        "[patient]",
        'system = "urn:example:your-hospital"  # check: the system of the identifiers; never change it later',
        f"column = {_text(patient)}  # check",
        "",
        "[csv]",
        "# encoding, delimiter, decimal, thousands, date_format and missing: declare what differs from",
        "# UTF-8, comma, point, none, %Y-%m-%d and only blank cells; -99, 999, NA or . may mean missing.",
        *_dialect(samples or {}),
        "",
        "[columns]",
    ]
    for target in _order(profile):
        if target in chosen:
            lines.append(_line(target, chosen[target], profile, seen.get(chosen[target], Sample(()))))
        else:
            lines.append(f"# {target}: no column looks like {_title(target, profile)}")
    taken = {patient, *chosen.values()}
    left = [name for name in names if name and name not in taken]
    lines += ["", "# Columns without a proposal:", *(f"#   {_text(name)}" for name in left)]
    return "\n".join(lines) + "\n"


def _order(profile: Profile) -> list[str]:
    known = targets(profile)
    facts = [str(fact) for fact in Fact if fact in known]
    outcomes = [profile.outcome.name, *(outcome.name for outcome in profile.outcomes)]
    return [*facts, *(variable.name for variable in profile.scalars), *outcomes]


def _candidates(target: str, profile: Profile) -> tuple[str, ...]:
    return (*_WORDS.get(target, ()), target, _title(target, profile))


def _title(target: str, profile: Profile) -> str:
    for each in (*profile.variables, profile.outcome, *profile.outcomes):
        if each.name == target:
            return each.title
    return target.replace("_", " ")


def _assigned(
    candidates: Mapping[str, Sequence[str]], names: Sequence[str], ruled_out: Callable[[str, str], bool]
) -> dict[str, str]:
    """Target -> column: the likeliest pair first, every column once; the order of targets and columns decides ties."""
    scored = sorted(
        (-max(_likeness(words, name) for words in wanted), rank, at)
        for rank, wanted in enumerate(candidates.values())
        for at, name in enumerate(names)
        if name
    )
    order, chosen, taken = list(candidates), dict[str, str](), set[int]()
    for score, rank, at in scored:
        free = order[rank] not in chosen and at not in taken
        if -score >= _LIKE and free and not ruled_out(order[rank], names[at]):
            chosen[order[rank]] = names[at]
            taken.add(at)
    return chosen


def _likeness(wanted: str, name: str) -> float:
    """1 for the same words, in any order; less the less they share."""
    left, right = _words(wanted), _words(name)
    if not left or not right:
        return 0.0
    shared = len(set(left) & set(right)) / len(set(left) | set(right))
    if left[0] in right and set(right) <= set(left):  # "platelets" for "platelets in blood"
        shared = max(shared, _LIKE)
    if len(left) == 1 and len(left[0]) >= _SHORTEST and left[0] in right[:_FIRST]:  # "iss" in "iss_stage"
        shared = max(shared, _LIKE)
    return max(shared, difflib.SequenceMatcher(None, " ".join(left), " ".join(right), autojunk=False).ratio() - 0.05)


def _words(text: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return re.findall(r"[^\W_]+", spaced.lower())


def _line(target: str, column: str, profile: Profile, sample: Sample) -> str:
    parts = [f"column = {_text(column)}", *_details(target, profile, sample)]
    return f"# {target} = {{ {', '.join(parts)} }}  # check: {_title(target, profile)}"


def _details(target: str, profile: Profile, sample: Sample) -> Iterator[str]:
    match kind(target, profile):
        case Kind.LAB:
            variable = profile.variable(target)
            if isinstance(variable, LabVariable):
                yield f"unit = {_text('... one of: ' + ', '.join(variable.units))}"
        case Kind.AGE:
            yield f"unit = {_text(_age_unit(target, profile, sample))}"
        case Kind.CODE:
            variable = profile.variable(target)
            if isinstance(variable, CodeVariable):
                yield _codes(sample, "... one of: " + ", ".join([*variable.values, *variable.unused]))
        case Kind.TRUTH | Kind.FINDING | Kind.VARIANT:
            yield _codes(sample, "... true or false")
        case Kind.PANEL:
            yield _codes(sample, "... one of: " + ", ".join(profile.panels))
        case Kind.DATE | Kind.OUTCOME:
            yield f"date_format = {_text(_form(sample))}"
        case Kind.SURVIVAL:
            yield 'event_column = "..."'
            yield 'date_format = "... days-from-diagnosis, months-from-diagnosis or years-from-diagnosis"'
            yield _codes(Sample(()), "... true (died) or false")
        case _:
            pass


def _age_unit(target: str, profile: Profile, sample: Sample) -> str:
    variable = profile.variable(target)
    fitting = sample.age_units(variable.soft) if isinstance(variable, DerivedVariable) and sample.texts else ["a"]
    return fitting[0] if len(fitting) == 1 else "... one of: " + ", ".join(fitting or AGE_UNITS)


def _codes(sample: Sample, answer: str) -> str:
    counts = Counter(sample.texts)
    shown = sorted(text for text, count in counts.items() if count >= _OFTEN and len(text) <= _LONGEST)
    if not 0 < len(shown) <= _FEW:
        shown = ["..."]
    return "codes = { " + ", ".join(f"{_text(text)} = {_text(answer)}" for text in shown) + " }"


def _form(sample: Sample) -> str:
    texts = sample.texts
    fitting = [form for form in _FORMATS if texts and all(DateFormat.parse(form).read(text) for text in texts)]
    if not fitting and texts and all(re.fullmatch(r"-?[0-9]+(?:[.,][0-9]+)?", text) for text in texts):
        fitting = ["excel", "days-from-diagnosis"] if all(map(is_serial_date, texts)) else ["days-from-diagnosis"]
    return "... " + " or ".join(fitting) if fitting else "..."


def _dialect(samples: Mapping[str, Sequence[str]]) -> Iterator[str]:
    texts = {text.strip() for column in samples.values() for text in column}
    if any(re.fullmatch(r"-?[0-9]+,[0-9]{1,2}", text) for text in texts):
        yield '# decimal = ","  # check: some cells have a decimal comma'
    if tokens := sorted(text for text in texts if text.lower() in TOKENS):
        reasons = ", ".join(f'{_text(token)} = "... not-recorded, unknown or not-tested"' for token in tokens)
        yield f"# missing = {{ {reasons} }}  # check"


def _text(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
