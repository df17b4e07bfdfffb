"""From scaled numbers back to a table, and which invented patients cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize import export, synthetic
from harmonize import profile as profiles
from harmonize.errors import MisuseError, TableError
from harmonize.events import State
from harmonize.implications import contradicted, settled
from harmonize.karyotype import KaryotypeError, parse
from harmonize.profile import CodeVariable, CytogeneticVariable, Profile, VariantVariable
from harmonize.pseudonyms import pseudonym
from harmonize.table import Table
from tests.harmonize.test_export import tables
from tests.sweeps import examples, thinned

PROFILES = ["mds", "aml_core", "aml", "cmml", "mm"]
ORIGIN = {"model": "ab", "seed": 7, "protection": "not differentially private"}


@cache
def load(name: str) -> Profile:
    return profiles.load(name)


def made(name: str, seed: int, patients: int = 40, kept: tuple[str, ...] | None = None) -> Table:
    """A table of numbers that no generator would draw: uniform over what a model may hold."""
    profile, rng = load(name), np.random.default_rng(seed)
    names = [variable.name for variable in profile.inputs]
    x = rng.uniform(-10, 10, (patients, len(names)))
    observed = rng.random(x.shape) < 0.7
    return synthetic.table_of(
        profile, names, x, observed, rng.uniform(0.5, 4000, patients), rng.random(patients) < 0.5,
        pids=synthetic.pseudonyms("ab", 7, patients), provenance=ORIGIN, kept=kept,
    )  # fmt: skip


# --- tables ---


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
@settings(max_examples=examples(30), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_drawn_is_a_canonical_table(name: str, seed: int) -> None:
    table = made(name, seed)

    again = Table.from_parquet(table.to_parquet_bytes(), table.profile)

    assert again.digest == table.digest
    assert synthetic.provenance_of(again) == ORIGIN


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
def test_a_real_table_scaled_and_back_is_the_same_inside_its_clip_ranges(name: str) -> None:
    table = tables(name, 5, 60)
    matrix = table.matrix()
    profile = table.profile
    # What other columns fix is another test's.
    free = [n for n in matrix.names if not n.startswith(("cyto_", "mut_", "flc_ratio"))]
    columns = [matrix.names.index(n) for n in free]

    found = synthetic.numbers_of(profile, free, matrix.x[:, columns], matrix.observed[:, columns])

    for name_ in free:
        variable = profile.variable(name_)
        low, high = (float(bound) for bound in variable.scale.clip)  # type: ignore[union-attr]
        wanted = np.array(table.arrow.column(name_).to_pylist(), dtype=np.float64)
        assert found[name_] == pytest.approx(np.clip(wanted, low, high), abs=1e-6, nan_ok=True), name_


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
def test_states_say_what_is_known(name: str) -> None:
    table = made(name, 3, 200)
    for variable in table.profile.inputs:
        states = set(table.states(variable.name).tolist())
        match variable:
            case CytogeneticVariable() | VariantVariable():
                assert states <= {State.VALUE, State.TESTED_NEGATIVE, State.NOT_TESTED}
                assert State.NOT_TESTED in states
            case CodeVariable():
                assert states == {State.VALUE, State.NOT_RECORDED}
            case _ if variable.name == "age":
                assert states == {State.VALUE, State.NOT_RECORDED}
            case _:
                assert states == {State.VALUE, State.NOT_TESTED}
    for variable in table.profile.scalars:
        if variable.tier == "C":
            assert set(table.states(variable.name).tolist()) == {State.NOT_RECORDED}


def test_columns_that_were_not_asked_for_are_not_recorded() -> None:
    table = made("mds", 3, kept=("age", "mut_tp53"))

    written = {v.name for v in table.profile.scalars if np.any(table.states(v.name) != State.NOT_RECORDED)}
    assert written == {"age", "mut_tp53"}
    whole = made("mds", 3)
    assert whole.arrow.column("mut_tp53").equals(table.arrow.column("mut_tp53"))


def test_ages_and_days_are_whole_and_bounded() -> None:
    table = made("aml_core", 1, 500)

    ages = np.array([age for age in table.arrow.column("age").to_pylist() if age is not None])
    assert np.all(ages == np.rint(ages))
    assert (ages.min(), ages.max()) == (18, 90)
    assert min(table.arrow.column("time").to_pylist()) >= 0


def test_nobody_is_older_than_the_top_code_whatever_the_scale_allows() -> None:
    raw = load("aml_core").model_dump()
    age = raw["variables"][0]
    wider = {**age, "scale": {**age["scale"], "clip": (18, 110)}}
    profile = Profile.model_validate(raw | {"variables": [wider, *raw["variables"][1:]]})

    found = synthetic.numbers_of(profile, ["age"], np.array([[3.0], [1.875], [0.0]]), np.ones((3, 1), dtype=bool))

    assert found["age"].tolist() == [90, 90, 60]


def test_what_is_settled_stays_in_range() -> None:
    names = ["flc_kappa", "flc_lambda", "flc_ratio"]
    # 50,000 mg/L over 0.0001 mg/L: more than any ratio that the profile accepts.
    x = np.array([[(np.log1p(50_000) - 3) / 2, (np.log1p(0.0001) - 3.3) / 2, 0.0]])

    found = synthetic.numbers_of(load("mm"), names, x, np.ones((1, 3), dtype=bool))

    assert [float(found[name][0]) for name in names] == [50_000, 0.0001, 100_000]


def test_further_outcomes_are_not_known() -> None:
    table = made("mds", 1)

    for name in ("transformation_time", "transformation_event", "hsct_time", "slide"):
        assert table.arrow.column(name).null_count == len(table)


def test_a_synthetic_pseudonym_is_no_real_one() -> None:
    pids = synthetic.pseudonyms("ab", 7, 3)
    real = pseudonym(bytes(32), "urn:x", "1")

    assert real.isalnum()
    assert not any(pid.isalnum() or set(pid) <= set(real.upper()) for pid in pids)
    assert len(set(pids)) == 3
    assert not set(pids) & set(synthetic.pseudonyms("ab", 8, 3))
    assert not set(pids) & set(synthetic.pseudonyms("ac", 7, 3))


def test_only_a_synthetic_table_says_that_it_is() -> None:
    real = tables("mds", 1, 3)
    assert synthetic.provenance_of(real) is None

    damaged = real.arrow.replace_schema_metadata({**real.arrow.schema.metadata, b"haemfed-synthetic": b"[1]"})
    with pytest.raises(TableError, match="damaged"):
        synthetic.provenance_of(Table(damaged, real.profile))


def test_an_export_is_marked_as_test_data_if_it_is() -> None:
    for bundle in export.bundles(made("mds", 1, 3), "urn:haemfed:synthetic"):
        assert bundle["meta"]["security"][0]["code"] == "HTEST"
        assert bundle["meta"]["tag"][0]["code"] == "ab:7"
        pytest.importorskip("fhir.resources.R4B.bundle").Bundle.model_validate_json(json.dumps(bundle))
    assert not any("meta" in bundle for bundle in export.bundles(tables("mds", 1, 3), "urn:x"))


@pytest.mark.parametrize(
    ("names", "x", "says"),
    [
        (("age",), np.zeros((2, 2)), "1 names"),
        (("age", "age"), np.zeros((2, 2)), "2 names"),
        (("age", "height"), np.zeros((2, 2)), "no variable height"),
        (("age", "hb"), np.full((2, 2), np.nan), "not finite"),
    ],
)
def test_what_does_not_fit_is_a_misuse(names: tuple[str, ...], x: np.ndarray, says: str) -> None:
    with pytest.raises(MisuseError, match=says):
        synthetic.numbers_of(load("mds"), names, x, np.ones(x.shape, dtype=bool))


def test_a_table_needs_a_pseudonym_for_everybody_and_json() -> None:
    x, days = np.zeros((2, 1)), np.ones(2)
    seen, alive = np.ones((2, 1), dtype=bool), np.zeros(2, dtype=bool)
    with pytest.raises(MisuseError, match="1 pseudonyms"):
        synthetic.table_of(load("mds"), ["age"], x, seen, days, alive, pids=["a", "a"], provenance={})
    with pytest.raises(MisuseError, match="JSON"):
        synthetic.table_of(load("mds"), ["age"], x, seen, days, alive, pids=["a", "b"], provenance={"e": float("inf")})


# --- what variables say about each other ---

NAN = np.nan


def one(**values: float) -> dict[str, np.ndarray]:
    return {name: np.array([value]) for name, value in values.items()}


@pytest.mark.parametrize(
    ("profile", "values", "becomes"),
    [
        ("mds", {"mut_flt3": 0, "mut_flt3_itd": 1}, {"mut_flt3": 1}),
        ("mds", {"mut_flt3": NAN, "mut_flt3_tkd": 1}, {"mut_flt3": 1}),
        ("mds", {"mut_tp53": 0, "mut_tp53_multihit": 1}, {"mut_tp53": 1}),
        ("mds", {"mut_kmt2a": 1, "mut_kmt2a_ptd": 0}, {"mut_kmt2a": 1}),
        ("aml", {"cyto_i17q": 1, "cyto_del17p": 0}, {"cyto_del17p": 1}),
        ("aml", {"cyto_mecom_r": 1, "cyto_inv3": 0}, {"cyto_inv3": 1}),
        ("aml", {"cyto_t9_11": 1, "cyto_kmt2a_r": 0}, {"cyto_kmt2a_r": 1}),
        ("mds", {"cyto_normal": 1, "cyto_ipssr_class": 3}, {"cyto_ipssr_class": 1}),
        ("mds", {"cyto_normal": 1, "cyto_ipssr_class": NAN}, {"cyto_ipssr_class": NAN}),
        ("mds", {"cyto_complex": 1, "cyto_ipssr_class": 1}, {"cyto_ipssr_class": 3}),
        ("mds", {"cyto_complex": 0, "cyto_ipssr_class": 4}, {"cyto_ipssr_class": 3}),
        ("mds", {"cyto_normal": 1, "cyto_abnormalities": 2}, {"cyto_abnormalities": 0}),
        ("mds", {"cyto_normal": 0, "cyto_abnormalities": 0}, {"cyto_abnormalities": 1}),
        ("mds", {"cyto_monosomal": 1, "cyto_abnormalities": 0}, {"cyto_abnormalities": 2}),
        ("mds", {"cyto_complex": 1, "cyto_abnormalities": 2}, {"cyto_abnormalities": 3}),
        ("mds", {"cyto_ipssr_class": 4, "cyto_abnormalities": 2}, {"cyto_abnormalities": 4}),
        ("mds", {"cyto_ipssr_class": 3, "cyto_complex": 1, "cyto_abnormalities": 7}, {"cyto_abnormalities": 3}),
        ("mds", {"cyto_ipssr_class": 3, "cyto_complex": 0, "cyto_abnormalities": 7}, {"cyto_abnormalities": 2}),
        ("mds", {"cyto_ipssr_class": 0, "cyto_abnormalities": 3}, {"cyto_abnormalities": 1}),
        ("mds", {"cyto_ipssr_class": 0, "cyto_abnormalities": 0}, {"cyto_abnormalities": 1}),
        ("mds", {"cyto_ipssr_class": 1, "cyto_abnormalities": 3}, {"cyto_abnormalities": 2}),
        ("mds", {"mut_tp53": 0, "mut_tp53_vaf": 0.1}, {"mut_tp53_vaf": 0}),
        ("mds", {"mut_tp53": 1, "mut_tp53_vaf": 0.0}, {"mut_tp53_vaf": 0.02}),
        ("mds", {"mut_tp53": NAN, "mut_tp53_vaf": 0.3}, {"mut_tp53_vaf": NAN}),
        ("mds", {"mut_tp53": 1, "mut_tp53_vaf": NAN}, {"mut_tp53_vaf": NAN}),
        ("mds", {"mut_tp53": 1, "mut_tp53_multihit": 0, "mut_tp53_vaf": 0.9}, {"mut_tp53_vaf": 0.55}),
        ("mds", {"mut_tp53": 1, "mut_tp53_multihit": 1, "mut_tp53_vaf": 0.9}, {"mut_tp53_vaf": 0.9}),
        ("mds", {"mut_tp53_vaf": 0.015}, {"mut_tp53_vaf": 0.02}),
        ("mds", {"mut_tp53_vaf": 0.005}, {"mut_tp53_vaf": 0}),
        ("mm", {"flc_kappa": 30, "flc_lambda": 15, "flc_ratio": 9}, {"flc_ratio": 2}),
        ("mm", {"flc_kappa": 30, "flc_lambda": 0, "flc_ratio": 9}, {"flc_ratio": 9}),
        ("mm", {"flc_kappa": 30, "flc_lambda": 15, "flc_ratio": NAN}, {"flc_ratio": NAN}),
    ],
)
def test_what_others_fix_is_settled(profile: str, values: dict[str, float], becomes: dict[str, float]) -> None:
    given_ = one(**values)
    found = settled(load(profile), given_)

    assert {name: float(found[name][0]) for name in values} == pytest.approx(values | becomes, nan_ok=True)
    assert {name: float(given_[name][0]) for name in values} == pytest.approx(values, nan_ok=True)


IMPOSSIBLE = [
    ("mds", {"bm_blast": 20}, {"bm_blast": 19}),
    ("aml", {"bm_blast": 10}, {"bm_blast": 20}),
    ("cmml", {"mono": 0.4}, {"mono": 0.5}),
    ("mds", {"wbc": 2, "anc": 1.5, "mono": 1}, {"wbc": 2, "anc": 1.5, "mono": NAN}),
    ("mds", {"wbc": 2, "anc": 3}, {"wbc": 2, "anc": 2.1}),
    ("mds", {"wbc": 2, "mono": 3}, {"wbc": 2, "mono": 1}),
    ("mds", {"secondary": 0, "therapy_related": 1}, {"secondary": 1, "therapy_related": 1}),
    ("mds", {"cyto_normal": 1, "cyto_del5q": 1}, {"cyto_normal": 0, "cyto_del5q": 1}),
    ("mds", {"cyto_normal": 1, "cyto_complex": 1}, {"cyto_normal": NAN, "cyto_complex": 1}),
    ("mds", {"cyto_ipssr_class": 0, "cyto_minus_y": 0, "cyto_del11q": 0},
     {"cyto_ipssr_class": 0, "cyto_minus_y": 1, "cyto_del11q": 0}),
    ("mds", {"sex": 0, "cyto_minus_y": 1}, {"sex": 1, "cyto_minus_y": 1}),
    ("mds", {"cyto_complex": 1, "cyto_abnormalities": 2}, {"cyto_complex": 1, "cyto_abnormalities": 3}),
    ("mds", {"cyto_normal": 1, "cyto_ipssr_class": 2}, {"cyto_normal": 1, "cyto_ipssr_class": 1}),
    ("mds", {"cyto_normal": 1, "cyto_complex": 1, "cyto_abnormalities": 3}, {"cyto_abnormalities": 3}),
    ("mds", {"mut_tp53": 0, "mut_tp53_multihit": 1}, {"mut_tp53": 1, "mut_tp53_multihit": 1}),
    ("aml", {"cyto_i17q": 1, "cyto_del17p": 0}, {"cyto_i17q": 1, "cyto_del17p": 1}),
    ("mm", {"cyto_normal": 1, "cyto_complex": 1}, {"cyto_normal": 1, "cyto_del17p": 1}),
    ("mm", {"iss": 1, "b2m": 9, "albumin": 40}, {"iss": 3, "b2m": 9, "albumin": 40}),
    ("mm", {"riss": 1, "iss": 2}, {"riss": 1, "iss": 1}),
    ("mm", {"riss": 3, "iss": 1}, {"riss": 3, "iss": NAN}),
    ("mm", {"riss": 1, "cyto_t4_14": 1}, {"riss": 2, "cyto_t4_14": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("profile", "wrong", "right"), IMPOSSIBLE)
def test_who_cannot_be_is_refused(profile: str, wrong: Mapping[str, float], right: Mapping[str, float]) -> None:
    assert contradicted(load(profile), one(**wrong)).tolist() == [True]
    assert contradicted(load(profile), one(**right)).tolist() == [False]


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
def test_nothing_known_is_nothing_wrong(name: str) -> None:
    names = [variable.name for variable in load(name).inputs]
    x = np.zeros((3, len(names)))

    assert not synthetic.broken(load(name), names, x, np.zeros(x.shape, dtype=bool)).any()


@pytest.mark.parametrize("name", thinned(PROFILES, 5))
@settings(max_examples=examples(20), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_each_row_is_judged_alone_and_settling_twice_is_settling_once(name: str, seed: int) -> None:
    profile, rng = load(name), np.random.default_rng(seed)
    names = [variable.name for variable in profile.inputs]
    x, observed = rng.uniform(-3, 3, (8, len(names))), rng.random((8, len(names))) < 0.6

    together = synthetic.broken(profile, names, x, observed)
    alone = [bool(synthetic.broken(profile, names, x[i : i + 1], observed[i : i + 1])[0]) for i in range(8)]
    numbers = synthetic.numbers_of(profile, names, x, observed)
    again = settled(profile, numbers)

    assert together.tolist() == alone
    for variable in names:
        if variable != "flc_ratio":  # rounded after it was made
            assert np.array_equal(numbers[variable], again[variable], equal_nan=True), variable


@pytest.mark.skipif("HAEMFED_DATA" not in os.environ, reason="HAEMFED_DATA names no folder with the public cohorts")
def test_every_real_karyotype_can_be() -> None:
    path = Path(os.environ["HAEMFED_DATA"], "mds_iwgpm", "patients.parquet")
    profile = load("mds")
    read = []
    for text in pd.read_parquet(path)["karyotype_text"].dropna():
        try:
            karyotype = parse(text)
        except KaryotypeError:
            continue
        if not karyotype.incomplete:
            read.append(karyotype.features)
    columns = {
        variable.name: np.array([float(features[variable.feature]) for features in read])
        for variable in profile.scalars
        if isinstance(variable, CytogeneticVariable)
    }

    assert len(read) > 2000
    assert not contradicted(profile, columns).any()
    assert all(np.array_equal(columns[name], values) for name, values in settled(profile, columns).items())
