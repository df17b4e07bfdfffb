"""A table that was exported and read again is the same table."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize import export, mapping, sources
from harmonize import profile as profiles
from harmonize.cohort import checks
from harmonize.events import State
from harmonize.profile import CodeVariable, DerivedVariable, LabVariable, Profile, Scalar, VariantVariable
from harmonize.table import Table, build
from tests.sweeps import examples, thinned

SYSTEM = "urn:haemfed:synthetic:test"
KEY = bytes(range(32))
PROFILES = ["mds", "aml_core", "aml", "cmml", "mm"]


def tables(name: str, seed: int, patients: int) -> Table:
    """A table of invented patients: every state that a variable can have."""
    profile = profiles.load(name)
    rng = np.random.default_rng(seed)
    rows = [_row(profile, number, rng) for number in range(patients)]
    return Table.from_columns({column: [row[column] for row in rows] for column in _columns(profile)}, profile)


def _columns(profile: Profile) -> list[str]:
    names = ["pid", "time", "event"]
    for variable in profile.variables:
        names += [variable.name, f"{variable.name}__m"]
    for outcome in profile.outcomes:
        names += [f"{outcome.name}_time", f"{outcome.name}_event"]
    return names


def _row(profile: Profile, number: int, rng: np.random.Generator) -> dict[str, Any]:
    time = int(rng.integers(0, 6000))
    row: dict[str, Any] = {"pid": f"P{number:025d}", "time": time, "event": bool(rng.random() < 0.5)}
    for variable in profile.scalars:
        row[variable.name], row[f"{variable.name}__m"] = _cell(variable, rng)
    for feature in profile.features:
        row[feature.name], row[f"{feature.name}__m"] = None, int(State.NOT_RECORDED)
    for outcome in profile.outcomes:
        happened = bool(rng.random() < 0.4)
        row[f"{outcome.name}_event"] = happened
        row[f"{outcome.name}_time"] = int(rng.integers(0, time + 1)) if happened else time
    return row


def _cell(variable: Scalar, rng: np.random.Generator) -> tuple[float | int | None, int]:
    missing = [State.NOT_RECORDED]
    if not isinstance(variable, DerivedVariable) and getattr(variable, "patient_field", None) is None:
        missing += [State.NOT_TESTED, State.UNKNOWN, State.INVALID]
    if rng.random() < 0.4:
        return None, int(missing[int(rng.integers(len(missing)))])
    match variable:
        case CodeVariable():
            return int(rng.choice(list(variable.values.values()))), int(State.VALUE)
        case DerivedVariable():
            return float(rng.integers(18, int(variable.top_code) + 1)), int(State.VALUE)
        case LabVariable():
            low, high = variable.hard
            share = Decimal(int(rng.integers(0, 1001))) / 1000
            value = round(low + (high - low) * share, min(variable.decimals, 3))
            return float(value), int(rng.choice([State.VALUE, State.VALUE, State.BELOW_LIMIT, State.ABOVE_LIMIT]))
        case VariantVariable() if variable.feature == "vaf":
            return float(rng.integers(2, 101)) / 100, int(State.VALUE)
    value = int(rng.integers(int(variable.hard[0]), min(int(variable.hard[1]), 12) + 1))
    return float(value), int(State.VALUE if value else State.TESTED_NEGATIVE)


def same(one: Table, other: Table) -> None:
    """Equal but for pseudonyms, of which the second table's are made of the first's."""
    assert len(one) == len(other)
    drop = ["pid"]
    columns = [name for name in one.arrow.column_names if name not in drop]
    left, right = one.arrow.select(columns).to_pylist(), other.arrow.select(columns).to_pylist()

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["time"], row["event"], str(row["age"]), str(row["sex"])

    for a, b in zip(sorted(left, key=order), sorted(right, key=order), strict=True):
        apart = {name.removesuffix("__m") for name in a if a[name] != b[name]}
        # Invented values contradict each other (a ratio and its parts): reading says so, and that is all it may do.
        assert all(b[f"{name}__m"] == State.INVALID for name in apart), apart
        genes = {rule.drops for rule in checks.rules(one.profile) if rule.code == "gene-disagrees"}
        assert apart <= {"flc_ratio", *genes}, apart


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
@settings(max_examples=examples(40))
@given(seed=st.integers(0, 2**32), patients=st.integers(0, 6))
def test_bundles_are_read_back_as_the_same_table(name: str, seed: int, patients: int, tmp_path_factory: Any) -> None:
    table = tables(name, seed, patients)
    folder = tmp_path_factory.mktemp("bundles")
    for number, bundle in enumerate(export.bundles(table, SYSTEM)):
        (folder / f"{number}.json").write_text(json.dumps(bundle))
    if not patients:
        return
    text = f'format = "bundle"\nprofile = "{name}"\nfiles = ["*.json"]\n[patient]\nsystem = "{SYSTEM}"\n'
    again, quality = build(sources.read(folder, mapping.loads(text, table.profile), table.profile), table.profile, KEY)
    assert not quality.flow.left_out
    same(table, again)


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
@settings(max_examples=examples(40))
@given(seed=st.integers(0, 2**32), patients=st.integers(1, 6))
def test_csv_is_read_back_as_the_same_table(name: str, seed: int, patients: int, tmp_path_factory: Any) -> None:
    table = tables(name, seed, patients)
    folder = tmp_path_factory.mktemp("csv")
    exported = export.delimited(table, SYSTEM)
    (folder / "patients.csv").write_text(exported.csv)
    read = sources.read(folder, mapping.loads(exported.mapping, table.profile), table.profile)
    again, _ = build(read, table.profile, KEY)
    same(table, again)


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
def test_bundles_are_valid_fhir(name: str) -> None:
    bundle_of = pytest.importorskip("fhir.resources.R4B.bundle").Bundle
    for bundle in export.bundles(tables(name, 7, 5), SYSTEM):
        bundle_of.model_validate_json(json.dumps(bundle))


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
def test_every_reference_leads_to_an_entry(name: str) -> None:
    # A relative reference resolves inside a Bundle only from a fullUrl that is an address of a server (R4, Bundle).
    for bundle in export.bundles(tables(name, 7, 5), SYSTEM):
        addresses = [entry["fullUrl"] for entry in bundle["entry"]]
        assert len(set(addresses)) == len(addresses)
        subjects = [entry["resource"]["subject"]["reference"] for entry in bundle["entry"][1:]]
        assert set(subjects) == {addresses[0]}


NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
# mCODE 4.0.0, value sets of the stages: https://hl7.org/fhir/us/mcode/
STAGES = {
    "iss": ("C139007", {"I": "C70658", "II": "C70659", "III": "C70660"}),
    "riss": ("C141392", {"I": "C141394", "II": "C141395", "III": "C141396"}),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_exported_with_the_codes_of_mcode(name: str) -> None:
    observations = [
        entry["resource"]
        for bundle in export.bundles(tables("mm", 11, 40), SYSTEM)
        for entry in bundle["entry"]
        if entry["resource"]["id"].endswith(f"-{name}") and "valueCodeableConcept" in entry["resource"]
    ]
    asked, answers = STAGES[name]
    found = {each["valueCodeableConcept"]["text"]: each["valueCodeableConcept"]["coding"] for each in observations}

    assert found == {stage: [{"system": NCIT, "code": code}] for stage, code in answers.items()}
    assert all({"system": NCIT, "code": asked} in each["code"]["coding"] for each in observations)


def test_an_answer_of_another_system_than_the_questions_is_not_exported() -> None:
    (yes, *_) = [
        entry["resource"]["valueCodeableConcept"]
        for bundle in export.bundles(tables("mds", 3, 20), SYSTEM)
        for entry in bundle["entry"]
        if entry["resource"]["id"].endswith("-secondary") and "valueCodeableConcept" in entry["resource"]
    ]
    assert yes.keys() == {"text"}


def test_the_same_table_gives_the_same_octets() -> None:
    one, other = (json.dumps(list(export.bundles(tables("mds", 3, 4), SYSTEM))) for _ in range(2))
    assert one == other


def test_csv_has_one_row_a_patient_and_no_date() -> None:
    rows = list(csv.DictReader(io.StringIO(export.delimited(tables("mds", 5, 9), SYSTEM).csv)))
    assert len(rows) == 9
    assert not any("2000" in cell for row in rows for cell in row.values())
