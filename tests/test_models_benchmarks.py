"""The parts of benchmarks/models that decide what its figures mean. Nothing here measures."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import cohorts
from benchmarks.cohorts import CohortMissing
from benchmarks.dp import federation
from benchmarks.models import arms, centres, learned, nine, run, synthetic, tune
from benchmarks.models.centres import Fold, difference
from benchmarks.models.cohorts import Hospitals, load
from benchmarks.models.drugs import Drugs, beside
from benchmarks.models.settings import FOUND, LOCAL, PRIVATE, of_disease
from benchmarks.sections import NotThere, section_of
from dp.queries import Query
from models.algorithms.averaging import Averaging, fit, update_query
from models.data import SurvivalData
from models.deepsurv import DeepSurv
from models.losses import Batch
from models.metrics import harrell_c, negative_log_likelihood
from models.predict import SurvivalModel
from models.presets import Preset, preset
from models.training import initial_weights
from secagg.manifest import Noise
from tests.models.algorithms.support import CAP, SILENT, Whole

GRID = (0.0, 365.25, 730.5, 1826.25)
SMALL = replace(
    preset("deepsurv-mds-open"), hidden=(3,), members=2, linear_penalty=5.0, hidden_penalty=7.0, grid=GRID,
    calibration_times=(365.25,), learning_rate=0.02, initial_log_hazard=-0.5, steps=30, uploads=33,
)  # fmt: skip
LAST = 1e12  # as `averaging`: the last iterate and hardly anything else


def patients(count: int, seed: int = 0) -> SurvivalData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    death, lost = rng.exponential(500, count) * np.exp(-x[:, 0]) + 1, rng.exponential(1500, count)
    return SurvivalData(x, rng.random(x.shape) > 0.1, np.minimum(death, lost) + 1, death <= lost)


def pieces(params: bytes) -> list[np.ndarray[Any, Any]]:
    numbers, found = np.frombuffer(params, dtype="<f8"), []
    for _, shape in SMALL.network.layout(3, len(GRID) - 1):
        found.append(numbers[: math.prod(shape)].reshape(shape))
        numbers = numbers[math.prod(shape) :]
    return found


def trained_by_torch(data: SurvivalData, preset: Preset, seed: int) -> list[np.ndarray[Any, Any]]:
    """Mean loss of a patient and ridge by autograd in float64, torch's own Adam, polynomial-decay average."""
    batch = Batch.of(data.bounded(GRID[-1]), GRID)
    found = []
    start = pieces(initial_weights(preset, 3, b"benchmarks/models/%d" % seed))
    for member in (start[:5], start[5:]):
        model = DeepSurv(3, preset.hidden, len(GRID) - 1)
        for p, value in zip(model.parameters(), member, strict=True):
            p.data = torch.from_numpy(value.copy())
        ridges = {"skip.weight": preset.linear_penalty} | dict.fromkeys(
            ("hidden.0.weight", "out.weight"), preset.hidden_penalty
        )
        steps = torch.optim.Adam(model.parameters(), preset.learning_rate)
        averages = [p.detach().clone() for p in model.parameters()]
        for step in range(1, preset.steps + 1):
            steps.zero_grad()
            held = sum(ridges[name] * (p**2).sum() / 2 for name, p in model.named_parameters() if name in ridges)
            ((model.per_patient_loss(batch).sum() + held) / len(data)).backward()  # type: ignore[no-untyped-call]
            steps.step()
            rho = (preset.averaging + 1) / (step + preset.averaging)
            averages = [(1 - rho) * a + rho * p.detach() for a, p in zip(averages, model.parameters(), strict=True)]
        found += [a.numpy() for a in averages]
    return found


def test_training_without_noise_is_that_of_plain_torch() -> None:
    data, chosen = patients(80), SMALL.sized(80)
    model = learned.train(chosen, [data.rows(np.arange(80) % 3 == site) for site in range(3)], 1)

    arrays = [model._arrays[name] for name, _ in chosen.network.layout(3, len(GRID) - 1)]
    for ours, theirs in zip(arrays, trained_by_torch(data, chosen, 1), strict=True):
        assert ours.ravel() == pytest.approx(theirs.ravel(), abs=1e-4)
    assert np.abs(model.risk(data.x, data.observed)).max() > 0.1


