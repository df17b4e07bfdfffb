"""Resources that are there twice, in several versions, or replaced: decided when the source has ended."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize import sources
from harmonize.events import Event, Issue, Pointer, State, Withdrawn
from harmonize.reporting.quality import Quality
from harmonize.table import Table
from tests.harmonize.patients import PROFILE, fhir_mapping
from tests.harmonize.test_fhir_sources import ALL, CONDITION, ENCOUNTER, PATIENT, WBC, read, read_bundle
from tests.sweeps import examples, thinned

BASE = (PATIENT, CONDITION, ENCOUNTER)


def wbc(value: float, updated: str | None = None, name: str | None = "w", **change: Any) -> dict[str, Any]:
    resource = {**WBC, "valueQuantity": {"value": value, "code": "10*9/L"}, **change}
    if name:
        resource["id"] = name
    if updated:
        resource["meta"] = {"lastUpdated": updated}
    return resource


def found(table: Table, quality: Quality) -> tuple[list[Any], list[str]]:
    return table.arrow["wbc"].to_pylist(), [finding.code for finding in quality.findings]


OLD, NEW = "2020-01-01T12:00:00+02:00", "2020-01-01T11:00:00Z"  # an hour later, in another zone
ERROR = {"status": "entered-in-error"}


@pytest.mark.parametrize(
    ("first", "second", "value", "codes"),
    thinned(
        (
            pytest.param(*each)
            for each in [
                (wbc(5, OLD), wbc(5, NEW), 5, ["resource-duplicate"]),
                (wbc(5), wbc(5), 5, ["resource-duplicate"]),
                # One has a reference range, which is looked at: what they say is the same all the same.
                (wbc(5.3), wbc(5.3, referenceRange=[{"high": {"value": 10}}]), 5.3, ["resource-duplicate"]),
                (wbc(9, OLD), wbc(5, NEW), 5, ["resource-superseded"]),
                (wbc(5, OLD), wbc(9, NEW), 9, ["resource-superseded"]),
                (wbc(9, OLD), wbc(5, NEW, effectiveDateTime="2010-01-03"), 5, ["resource-superseded"]),
                (wbc(9), wbc(5, NEW), 5, ["multiple-matches", "resource-contradiction"]),
                (wbc(9, "soon"), wbc(5, NEW), 5, ["multiple-matches", "resource-contradiction"]),
                (wbc(9, NEW), wbc(5, NEW), 5, ["multiple-matches", "resource-contradiction"]),
                (wbc(9, name="a"), wbc(5, name="b"), 5, ["multiple-matches"]),
                (wbc(9, name=None), wbc(5, name=None), 5, ["multiple-matches"]),
                # Entered in error is the last word, whatever the clock says.
                (wbc(9, NEW), wbc(9, OLD, **ERROR), None, ["resource-superseded", "status-skipped"]),
                (wbc(9), wbc(5, **ERROR), None, ["resource-superseded", "status-skipped"]),
                # A final result replaces the preliminary one of the same day, whatever their ids.
                (wbc(5, name="a", status="preliminary"), wbc(9, name="b"), 9, ["preliminary-replaced"]),
                (
                    wbc(5, name=None, status="preliminary"),
                    wbc(9, name=None, status="corrected"),
                    9,
                    ["preliminary-replaced"],
                ),
                (
                    wbc(5, name="a", status="preliminary", effectiveDateTime="2010-01-02"),
                    wbc(9, name="b", effectiveDateTime="2010-01-03"),
                    5,
                    [],
                ),
                (wbc(5, name="a", status="preliminary"), wbc(5, name="c", status="preliminary"), 5, []),
                # Of one resource, of any day and any value, unless the clock says that the preliminary one is newer.
                (wbc(5, status="preliminary"), wbc(9, effectiveDateTime="2010-01-03"), 9, ["preliminary-replaced"]),
                (
                    wbc(5, NEW, status="preliminary"),
                    wbc(9, effectiveDateTime="2010-01-03"),
                    9,
                    ["preliminary-replaced"],
                ),
                (
                    wbc(5, NEW, status="preliminary"),
                    wbc(9, NEW, effectiveDateTime="2010-01-03"),
                    9,
                    ["preliminary-replaced"],
                ),
                (
                    wbc(5, OLD, status="preliminary"),
                    wbc(9, NEW, effectiveDateTime="2010-01-03"),
                    9,
                    ["resource-superseded"],
                ),
                (
                    wbc(5, NEW, status="preliminary"),
                    wbc(9, OLD, effectiveDateTime="2010-01-03"),
                    5,
                    ["resource-superseded"],
                ),
                (wbc(9, status="preliminary"), wbc(9), 9, ["preliminary-replaced"]),
            ]
        ),
        2,
    ),
)
def test_two_of_a_kind(first: dict[str, Any], second: dict[str, Any], value: float | None, codes: list[str]) -> None:
    for order in itertools.permutations((first, second)):
        for put in (lambda pair: (*BASE, *pair), lambda pair: (*pair, *BASE)):
            assert found(*read(*put(order))) == ([value], codes)
    entries = [{"resource": resource} for resource in (*BASE, first, second)]
    assert found(*read_bundle({"resourceType": "Bundle", "entry": entries})) == ([value], codes)


def test_another_patients_resource_of_the_same_id_is_another_resource() -> None:
    other = wbc(9, NEW, subject={"reference": "Patient/2"})
    assert found(*read(*BASE, wbc(5, OLD), other)) == ([5], ["patient-unresolved"])


def test_a_panel_sent_twice_is_no_contradiction() -> None:
    panel = {
        **WBC,
        "id": "w",
        "code": {"coding": [{"code": "58410-2"}]},
        "component": [{"code": WBC["code"], "valueQuantity": {"value": value, "unit": "G/L"}} for value in (4, 5)],
    }
    del panel["valueQuantity"]
    assert found(*read(*BASE, panel, panel)) == ([4], ["multiple-matches", "resource-duplicate"])


def test_a_diagnosis_that_was_corrected() -> None:
    first = {**CONDITION, "id": "c", "onsetDateTime": "2009-01-01", "meta": {"lastUpdated": OLD}}
    second = {**CONDITION, "id": "c", "onsetDateTime": "2010-01-01", "meta": {"lastUpdated": NEW}}
    for order in ((first, second), (second, first)):
        table, quality = read(PATIENT, ENCOUNTER, *order)
        assert table.arrow["time"].to_pylist() == [730]
        assert [finding.code for finding in quality.findings] == ["resource-superseded"]


def test_the_patient_was_seen_even_if_the_result_was_withdrawn() -> None:
    late = wbc(9, OLD, effectiveDateTime="2013-01-01")
    table, _ = read(*BASE, late, wbc(5, NEW))

    assert table.arrow["time"].to_pylist() == [1096]


def test_one_reader_for_all_files_of_a_source(tmp_path: Path) -> None:
    for name, part in (("a.ndjson", [*BASE, wbc(9, OLD)]), ("b.ndjson", [wbc(5, NEW)])):
        (tmp_path / name).write_text("\n".join(map(json.dumps, part)))
    mapping = fhir_mapping("ndjson")
    items = list(sources.read(tmp_path, mapping if hasattr(mapping, "sources") else _whole(), PROFILE))

    assert Withdrawn(Pointer("a.ndjson", 4)) in items
    assert Issue("resource-superseded", Pointer("a.ndjson", 4)) in items
    assert len([item for item in items if isinstance(item, Event) and item.variable == "last_follow_up"]) == 1


def _whole() -> Any:
    from harmonize import mapping
    from tests.harmonize.patients import SYSTEM

    text = f'format = "ndjson"\nprofile = "aml_core"\nfiles = ["*.ndjson"]\n[patient]\nsystem = "{SYSTEM}"\n'
    return mapping.loads(text, PROFILE)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 2)), max_size=6), st.randoms())
def test_the_order_of_versions_never_matters(written: list[tuple[str, int, int]], chance: Any) -> None:
    resources = [
        wbc(value + 1, f"2020-01-0{updated + 1}T00:00:00Z" if updated else None, name)
        for name, value, updated in written
    ]
    shuffled = list(resources)
    chance.shuffle(shuffled)
    table, quality = read(*BASE, *resources)
    again, same = read(*shuffled, *BASE)

    assert table.arrow.to_pydict() == again.arrow.to_pydict()
    assert {f.code: f.count for f in quality.findings} == {f.code: f.count for f in same.findings}
    # The newest of each, if all its versions can be compared.
    for name in "ab":
        versions = [(updated, value) for each, value, updated in written if each == name]
        if {each for each, _, _ in written} == {name} and versions and all(updated for updated, _ in versions):
            newest = {value for updated, value in versions if updated == max(versions)[0]}
            assert table.arrow["wbc"].to_pylist() == [min(newest) + 1]


def test_nothing_of_other_types_is_remembered() -> None:
    table, quality = read(*ALL, *({"resourceType": "Medication", "id": "m"} for _ in range(3)))

    assert table.states("wbc").tolist() == [State.VALUE]
    (finding,) = quality.findings
    assert (finding.code, finding.count, finding.places) == ("resource-ignored", 3, ("stream:5",))
