"""A profile with every kind of variable, and patients as facts, without any source."""

import datetime as dt
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from harmonize import profile as profiles
from harmonize.cohort.assemble import Assembled, assemble
from harmonize.events import Event, Fact, Item, PatientRecord, Pointer, State
from harmonize.profile import Profile
from harmonize.table import Table

KEY = bytes(range(32))
DAY0 = dt.date(2010, 6, 14)
_SCALE = {"centre": 0, "spread": 1, "clip": [0, 1], "source": "test"}
_MISSING = {"policy": "mask", "fill": "centre", "max_rate": 1}
_COMMON: dict[str, Any] = {"title": "t", "tier": "B", "scale": _SCALE, "missing": _MISSING}


def lab(name: str, pick: str, window: tuple[int, int] = (-30, 30)) -> dict[str, Any]:
    return _COMMON | {
        "name": name,
        "kind": "lab",
        "unit": "g/L",
        "units": {"g/L": 1, "g/dL": 10, "mg/L": "0.001"},
        "decimals": 2,
        "hard": [0, 1000],
        "soft": [1, 500],
        "codes": {},
        "select": {"window_days": window, "pick": pick},
    }


def finding(feature: str) -> dict[str, Any]:
    hard = {"abnormalities": [0, 99], "ipssr_class": [0, 4]}.get(feature, [0, 1])
    scale = _SCALE | {"clip": hard}
    return _COMMON | {
        "name": f"cyto_{feature}",
        "kind": "cytogenetic",
        "feature": feature,
        "hard": hard,
        "scale": scale,
    }


def mutation(name: str, hgnc: int, feature: str) -> dict[str, Any]:
    return _COMMON | {"name": name, "kind": "variant", "gene": {"hgnc": hgnc, "symbols": ["X"]}, "feature": feature}


TP53, FLT3, SF3B1 = 11998, 3765, 10768
VECTOR = {
    "kind": "features",
    "name": "slide",
    "title": "t",
    "modality": "histopathology",
    "length": 3,
    "encoder": "e",
    "clip": ["-0.1", 2],
}
OUTCOMES = [
    {
        "name": name,
        "title": "t",
        "kind": "first-event",
        "resource": resource,
        "codes": {"snomed": [code]},
        "hard": [0, 9000],
    }
    for name, resource, code in (("relapse", "condition", "109989006"), ("graft", "procedure", "234336002"))
]


def make_profile(*variables: dict[str, Any], name: str = "aml_core", outcomes: Any = OUTCOMES) -> Profile:
    """The smallest shipped profile and further variables."""
    base = profiles.load("aml_core").model_dump(mode="json")
    base |= {"profile": name, "variables": [*base["variables"], *variables], "outcomes": outcomes}
    return Profile.model_validate(base)


PROFILE = make_profile(
    *(lab(pick, pick) for pick in ("nearest", "first", "last", "max", "min")),
    *(finding(name) for name in ("del5q", "del17p", "normal", "t4_14", "abnormalities", "ipssr_class")),
    mutation("tp53", TP53, "any"),
    mutation("tp53_vaf", TP53, "vaf"),
    mutation("tp53_multi", TP53, "multi-hit"),
    mutation("sf3b1", SF3B1, "any"),
    VECTOR,
)


def patient(identifier: str = "p", *, seen: int = 1000, line: int = 1) -> Iterator[Item]:
    """Somebody who is in the table: a record, a diagnosis, and alive on day `seen`."""
    where = Pointer("f", line)
    yield PatientRecord((identifier,), "urn:test", identifier, "same", "", where)
    yield Event(identifier, Fact.INDEX_DATE, DAY0, where)
    yield Event(identifier, Fact.LAST_FOLLOW_UP, day(seen), where)


def day(number: int) -> dt.date:
    return DAY0 + dt.timedelta(days=number)


def fact(
    variable: str,
    value: Any = None,
    at: int | None = 0,
    *,
    line: int = 2,
    unit: str | None = None,
    state: State = State.VALUE,
    who: str = "p",
) -> Event:
    if isinstance(value, str) and variable not in {Fact.KARYOTYPE, "sex"}:
        value = Decimal(value)
    if isinstance(value, Decimal) and unit is None and not variable.startswith(("cyto_", "tp53", "sf3b1")):
        unit = "g/L"
    return Event(who, variable, value, Pointer("f", line), unit, None if at is None else day(at), state)


def made(*facts: Item, profile: Profile = PROFILE) -> tuple[Table, Assembled]:
    """The table of one ordinary patient with these facts."""
    return built([*patient(), *facts], profile)


def built(items: Iterable[Item], profile: Profile = PROFILE) -> tuple[Table, Assembled]:
    assembled = assemble(items, profile, KEY)
    return Table.from_columns(assembled.columns, profile), assembled


def cell(table: Table, name: str) -> tuple[Any, State]:
    """Value and state of the only patient."""
    (value,), (state,) = table.arrow[name].to_pylist(), table.states(name).tolist()
    return value, State(state)


def codes(assembled: Assembled) -> set[tuple[str, str]]:
    """Code and variable of every finding, but that nobody mentions an outcome."""
    found = {(finding.code, finding.variable) for finding in assembled.quality.findings}
    return {pair for pair in found if pair[0] != "outcome-not-in-source"}
