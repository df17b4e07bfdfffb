"""The parts of benchmarks/dp that decide what its figures mean. Nothing here measures."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import cohorts, sections
from benchmarks.calibrate import Calibration
from benchmarks.cohorts import CohortMissing, split
from benchmarks.dp import attacks, exact, federation, run, utility
from benchmarks.dp.federation import Distributed, Local, Open, descend, fedavg, stream, tensors
from benchmarks.dp.networks import NETWORKS, Network
from benchmarks.dp.settings import WAYS, preset_of
from benchmarks.dp.steps import exact_sum, our_sum
from benchmarks.report import Row
from dp import noise_shares
from dp.bookkeeping import BLOCK
from dp.queries import Account, Float64, Query
from models.data import SurvivalData
from models.plan import Spec
from models.presets import Preset, preset
from models.training import fit, initial_weights
from secagg.masks import CTR
from tests.sweeps import examples, thinned

torch.set_num_threads(1)


def patients(count: int, seed: int = 0) -> SurvivalData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    return SurvivalData(x, rng.random(x.shape) > 0.1, rng.exponential(500, count) + 1, rng.random(count) < 0.6)


def small(**changes: object) -> Preset:
    return replace(preset("aml-small"), **{"hidden": (2,), "steps": 3, "uploads": 4, "normaliser": 50.0} | changes)


QUERY = Query("gradient", 0, 5, 1.0, 8.0, Account.TRAINING, federation.PATIENT_CAP)


def test_the_loop_is_the_products_training() -> None:
    chosen, data = small(averaging=3.0), patients(70)
    weights = initial_weights(chosen, 3, b"x")
    spec = Spec(chosen, ("a", "b", "c"), weights, {"gradient": 8.0}, 4096)
    asked: list[Float64] = []

    def keep(query: Query, contribution: object) -> Float64:
        del query
        asked.append(contribution())  # type: ignore[operator]
        return asked[-1]

    trained = fit(chosen, 3, weights, data, keep, lambda t: spec.query("gradient", t))
    ours = descend(chosen, weights, [tensors(data, chosen)], Open(), 8.0, block=BLOCK)

    assert len(asked) == 3
    assert ours == trained.params


def released(door: Distributed | Local, sites: int, draws: int = 400) -> Float64:
    del sites
    return np.array([door(QUERY, [np.zeros(5)]) for _ in range(draws)])


@pytest.mark.parametrize(
    ("door", "shares"),
    [
        (Distributed(4, 3, [stream("t", i) for i in range(4)]), 4 / 3),
        (Distributed(4, 2, [stream("u", i) for i in range(8)]), 4.0),  # how a search draws local noise
        (Local([stream("v", i) for i in range(4)]), 4.0),
    ],
)
def test_doors_carry_the_noise_they_say(door: Distributed | Local, shares: float) -> None:
    found = released(door, 4)

    assert found.std() == pytest.approx(8.0 * np.sqrt(shares), rel=0.06)  # 2,000 draws: se 1.6 %


def test_sites_are_rounded_one_by_one_and_every_share_counts() -> None:
    door = Distributed(2, 2, [stream("w", 0), stream("w", 1)])
    grid = noise_shares.lattice(QUERY, 2, honest=2)
    sums = [np.full(5, 0.3), np.full(5, -0.2)]
    plain = sum(noise_shares.encode(each, QUERY, grid) for each in sums)
    shares = sum(noise_shares.draw(stream("w", i), 5) for i in range(2))

    assert np.array_equal(door.total(QUERY, grid, sums), plain + shares)


def test_fedavg_of_equal_sites_without_noise_is_one_site(monkeypatch: pytest.MonkeyPatch) -> None:
    def quiet(self: Local, query: Query, sums: Sequence[Float64]) -> Float64:
        del self, query
        return np.sum(sums, axis=0)

    monkeypatch.setattr(Local, "__call__", quiet)
    chosen, site = small(steps=4, uploads=5, averaging=1e9, update="sgd-momentum", momentum=0.0), patients(60)
    weights, table = initial_weights(chosen, 3, b"x"), tensors(site, chosen)
    both = fedavg(chosen, weights, [table, table], [stream("x", 0), stream("x", 1)], 8.0, rounds=2)
    alone = descend(chosen.sized(60), weights, [table], Open(), 8.0)

    assert np.frombuffer(both) == pytest.approx(np.frombuffer(alone), abs=1e-9)


@given(patients=st.integers(10, 3000), hospitals=st.integers(1, 16), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=examples(30), deadline=None)
def test_every_patient_is_dealt_once_and_hospitals_are_unequal(patients: int, hospitals: int, seed: int) -> None:
    parts = split(patients, hospitals, np.random.default_rng(seed))
    sizes = [len(part) for part in parts]

    assert sorted(np.concatenate(parts).tolist()) == list(range(patients))
    assert len(parts) == hospitals
    assert all(a >= b - 1 for a, b in itertools.pairwise(sizes))  # rounding may swap neighbours by one
    if hospitals > 1 and patients > 400:
        assert sizes[0] / sizes[-1] == pytest.approx(10.0, rel=0.15)


@pytest.mark.parametrize("network", thinned(NETWORKS, 2), ids=lambda n: n.name)
def test_networks_have_the_published_sizes_and_a_loss_for_each_patient(network: Network) -> None:
    model, inputs = network.make(), network.inputs(8, torch.Generator().manual_seed(1))
    losses = network.loss(model, *inputs)
    first = network.loss(model, *(each[:3] for each in inputs))

    assert sum(p.numel() for p in model.parameters()) == {"DeepSurv": 7496, "VAE": 8862}[network.name]
    assert losses.shape == (8,)
    assert torch.allclose(losses[:3], first, rtol=1e-5)
    assert np.linalg.norm(our_sum(network, model, inputs)) <= 8.0
    assert our_sum(network, model, inputs) == pytest.approx(exact_sum(network, model, inputs, 1.0), abs=1e-4)


def test_folds_of_five_seeds_hold_out_everybody_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = patients(53)
    numbered = SurvivalData(np.arange(53.0)[:, None], np.ones((53, 1), bool), whole.duration, whole.event)
    cohort = cohorts.Cohort("X", "", ("a",), numbered)
    monkeypatch.setattr(utility, "_load", lambda *_: cohort)
    held = []
    for seed in range(5, 10):
        train, test = utility.Deal("X", seed, 4, Path()).sides()
        assert not set(train.x[:, 0]) & set(test.x[:, 0])
        assert len(train) + len(test) == 53
        held += test.x[:, 0].tolist()
    assert sorted(held) == list(range(53))


def test_an_interval_is_judged_by_its_far_end() -> None:
    row = utility._equal("4.6b", "X", [(0.70, 0.71), (0.70, 0.69), (0.71, 0.715)])
    mean, low, high = utility.interval([-0.01, 0.01, -0.005])

    assert mean == pytest.approx(-0.005 / 3)
    assert (
        high - mean == pytest.approx(mean - low) == pytest.approx(1.96 * np.std([-0.01, 0.01, -0.005], ddof=1) / 3**0.5)
    )
    assert row.value == pytest.approx(-low)
    assert row.passed is False


def test_a_missing_cohort_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HAEMFED_DATA", raising=False)
    with pytest.raises(CohortMissing, match="HAEMFED_DATA"):
        cohorts.load("MDS")
    with pytest.raises(CohortMissing, match="is not a folder"):
        cohorts.load("MDS", tmp_path / "absent")
    with pytest.raises(CohortMissing, match=r"cohort AML: patients\.parquet is missing"):
        cohorts.load("AML", tmp_path)
    (tmp_path / "mm_mmrf").mkdir()
    pd.DataFrame({"clin_age": [1.0]}).to_parquet(tmp_path / "mm_mmrf" / "patients.parquet")
    with pytest.raises(CohortMissing, match="cohort MM: column"):
        cohorts.load("MM", tmp_path)


@pytest.mark.parametrize("name", cohorts.COHORTS)
def test_columns_are_scaled_by_public_constants(name: str) -> None:
    try:
        cohort = cohorts.load(name)
    except CohortMissing as reason:
        pytest.skip(str(reason))
    x = np.where(cohort.data.observed, cohort.data.x, 0.0)

    assert x.shape[1] == len(cohort.features) == len(set(cohort.features))
    assert np.abs(x).max() < 10
    assert np.all(cohort.data.duration > 0)


def test_a_section_that_cannot_run_is_listed_and_keeps_its_reason() -> None:
    rows = [
        Row("4.10", "pairs", 0, "pairs", 0, "lower"),
        Row("4.2", "x", 1.0, "times"),
        Row("plan", "y", 0.1, "C-index"),
    ]
    found = sections.listed(rows, {"4.7": "no cohorts: give --data"})

    assert [row["figure"] for row in found] == ["4.2", "4.7", "4.10", "plan"]
    assert found[1]["value"] is None
    assert found[1]["passed"] is None
    assert found[1]["not_measured"] == "no cohorts: give --data"


def test_figures_are_in_order() -> None:
    figures = ["4.10", "4.6j", "plan", "4.6b", "4.2", "4.6a", "4.1"]
    assert sorted(figures, key=sections.place) == ["4.1", "4.2", "4.6a", "4.6b", "4.6j", "4.10", "plan"]


def test_every_claim_has_a_section() -> None:
    claims = {
        figure.rstrip("abcdefghij") for section in run.BENCHMARK.sections.values() for figure in section.figures
    } - {"plan"}
    assert claims == {f"4.{number}" for number in range(1, 12)}


@pytest.mark.parametrize(
    ("figure", "section"),
    [("4.1", "steps"), ("4.1c", "steps"), ("4.6a", "exact"), ("4.6c", "equivalence"), ("4.10", "pairs"), ("9.9", None)],
)
def test_a_figure_belongs_to_its_section(figure: str, section: str | None) -> None:
    assert sections.section_of(run.BENCHMARK, figure) == section


def test_a_federation_opens_the_sum_of_integers_that_a_curator_adds() -> None:
    query, sites = Query("gradient", 0, 5, 1.0, 20.0, Account.TRAINING, 100), 4
    sums = [np.random.default_rng(site).normal(size=5) for site in range(sites)]
    streams = [[stream("test", site) for site in range(sites)] for _ in range(2)]
    opening = exact.Masked(5, streams[0], CTR)
    curator = Distributed(sites, opening.assembly.manifest.honest(sites), streams[1])

    for _ in range(2):
        assert np.array_equal(opening(query, sums), curator(query, sums))
    assert len(opening.assembly.costs.accept) == 2 * sites


def test_times_become_units() -> None:
    taken = Calibration(0.5, 1.5)
    assert sections.in_units(Row("4.5", "x", 2.0, "CPU s", 3.0, "lower"), taken) == Row(
        "4.5", "x", 2.0, "s-eq", 3.0, "lower"
    )
    assert sections.in_units(Row("4.1", "x", 2.0, "times"), taken).unit == "times"


def test_tests_that_are_not_there_are_not_measured() -> None:
    with pytest.raises(sections.NotThere, match=r"tests/dp/absent\.py is not in this checkout"):
        attacks._function("tests.dp.absent", "run")
    with pytest.raises(sections.NotThere, match="has no function"):
        attacks._function("tests.dp.conftest", "run_nothing")


def test_ways_were_chosen_elsewhere() -> None:
    for way in WAYS.values():
        assert preset_of("MDS", way, 100).provenance == "METABRIC (Curtis 2012)"