def test_early_stopping_returns_the_network_of_the_lowest_loss_of_who_is_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, other, sums = patients(40), patients(200, 1), []
    real = federation.Open.__call__
    monkeypatch.setattr(federation.Open, "__call__", lambda *of: sums.append(0) or real(*of))  # type: ignore[func-returns-value]
    free = {"linear_penalty": 0.0, "hidden_penalty": 0.0, "learning_rate": 0.05, "averaging": LAST}
    long = replace(SMALL, members=1, steps=400, uploads=440, **free)  # type: ignore[arg-type]
    stopped, taken = learned.stopped(long.sized(40), data, other, 0), len(sums)
    held = other.bounded(GRID[-1])
    by_step = {
        steps: learned.train(replace(long.sized(40), steps=steps), [data], 0) for steps in range(5, taken + 1, 5)
    }
    at = min(by_step, key=lambda steps: negative_log_likelihood(by_step[steps], held))

    assert 5 < at < taken < 2 * at + 60 < 400
    assert stopped.risk(other.x, other.observed) == pytest.approx(by_step[at].risk(other.x, other.observed), abs=1e-9)


def test_a_hospital_alone_holds_a_quarter_back_and_its_penalties_weigh_on_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def stopped(chosen: Preset, data: SurvivalData, held: SurvivalData, seed: int) -> SurvivalModel:
        seen.append((len(data), len(held), chosen.normaliser, chosen.linear_penalty, chosen.hidden_penalty, seed))
        assert not {*data.x[:, 0]} & {*held.x[:, 0]}
        return SurvivalModel.as_trained(
            ("a", "b", "c"), chosen.network, chosen.grid, initial_weights(chosen, 3, b"seed")
        )

    monkeypatch.setattr(learned, "stopped", stopped)
    risk = arms.alone("MDS", patients(60), np.random.default_rng(0))

    assert {row[:3] for row in seen} == {(30, 10, 30.0)}
    assert {row[3:5] for row in seen} == set(LOCAL)
    assert len({row[5] for row in seen}) == len(seen) == 6
    assert harrell_c(risk(patients(300, 3)), patients(300, 3)) > 0.6  # ridge Cox won


