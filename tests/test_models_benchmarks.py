"""The parts of benchmarks/models that decide what its figures mean. Nothing here measures."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import cohorts
from benchmarks.cohorts import CohortMissing
from benchmarks.models import arms, centres, learned, nine, run, synthetic, tune
from benchmarks.models import network as network_module
from benchmarks.models.centres import Fold, difference
from benchmarks.models.cohorts import Hospitals, load
from benchmarks.models.drugs import Drugs, beside
from benchmarks.models.network import Network, Settings, Table, penalised, rounds, train
from benchmarks.models.settings import FOUND, PRIVATE, apart, of_disease
from benchmarks.sections import NotThere, section_of
from dp.optimizer import Adam, PublicUpdate
from models.data import SurvivalData, exposures, inputs
from models.deepsurv import DeepSurv, flat, pour
from models.learners import trainable
from models.losses import Batch
from models.metrics import harrell_c
from models.predict import SurvivalModel
from models.presets import preset
from models.training import initial_weights, ridge

GRID = (0.0, 365.25, 730.5, 1826.25)
SMALL = Settings(3, 2, 5.0, 5.0, 0.02, 30, GRID, -0.5)


def patients(count: int, seed: int = 0) -> SurvivalData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    death, lost = rng.exponential(500, count) * np.exp(-x[:, 0]) + 1, rng.exponential(1500, count)
    return SurvivalData(x, rng.random(x.shape) > 0.1, np.minimum(death, lost) + 1, death <= lost)


def member(network: Network, which: int) -> DeepSurv:
    base, skip, weight, bias, out = network.params
    h = out.shape[1]
    rows = slice(which * h, (which + 1) * h)
    model = DeepSurv(3, (h,), base.shape[1])
    for p, value in zip(
        model.parameters(), (base[which], skip[which], weight[rows], bias[rows], out[which]), strict=True
    ):
        p.data = torch.from_numpy(value.astype(np.float64)).reshape(p.shape)
    return model


def test_members_are_the_products_network_with_its_loss_and_gradient() -> None:
    data = patients(80)
    network = Network([p + np.float32(0.1) for p in Network.start(SMALL, 6, 0).params])
    table = Table.of(data, GRID)
    gradient = network.gradient(table)
    for which in range(2):
        model = member(network, which)
        loss = model.per_patient_loss(Batch.of(data.bounded(GRID[-1]), GRID)).sum()
        loss.backward()
        assert network.loss(table)[which] == pytest.approx(loss.item(), rel=1e-4)
        ours = np.concatenate([g.reshape(2, -1)[which] for g in gradient])
        theirs = np.concatenate([p.grad.numpy().ravel() for p in model.parameters() if p.grad is not None])
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-2)


def test_lockstep_is_pooled_training() -> None:
    data, sites = patients(120), np.arange(120) % 4
    pooled, _ = train(SMALL, [Table.of(data, GRID)], 1)
    shared, steps = train(SMALL, [Table.of(data.rows(sites == s), GRID) for s in range(4)], 1)

    assert steps == 30
    assert shared.risk(data) == pytest.approx(pooled.risk(data), abs=1e-3)
    assert harrell_c(pooled.risk(data), data) > 0.6


def test_early_stopping_returns_the_network_with_the_lowest_watched_loss() -> None:
    data, other = patients(40), Table.of(patients(200, 1), GRID)
    long = replace(SMALL, linear_penalty=0.0, hidden_penalty=0.0, learning_rate=0.1, steps=400)
    stopped, at = train(long, [Table.of(data, GRID)], 0, [other])
    last, _ = train(long, [Table.of(data, GRID)], 0)
    again, _ = train(replace(long, steps=at), [Table.of(data, GRID)], 0)

    assert 0 < at < 400
    assert stopped.loss(other).sum() < last.loss(other).sum()
    assert np.array_equal(stopped.params[1], again.params[1])


def test_fedavg_of_equal_hospitals_is_one_hospital_and_fedprox_stays_nearer() -> None:
    table, far = Table.of(patients(60), GRID), Table.of(patients(60, 5), GRID)
    one = rounds(SMALL, [table], 0, 2, 5)
    three = rounds(replace(SMALL, linear_penalty=15.0, hidden_penalty=15.0), [table] * 3, 0, 2, 5)
    start = Network.start(SMALL, 6, 0).params[1]

    assert three.params[1] == pytest.approx(one.params[1], abs=1e-4)
    near, free = (rounds(SMALL, [table, far], 0, 1, 20, proximal) for proximal in (10.0, 0.0))
    assert np.linalg.norm(near.params[1] - start) < np.linalg.norm(free.params[1] - start)


def test_penalties_weigh_on_the_sum() -> None:
    network = Network([np.ones_like(p) for p in Network.start(SMALL, 6, 0).params])
    nothing = [np.zeros_like(p) for p in network.params]
    found = penalised(network, nothing, replace(SMALL, hidden_penalty=7.0), 10.0, 50.0)

    assert [float(g.max()) for g in found] == pytest.approx([0.0, 0.1, 0.14, 0.0, 0.14])


def test_the_product_and_the_fast_network_take_the_same_steps() -> None:
    """In float64 and without a clip: loss, penalties, Adam, and the mean of the members."""
    data = patients(80).bounded(GRID[-1])
    one = replace(
        preset("deepsurv-mds-open"), hidden=(3,), members=2, linear_penalty=5.0, hidden_penalty=7.0, grid=GRID
    )
    one = replace(one, calibration_times=(365.25,), learning_rate=0.02, initial_log_hazard=-0.5)
    weights = initial_weights(one, 3, b"seed")
    made = trainable(one, 3)
    pour(made.module, weights)
    update, add = PublicUpdate(made.module.parameters(), Adam(0.02)), ridge(made.module, made.penalties, 1 / 80)
    start = SurvivalModel.as_trained(("a", "b", "c"), one.network, GRID, weights)._arrays
    names = ("baseline.weight", "skip.weight", "hidden.0.weight", "hidden.0.bias", "out.weight")
    stacked = [np.stack([start[f"members.{e}.{name}"] for e in (0, 1)]) for name in names]
    shapes = ((2, 3), (2, 6), (6, 6), (6,), (2, 3))
    network = Network([p.reshape(shape) for p, shape in zip(stacked, shapes, strict=True)])  # type: ignore[misc]
    at_risk, deaths = exposures(data, GRID)
    table, fast = Table(inputs(data.x, data.observed), at_risk, deaths), network_module.Adam(0.02)  # type: ignore[arg-type]
    settings = replace(SMALL, linear_penalty=5.0, hidden_penalty=7.0)
    for _ in range(30):
        network = Network(fast.step(network.params, penalised(network, network.gradient(table), settings, 80)))
        made.module.zero_grad()
        (made.losses(made.module, *made.columns(data)).sum() / 80).backward()  # type: ignore[no-untyped-call]
        add(None)
        update.step()

    model = SurvivalModel.as_trained(("a", "b", "c"), one.network, GRID, flat(made.module))
    for which, name in enumerate(names):
        ours = np.concatenate([model._arrays[f"members.{e}.{name}"].ravel() for e in (0, 1)])
        assert ours == pytest.approx(network.params[which].ravel(), abs=1e-9), name
    mean = network.risks(table.z).mean(axis=1)
    assert model.risk(data.x, data.observed) == pytest.approx(mean, abs=1e-9)
    assert np.abs(mean).max() > 0.1


def test_training_by_the_product_is_that_of_the_fast_network_but_for_the_first_weights() -> None:
    data, held = patients(400), patients(400, 9)
    pooled = arms.deepsurv("MDS", data, 0)(held)
    shared = arms.lockstep("MDS", data, np.arange(400) % 5, 0)(held)
    fast, _ = train(apart("MDS"), [Table.of(data, of_disease("MDS").grid)], 0)

    assert shared == pytest.approx(pooled, abs=1e-6)
    assert harrell_c(pooled, held) == pytest.approx(harrell_c(fast.risk(held), held), abs=0.003)
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
