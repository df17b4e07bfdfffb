"""Where one cell of the table came from, for a person at this site: place, state and the rules that chose it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harmonize.events import Fact, State
from harmonize.mapping import nearest
from harmonize.profile import Profile
from harmonize.pseudonyms import pseudonym
from harmonize.table import Table
from harmonize.variables import (
    CodeVariable,
    CytogeneticVariable,
    DerivedVariable,
    FeatureVariable,
    LabVariable,
    Range,
    Variable,
    VariantVariable,
)
from nodes import files, provenance
from nodes.config import SiteConfig
from nodes.errors import ConfigError, DataProblem
from nodes.places import Places, load_secrets
from nodes.provenance import Citation, Provenance

__all__ = ["Explanation", "explain"]

_PICK = {
    "nearest": "the nearest to diagnosis, before rather than after it",
    "first": "the first",
    "last": "the last",
    "max": "the highest",
    "min": "the lowest",
}
_MEANS: Final[Mapping[State, str]] = {
    State.UNKNOWN: "patient and variable are known, the value is not: the source says so, or lacks a date for it; "
    "if it should be there, see: haemfed harmonize report",
    State.NOT_TESTED: "the source says that the test was not done",
    State.TESTED_NEGATIVE: "a test could have found it and did not",
    State.INVALID: "the source has something that cannot be used; see: haemfed harmonize report",
    State.BELOW_LIMIT: "below the limit, which is used",
    State.ABOVE_LIMIT: "above the limit, which is used",
    State.OTHER: "a category that models do not use",
}
_FACTS = {
    str(Fact.INDEX_DATE): ("Date of diagnosis", "Day 0: the earliest dated diagnosis of the profile; no date is kept."),
    str(Fact.KARYOTYPE): ("Karyotype", "Read for the cytogenetic variables; the text is not kept."),
}


@dataclass(frozen=True)
class Explanation:
    """One cell.

    Args:
        pid: pseudonym of the patient.
        variable, title: what the cell holds.
        state: what is known about it.
        place: where the source has it; None if it says nothing.
        rules: how the profile chooses and checks, one sentence each.
        value: as in the table, with its unit; "" if there is none. Shown only to who asks for it.
    """

    pid: str
    variable: str
    title: str
    state: State
    place: Citation | None
    rules: tuple[str, ...]
    value: str = field(repr=False)

    @property
    def meaning(self) -> str:
        """The state in other words; "" where the word says it, or the place does."""
        return _MEANS.get(self.state, "")


def explain(config: SiteConfig, profile: Profile, who: str, variable: str) -> Explanation:
    """Explain one cell of this site's table.

    Args:
        config: the site.
        profile: of the table.
        who: a pseudonym, or the hospital's own identifier; the latter is hashed here with the site's key.
        variable: of the profile, an outcome, "index_date" or "karyotype".

    Raises:
        ConfigError: no such variable.
        DataProblem: no such patient, or the places are those of another table.
        StorageProblem: there is no table, or it cannot be read.
    """
    outcomes = {profile.outcome.name, *(outcome.name for outcome in profile.outcomes)}
    if variable not in (known := {*profile.names, *outcomes, *_FACTS}):
        raise ConfigError(
            f"the variable is unknown (the patient was not looked for): {profile.profile} has none of this name"
            f"{nearest(variable, known)}"
        )
    places = Places(config.paths)
    table = Table.from_parquet(files.read_private(places.table(profile.profile)), profile)
    cited = provenance.from_bytes(files.read_private(places.provenance(profile.profile)), profile)
    if cited.table != table.digest:
        raise DataProblem("the provenance file belongs to another table; run: haemfed harmonize run MAPPING")
    pid = _find(who, table, cited, load_secrets(places).pseudonym)
    row = table.pids.index(pid)
    place = cited.find(pid, variable)
    if variable in _FACTS:
        title, rule = _FACTS[variable]
        state = State.NOT_RECORDED if place is None else State(place.state)
        return Explanation(pid, variable, title, state, place, (rule,), "")
    if variable not in profile.names:
        outcome = "" if variable == profile.outcome.name else f"{variable}_"
        return Explanation(pid, variable, *_outcome(profile, table, variable, outcome, row, place))
    found = profile.variable(variable)
    state = State(int(table.states(variable)[row]))
    value = "" if isinstance(found, FeatureVariable) else _value(found, table.arrow.column(variable)[row].as_py())
    return Explanation(pid, variable, found.title, state, place, rules(found), value)


def _find(who: str, table: Table, cited: Provenance, key: bytes) -> str:
    known = set(table.pids)
    for pid in (who.strip().upper(), *(pseudonym(key, system, who.strip()) for system in cited.systems)):
        if pid in known:
            return pid
    # The identifier is not repeated: it is a patient's.
    raise DataProblem(
        "the patient is unknown (the variable is not): not in the source, left out (see: haemfed harmonize report), or "
        f"known there by another identifier; give the pseudonym, or the identifier of {' or '.join(cited.systems)}"
    )


def _outcome(
    profile: Profile, table: Table, variable: str, prefix: str, row: int, place: Citation | None
) -> tuple[str, State, Citation | None, tuple[str, ...], str]:
    time = table.arrow.column(f"{prefix}time")[row].as_py()
    event = table.arrow.column(f"{prefix}event")[row].as_py()
    titles = {outcome.name: outcome.title for outcome in profile.outcomes}
    text = "Days from diagnosis to the event, or to the last day on which the patient was known to be without it."
    if time is None:
        return titles.get(variable, "Overall survival"), State.UNKNOWN, place, (text,), ""
    value = f"{time} days, {'event' if event else 'no event until then'}"
    return titles.get(variable, "Overall survival"), State.VALUE, place, (text,), value


def _value(variable: Variable, value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(variable, CodeVariable):
        return next((name for name, number in variable.values.items() if number == value), "")
    unit = getattr(variable, "unit", "")
    return f"{value:g} {unit}".strip()


def rules(variable: Variable) -> tuple[str, ...]:
    """How the profile chooses, converts and checks a variable: one sentence each."""
    match variable:
        case LabVariable():
            before, after = variable.select.window_days
            return (
                f"Measured from day {before} to day {after} of diagnosis; of several, {_PICK[variable.select.pick]}.",
                f"In {', '.join(variable.units)}: converted to {variable.unit}, {variable.decimals} decimals.",
                _ranges(variable.hard, variable.soft),
            )
        case DerivedVariable():
            return (
                "Completed years from the date of birth to diagnosis, or the stated age.",
                f"{variable.top_code:f} and more are stored as {variable.top_code:f}.",
                _ranges(variable.hard, variable.soft),
            )
        case CodeVariable():
            return (
                f"One of {', '.join([*variable.values, *variable.unused])}; records that disagree are not used.",
                f"Models see {', '.join(variable.values)}.",
            )
        case CytogeneticVariable():
            return (
                "Read from the karyotype (ISCN), or from an observation that states it.",
                "A karyotype that is not understood is not used, never guessed.",
                "Not found counts as negative only with a karyotype or a test that could have shown it.",
            )
        case VariantVariable():
            return (
                f"Variants of {variable.gene.symbols[0]} ({variable.feature}).",
                f"Where an allele fraction is stated, it must be {variable.min_vaf:f} at least.",
                "Not mentioned is not negative: 0 needs a negative result, or a panel with this gene.",
            )
        case FeatureVariable():
            return (
                f"Mean of all vectors of the patient; {variable.length} numbers from {variable.encoder}.",
                f"Clipped to {variable.clip[0]:f} … {variable.clip[1]:f}.",
            )


def _ranges(hard: Range, soft: Range) -> str:
    return f"Not used outside {hard[0]:f} … {hard[1]:f}; used with a warning outside {soft[0]:f} … {soft[1]:f}."