def test_rounds_in_one_process_are_those_of_hospitals_that_send_each_other_integers() -> None:
    parts = [patients(count, count) for count in (70, 40, 10)]
    chosen = replace(SMALL, steps=4, uploads=5, update="sgd-momentum", momentum=0.0, learning_rate=0.3).sized(120)
    averaging = Averaging.of_bands((70.0, 40.0, 10.0), local_steps=3, bound=10.0, proximal=0.5)
    weights = initial_weights(chosen, 3, b"benchmarks/models/2")

    def asked(number: int) -> Query:
        return update_query(chosen, averaging, len(weights) // 8, SILENT, CAP, number)

    found = Whole(3).run(lambda k, door: fit(chosen, averaging, k, 3, weights, parts[k], door, asked, noise=Noise.NONE))
    theirs = SurvivalModel.as_trained(("a", "b", "c"), chosen.network, GRID, found[0].trained.params)
    ours, held = learned.averaged(chosen, averaging, parts, 2), patients(50, 9)

    assert ours.risk(held.x, held.observed) == pytest.approx(theirs.risk(held.x, held.observed), abs=1e-5)
    assert np.abs(ours.risk(held.x, held.observed)).max() > 0.05


@pytest.fixture(scope="module")
def pooled() -> np.ndarray[Any, Any]:
    return arms.deepsurv("MDS", patients(400), 0)(patients(400, 9))


def test_averages_are_a_study_with_every_hospitals_own_number(
    monkeypatch: pytest.MonkeyPatch, pooled: np.ndarray[Any, Any]
) -> None:
    data, held, sites = patients(400), patients(400, 9), np.repeat(np.arange(2), (300, 100))
    seen: list[tuple[Preset, Averaging, list[int]]] = []
    real = learned.averaged

    def averaged(chosen: Preset, averaging: Averaging, parts: list[SurvivalData], seed: int) -> SurvivalModel:
        seen.append((chosen, averaging, list(map(len, parts))))
        return real(chosen, averaging, parts, seed)

    monkeypatch.setattr(learned, "averaged", averaged)
    scores = [harrell_c(arm("MDS", data, sites, 0)(held), held) for arm in (arms.federated_rounds, arms.fedprox)]

    assert scores == pytest.approx([harrell_c(pooled, held)] * 2, abs=0.01)
    for chosen, averaging, sizes in seen:
        assert (chosen.hidden, chosen.members, chosen.normaliser) == ((16,), 3, 400.0)
        assert averaging.shares == pytest.approx([0.75, 0.25])
        assert sizes == [300, 100]
        study = chosen.steps, chosen.update, averaging.local_steps, averaging.bound
        assert study == (20, "sgd-momentum", 5, 10.0)  # docs/reference/algorithms.md
    assert [averaging.proximal for _, averaging, _ in seen] == [0.0, 0.1]


def test_lockstep_is_pooled_training(pooled: np.ndarray[Any, Any]) -> None:
    data, held = patients(400), patients(400, 9)
    shared = arms.lockstep("MDS", data, np.arange(400) % 5, 0)(held)

    assert shared == pytest.approx(pooled, abs=1e-6)
    assert harrell_c(pooled, held) > 0.65


def test_intervals_know_that_training_sets_overlap() -> None:
    rng = np.random.default_rng(0)
    few, many = difference([0.03, -0.01, 0.01, 0.03, -0.01]), difference(rng.normal(0.01, 0.02, 500))
    spread = 0.02

    # With more deals the interval does not shrink to nothing: the patients stay the same.
    assert (many.high - many.low) / 2 == pytest.approx(1.965 * spread * (1 / 500 + 1 / 4) ** 0.5, rel=0.1)
    assert few.high - few.low > many.high - many.low
    assert difference([0.01] * 5 + [0.02] * 5, level=0.9).low > difference([0.01] * 5 + [0.02] * 5).low


def invented(n: int = 600) -> Hospitals:
    data, site = patients(n), np.arange(n) % 4
    site[:400] = 0
    everything, few = np.arange(3), np.arange(2)
    tiers = {"clinical": few, "+ cytogenetic": few, "+ genes": everything, "IPSS-M": everything}
    score = np.where(np.arange(n) % 7 == 0, np.nan, data.x[:, 1])
    return Hospitals("MDS", ("a", "b", "c"), data, site, tiers, {"IPSS-R": score})


def test_a_fold_scores_every_arm_that_a_figure_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centres, "_loaded", lambda *_: invented())
    monkeypatch.setattr(centres, "SMALL", 100)
    for cheap in ("deepsurv", "cox_pem", "lockstep", "federated_rounds", "fedprox", "private", "alone"):
        monkeypatch.setattr(arms, cheap, lambda *_, **__: lambda data: np.where(data.observed, data.x, 0.0)[:, 0])
    found = centres.run(Fold("MDS", 0, 0, Path()))

    needed = {arm for _, one, other, _, _ in centres._FIGURES.values() for arm in (one, other)}
    assert needed <= set(found)
    assert found["DeepSurv, + genes"] == found["alone"] == found["alone, smallest"] > 0.65
    assert found["IPSS-R"] == pytest.approx(0.5, abs=0.1)
    assert found["ridge Cox, + genes"] > 0.65


def test_folds_of_a_seed_test_everybody_once() -> None:
    tested = [Fold("MDS", 3, fold, Path()).parts(53)[1] for fold in range(5)]

    assert sorted(np.concatenate(tested)) == list(range(53))
    for fold in range(5):
        train_, test = Fold("MDS", 3, fold, Path()).parts(53)
        assert not set(train_) & set(test)


def test_private_descent_counts_on_all_but_the_colluding(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    real = arms.federation.Distributed

    def door(sites: int, honest: int, streams: object) -> object:
        seen.append((sites, honest))
        return real(sites, honest, streams)  # type: ignore[arg-type]

    monkeypatch.setattr(arms.federation, "Distributed", door)
    data = patients(420)
    risk = arms.private("MDS", data, np.arange(420) % 21, 100.0, (0, 0))

    assert seen == [(21, 17)]
    assert harrell_c(risk(data), data) > 0.55
    assert [arms.uncounted(n) for n in (3, 6, 21)] == [1, 1, 4]


def test_every_figure_has_a_section() -> None:
    others = [
        "6.1b",
        "6.4",
        "6.11",
        "6.11b",
        *(f"6.{n}" for n in (12, 13, 15, 18, 19, 20, 21, 22)),
        "6.14a",
        "6.14b",
        "6.arms",
    ]
    generators = [figure for figures in synthetic.FIGURES.values() for figure in figures]
    owners = {figure: section_of(run.BENCHMARK, figure) for figure in (*centres._FIGURES, *others, *generators)}

    assert None not in owners.values()
    assert (owners["6.1a"], owners["6.1b"], owners["6.11"], owners["6.11b"]) == ("centres", "savae", "aml", "drugs")
    assert set(owners.values()) == set(run.BENCHMARK.sections)


@pytest.mark.parametrize("name", ["savae-wide", "fusion-wide", "aml-small"])
def test_the_products_networks_learn_the_same_from_hospitals_as_from_all_patients_together(name: str) -> None:
    data = patients(150)
    preset = replace(learned.of_disease(name, "AML", 150), steps=6, uploads=7)
    pooled = learned.train(preset, [data], 1)
    shared = learned.train(preset, [data.rows(np.arange(150) % 3 == site) for site in range(3)], 1)

    assert shared.risk(data.x, data.observed) == pytest.approx(pooled.risk(data.x, data.observed), abs=1e-6)
    assert harrell_c(learned.risk_of(pooled)(data), data) > 0.6
    assert preset.grid == of_disease("AML").grid


def test_a_drug_block_knows_training_patients_alone_and_is_masked_for_whom_it_lacks() -> None:
    areas = np.array([[100.0, np.nan], [200.0, 50.0], [np.nan, np.nan], [900.0, 900.0]])
    drugs, data = Drugs(areas), patients(4)
    joint = beside(data, drugs.block(np.array([0, 1, 2])), drugs.tried)

    assert joint.x[:, 3:].tolist() == [[-1, 0], [1, 0], [0, 0], [15, 17]]
    assert joint.observed[:, 3:].tolist() == [[True, True], [True, True], [False, False], [True, True]]
    assert np.array_equal(joint.x[:, :3], data.x)


def test_the_nine_tables_are_scaled_by_training_patients_alone() -> None:
    data = patients(50)
    far = SurvivalData(np.where(np.arange(50)[:, None] < 40, data.x, 99.0), data.observed, data.duration, data.event)
    train = np.arange(40)
    one, other = (nine.Patients(each, 2).scaled(train) for each in (data, far))
    seen = np.where(one.observed[:40], one.x[:40], np.nan)

    assert np.array_equal(one.x[:40], other.x[:40])
    assert np.nanmean(seen[:, :2], axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert np.nanstd(seen[:, :2], axis=0) == pytest.approx([1, 1])
    assert np.array_equal(one.x[:, 2], np.where(data.observed[:, 2], data.x[:, 2], 0.0))


@pytest.mark.parametrize(("adam", "chosen"), [((0.7, 0.7, 0.7), "adam"), ((0.9, 0.9, 0.6), "sgd-momentum")])
def test_adam_takes_the_presets_place_only_if_it_is_better_on_every_part(
    adam: tuple[float, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([score for part in adam for score in (0.6, part)])
    monkeypatch.setattr(learned, "train", lambda public, *_: public)
    monkeypatch.setattr(nine, "antolini_c", lambda *_: next(scores))

    assert nine.chosen_of(patients(60), 2, 0).update == chosen


def test_near_the_published_value_is_a_hundredth_or_one_standard_error() -> None:
    def near(*values: float) -> bool:
        return nine._near("WHAS", [{"SAVAE": value} for value in values])  # published: 0.74

    assert near(0.731, 0.731, 0.731, 0.731, 0.731)
    assert not near(0.729, 0.729, 0.729, 0.729, 0.729)
    assert near(0.62, 0.82, 0.62, 0.82, 0.72)
    assert near(0.99)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(CohortMissing, match=r"table GBSG: gbsg\.csv is missing"):
        nine.load("GBSG", tmp_path)


def test_a_learner_that_is_not_registered_is_not_there() -> None:
    with pytest.raises(NotThere, match="no-such-settings"):
        synthetic.found_by("no-such-settings")


def test_two_way_distance_of_known_tables() -> None:
    one, other = np.array([[0, 0], [1, 1]] * 50), np.array([[0, 1], [1, 0]] * 50)
    tables = [synthetic.two_way(codes, (2, 2)) for codes in (one, other)]

    assert synthetic.distance(tables[0], tables[0]) == 0.0
    assert synthetic.distance(*tables) == 1.0


def test_a_generator_learns_from_the_columns_it_may_draw_and_noise_is_repeatable() -> None:
    try:
        known = synthetic.table_of(load("CMML", cohorts.folder()), synthetic.SEVENTEEN)
    except CohortMissing as reason:
        pytest.skip(str(reason))
    again = [synthetic.learn("bayesnet-scores", known, known.data, 1.0, seed) for seed in (0, 0, 1)]
    exact = synthetic.learn("bayesnet-tables", known, known.data, None, 0)

    assert again[0].digest == again[1].digest != again[2].digest
    assert exact.dictionary.names == synthetic.SEVENTEEN
    assert len(known.data) == 255
    for column, x, seen in zip(known.dictionary.columns, known.data.x.T, known.data.observed.T, strict=True):
        numbers = column.values or (column.low, column.high)
        assert numbers[0] - 1e-9 <= x[seen].min()
        assert x[seen].max() <= numbers[-1] + 1e-9
        assert set(np.round(x[seen], 9)) <= set(np.round(column.values, 9)) or not column.values


@pytest.mark.parametrize("name", ["MDS", "CMML", "AML", "MM"])
def test_cohorts_have_tiers_that_grow_and_hospitals_that_are_large_enough(name: str) -> None:
    try:
        whole = load(name, cohorts.folder())
    except CohortMissing as reason:
        pytest.skip(str(reason))
    tiers = [set(columns.tolist()) for tier, columns in whole.tiers.items() if tier != "IPSS-M"]

    assert all(a < b for a, b in itertools.pairwise(tiers))
    assert np.abs(np.where(whole.data.observed, whole.data.x, 0.0)).max() < 10
    assert all(len(score) == len(whole.data) for score in whole.scores.values())
    assert all(harrell_c(s[k], whole.data.rows(k)) > 0.55 for s in whole.scores.values() for k in [np.isfinite(s)])
    if name == "MDS":
        sizes = np.bincount(whole.site)
        assert (len(sizes), sizes.min() >= 20, len(whole.data)) == (21, True, 2342)


def test_a_missing_cohort_is_named(tmp_path: Path) -> None:
    with pytest.raises(CohortMissing, match=r"cohort MDS: patients\.parquet is missing"):
        load("MDS", tmp_path)


@pytest.fixture(scope="module")
def searched() -> dict[str, Any]:
    section: dict[str, Any] = json.loads(tune.OUT.read_text())["diseases"]
    return section


@pytest.mark.parametrize("kind", sorted(tune.CANDIDATES))
def test_the_presets_of_diseases_are_what_other_cohorts_chose(searched: dict[str, Any], kind: str) -> None:
    tried = json.loads(json.dumps([dict(constants) for constants in tune.CANDIDATES[kind]]))
    rows = searched["search"].get(kind, {"rows": []})["rows"]
    learner, _, variant = kind.partition("-")

    assert [row["constants"] for row in rows] == tried[: len(rows)]
    for disease, votes in tune.VOTES.items():
        assert disease.upper() not in votes
        shipped = preset(f"{learner}-{disease}-{variant}")
        # What was not searched ships what was in use before.
        found = rows[tune.chosen(rows, votes, tune.EARLIER.get(kind, {}))]["constants"] if rows else tried[0]
        assert {name: shipped.to_json()[name] for name in found} == found, (disease, found)
        best = searched["recalibration"][variant][tune.recalibrated(searched["recalibration"][variant], votes)]
        assert (shipped.breslow_bound, shipped.breslow_pseudo_events) == (best["bound"], best["pseudo_events"])


def test_a_candidate_must_win_by_more_than_noise() -> None:
    rows = [{"c": {"A": 0.70, "B": 0.60}}, {"c": {"A": 0.71, "B": 0.59}}, {"c": {"A": 0.70, "B": 0.61}}]

    assert tune.chosen(rows, ["A", "B"]) == 2
    assert tune.chosen(rows, ["A"]) == 1
    assert tune.chosen(rows[:2], ["A", "B"]) == 0
    assert tune.chosen(rows, ["A"], {0: {"A": 0.71}, 1: {"A": 0.70}}) == 0
    assert tune.recalibrated([{"nll": {"A": 1.0}}, {"nll": {"A": 0.9}}], ["A"]) == 1


def test_the_steps_without_noise_are_the_best_that_the_first_search_found() -> None:
    found = FOUND["DeepSurv, (λ, κ, steps): BeatAML, METABRIC"]
    tried = {eval(key): scores for key, scores in found.items() if key.startswith("(")}  # noqa: S307 - our own constants

    best = max(tried, key=lambda key: sum(tried[key]))
    chosen = of_disease("MDS")
    assert (chosen.linear_penalty, chosen.hidden_penalty, chosen.steps) == best


def test_private_steps_are_the_best_that_were_found() -> None:
    found = FOUND["PRIVATE, (width, step size): BeatAML at ε = 1 and 3, METABRIC at ε = 1 and 3"]

    assert max(found, key=lambda key: sum(found[key])) == f"({PRIVATE.hidden[0]}, {PRIVATE.learning_rate})"
