"""The parts of a CTGAN: public lattice, rows and conditions, generator and critic, settings."""

import math
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from ctgan.synthesizers.ctgan import Discriminator

from models.deepsurv import pour
from models.errors import ConfigError, MisuseError
from models.generators.ctgan import OPEN, PRIVATE, Settings, initial_weights, schedule
from models.generators.ctgan.adversaries import Adversaries, generator_of
from models.generators.ctgan.arithmetic import BITS, normals, project, rounded, uniforms
from models.generators.ctgan.coding import Coding, Places
from models.generators.ctgan.form import CERTAIN, Form, named
from models.generators.ctgan.settings import form_of, pair_weights
from models.generators.ctgan.training import clipped_products
from models.generators.oneway import NORMAL_BOUND, OneWay
from tests.models.generators.cohorts import DICTIONARY, cohort

SMALL = replace(OPEN, name="small", units=8, latent=4, rows=64, turns=2, steps=3, uploads=4)
Float64 = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def coding(n: int = 800) -> Coding:
    release = OneWay(DICTIONARY)
    return Coding(release.decode(release.contribution(cohort(n)), 0.0))


def adversaries(settings: Settings = SMALL) -> Adversaries:
    made = Adversaries(settings, coding(), form_of(settings, DICTIONARY), b"seed")
    pour(made.generator, initial_weights(settings, DICTIONARY, b"w"))
    return made


# ---------------------------------------------------------------- the lattice


def test_last_bits_are_rounded_away() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=20_000) * 10.0 ** rng.integers(-6, 1, size=20_000)
    nearly = values * (1 + 1e-15 * rng.normal(size=values.shape))

    assert not np.array_equal(values, nearly)
    assert np.array_equal(rounded(values), rounded(nearly))
    assert np.abs(rounded(values) - values).max() <= np.abs(values).max() * 2.0**-BITS
    assert len(np.unique(rounded(rng.uniform(0.5, 1.0, 200_000)))) <= 2 ** (BITS - 1) + 1


@pytest.mark.parametrize("values", [[0.0, -0.0], [np.nan, np.inf], [5e-324, 1e-310], [1e-17, -3e-18]], ids=str)
def test_what_is_no_number_or_an_error_becomes_zero(values: list[float]) -> None:
    assert rounded(np.array(values)).tolist() == [0.0, 0.0]


def test_the_lattice_of_a_power_of_two_is_that_of_numbers_below_it() -> None:
    step = 2.0**-BITS
    assert rounded(np.array([1.0, 0.7 * step])).tolist() == [1.0, step]
    assert rounded(np.array([1.0 + 2**-52, 0.7 * step])).tolist() == [1.0, 0.0]  # one bit above: twice the step


def test_projection() -> None:
    weight, bias = np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([12.0, 0.0])
    found = project([weight, bias])
    assert [part.tolist() for part in found] == [(weight / 13).tolist(), (bias / 13).tolist()]
    inside = project([weight / 26, bias / 26])
    assert [part.tolist() for part in inside] == [(weight / 26).tolist(), (bias / 26).tolist()]
    # The norm is exactly rounded, whatever the order of the numbers: added one by one, the small squares vanish.
    many = np.append(1.0, np.full(4096, 2.0**-27))
    for order in (many, many[::-1]):
        assert project([order])[0].max() == 1.0 / math.sqrt(1.0 + 2.0**-42)


def test_public_draws() -> None:
    u, z = uniforms(b"a", (300, 200)), normals(b"a", (300, 200))
    assert u.min() > 0
    assert u.max() < 1
    assert (u * 2.0**53 % 2 == 1).all()  # so neither 0 nor 1 is among all that could be drawn
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.01
    assert not np.array_equal(u, uniforms(b"b", (300, 200)))
    assert uniforms(b"a", (2,)).tolist() == u[0, :2].tolist()  # a prefix: SHAKE


# ---------------------------------------------------------------- rows and conditions


def test_rows_hold_one_level_of_every_column() -> None:
    made, data = coding(), cohort(400)
    rows, codes = made.rows(data), DICTIONARY.codes(data)
    for j, group in enumerate(made.places.groups):
        assert (rows[:, group].sum(axis=1) == 1).all()
        assert set(np.unique(rows[:, group])) <= {0.0, 1.0}
        if j >= 2:  # columns of values, and follow-up
            assert np.array_equal(rows[:, group].argmax(axis=1), codes[:, j])
        else:
            assert np.array_equal(rows[:, group.stop - 1] == 1, ~data.observed[:, j])
    scalars = rows[:, [place for _, place in made.places.scalars]]
    assert np.abs(scalars).max() <= 1
    assert (scalars[~data.observed[:, :2]] == 0).all()
    observed = [scalars[data.observed[:, j], j] * NORMAL_BOUND for j in range(2)]
    assert all(abs(s.mean()) < 0.1 and abs(s.std() - 1) < 0.1 for s in observed)
    assert rows.shape == (400, made.places.width)


def test_sights_tell_all_and_have_mean_zero() -> None:
    made, data = coding(3000), cohort(3000)
    rows = made.rows(data)
    seen = made.sights(rows)
    assert np.abs(seen.mean(axis=0)).max() < 0.05
    assert seen.shape[1] == len(made.places.columns) == len(made.places.kept) + 1
    before = made.places.groups[-1].start
    assert len(np.unique(seen[:, :-1], axis=0)) == len(np.unique(rows[:, :before], axis=0))
    assert made.places.columns[-1] == 6
    halved = Coding(made.frequencies, missing_weight=0.5).sights(rows)
    missing = np.append(np.isin(made.places.kept, [group.stop - 1 for group in made.places.groups[:-1]]), [False])
    assert missing.sum() == 6  # "not observed" of every column, and no value of any
    assert np.allclose(halved[:, missing], seen[:, missing] / 2)
    assert np.array_equal(halved[:, ~missing], seen[:, ~missing])


def test_a_rare_level_weighs_nearly_as_much_as_a_frequent_one() -> None:
    made, data = coding(3000), cohort(3000)
    variance = made.sights(made.rows(data)).var(axis=0)[:-1]
    share = made.shares[made.places.kept]
    levels = share > 0
    assert share[levels].min() < 0.2
    wanted = share * (1 - share) / (share * (1 - share) + made.evenness)
    assert np.abs(variance - wanted)[levels].max() < 0.03
    assert variance[~levels] == pytest.approx(0.9, abs=0.1)  # scores of the nine in ten that are observed


def test_risk_is_the_log_rank_score() -> None:
    made = coding(3000)
    share = made.shares[made.places.groups[-1]]
    k = DICTIONARY.intervals
    found, alive, hazard = np.zeros(2 * k + 1), 1.0, 0.0
    for j in range(k):  # those who leave in an interval are at risk for half of it
        rate = share[j] / (alive - (share[j] + share[k + j]) / 2)
        found[[j, k + j]] = 1 - hazard - rate / 2, -hazard - rate / 2
        alive, hazard = alive - share[j] - share[k + j], hazard + rate
    found[-1] = -hazard
    assert np.allclose(made.risk, found / np.sqrt((share * found**2).sum()))
    assert (share * made.risk).sum() == pytest.approx(0, abs=1e-12)
    assert (share * made.risk**2).sum() == pytest.approx(1)
    assert (np.diff(made.risk[:k]) < 0).all()  # an early death tells more of a patient
    assert (made.risk[:k] > made.risk[k : 2 * k]).all()
    assert made.risk[-1] == made.risk.min()


def test_pairs_are_of_two_columns() -> None:
    places = Places(DICTIONARY)
    first, second = places.pairs
    assert (first < second).all()
    assert (places.columns[first] != places.columns[second]).all()
    weights = pair_weights(replace(SMALL, pair_weight=0.25), places)
    assert set(weights[second == len(places.kept)]) == {1.0}
    assert set(weights[second < len(places.kept)]) == {0.25}


def test_a_row_is_its_patients_alone() -> None:
    made, data = coding(), cohort(300)
    order = np.random.default_rng(0).permutation(300)
    whole = made.sights(made.rows(data))
    assert np.array_equal(made.sights(made.rows(data.rows(order)))[:100], whole[order][:100])
    assert np.array_equal(made.sights(made.rows(data.rows(np.arange(7)))), whole[:7])


def test_conditions_have_released_frequencies() -> None:
    made, n = coding(), 200_000
    condition = made.conditions(np.random.default_rng(0).random(n))
    assert (condition.sum(axis=1) == 1).all()
    assert np.abs(condition.mean(axis=0) - made.shares[made.places.groups[-1]]).max() < 0.005
    assert condition.shape[1] == made.places.conditions == DICTIONARY.outcome_levels


# ---------------------------------------------------------------- generator and critic


def test_start_is_public_and_the_package_has_these_layers() -> None:
    form = form_of(SMALL, DICTIONARY)
    one, other = (initial_weights(SMALL, DICTIONARY, seed) for seed in (b"a", b"b"))
    assert one == initial_weights(SMALL, DICTIONARY, b"a") != other
    assert len(one) == 8 * form.length
    assert sum(p.numel() for p in generator_of(form).parameters()) == form.length
    names = {name for name, _ in form.layout}
    assert names == {name for name, _ in generator_of(form).named_parameters()}


def test_the_generator_in_numpy_is_the_packages() -> None:
    form = Form(4, (8, 6), Places(DICTIONARY).width, Places(DICTIONARY).conditions)
    rng = np.random.default_rng(0)
    params, inputs = rng.normal(size=form.length), rng.normal(size=(2000, 4 + form.conditions))
    statistics = form.settled(params, inputs)
    module = generator_of(form)
    module.load_state_dict(
        {
            **{name: torch.tensor(values) for name, values in named(params, form.layout).items()},
            **{f"seq.{k}.bn.running_mean": torch.tensor(part[0]) for k, part in enumerate(statistics)},
            **{f"seq.{k}.bn.running_var": torch.tensor(part[1]) for k, part in enumerate(statistics)},
            **{f"seq.{k}.bn.num_batches_tracked": torch.tensor(1) for k in range(2)},
        }
    )
    wanted = module.eval()(torch.from_numpy(inputs)).detach().numpy()
    own = slice(0, -form.conditions)
    found = form.answers(params, statistics, inputs)
    assert np.allclose(found[:, own], wanted[:, own], atol=1e-10)
    assert np.array_equal(found[:, -form.conditions :], CERTAIN * inputs[:, -form.conditions :])
    batch = module.train()(torch.from_numpy(inputs)).detach().numpy()  # the statistics are those of the inputs
    assert np.allclose(batch, wanted, atol=1e-3)


def test_the_critic_is_the_packages_without_hidden_layer() -> None:
    settings = replace(SMALL, pair_weight=0.25, margin_weight=0.5)
    made, w = adversaries(settings), np.random.default_rng(0).normal(size=len(Places(DICTIONARY).pairs[0]))
    first, second = made._pairs
    sights = made._sights(made._generated("x")[0])
    theirs = Discriminator(len(w), (), pac=1).double()
    with torch.no_grad():
        theirs.seq[0].weight[0], theirs.seq[0].bias[0] = torch.from_numpy(w), 0.0
    products = sights[:, first] * sights[:, second] * torch.from_numpy(pair_weights(settings, Places(DICTIONARY)))
    loss = 0.5 * made._away(*made._generated("x")) - theirs(products).mean()
    wanted = torch.autograd.grad(loss, list(made.generator.parameters()))
    for found, part in zip(made.of_generator("x", w), wanted, strict=True):
        assert np.abs(found - part.numpy()).max() <= 2e-5 * np.abs(part.numpy()).max() + 1e-12
    assert np.allclose(made.moments("x"), products.detach().mean(dim=0), atol=1e-4)


def test_generated_margins_are_pulled_to_the_released_ones() -> None:
    made, released = adversaries(), coding()
    shares = torch.from_numpy(np.tile(released.shares, (10, 1)))
    places = [place for _, place in released.places.scalars]
    observed = released.shares[[place + 1 for place in places]]
    scores = observed * np.sqrt(released.powers)
    signs = np.repeat([1.0, -1.0], 5)[:, None]

    def away(scores: Float64, shares: torch.Tensor = shares) -> float:
        rows = shares.clone()
        rows[:, places] = torch.from_numpy(scores / NORMAL_BOUND)
        return float(made._away(rows, shares))

    assert away(signs * scores) == pytest.approx(0, abs=1e-12)
    assert away(abs(signs) * scores) == pytest.approx((scores**2).sum())  # their mean
    assert away(2 * signs * scores) == pytest.approx((9 * released.powers**2).sum())  # their mean square
    level = int(released.places.groups[3].start)
    other, share = shares.clone(), released.shares[level]
    other[:, level] += 0.1
    other[:, -1] += 0.1  # follow-up is given
    assert away(signs * scores, other) == pytest.approx(0.01 / (share * (1 - share) + SMALL.evenness))


def test_products_of_patients_are_summed_and_clipped() -> None:
    made, data, settings = coding(), cohort(700), replace(SMALL, pair_weight=0.25)
    first, second = made.places.pairs
    sights = made.sights(made.rows(data))
    products = sights[:, first] * sights[:, second] * pair_weights(settings, made.places)
    assert np.allclose(clipped_products(settings, made, data), products.sum(axis=0), atol=1e-3)
    tight = replace(settings, clip=0.5)
    norms = np.linalg.norm(products, axis=1)
    wanted = (products * np.minimum(1.0, 0.5 / norms)[:, None]).sum(axis=0)
    assert np.allclose(clipped_products(tight, made, data), wanted, atol=1e-3)
    assert not np.allclose(clipped_products(settings, made, data), wanted, atol=1.0)


def test_moments_are_those_of_rows_that_could_be_drawn() -> None:
    made = adversaries(replace(SMALL, rows=2048))
    with torch.no_grad():
        for part in made.generator.parameters():
            part.mul_(2.0)  # columns go together
    inputs = made.inputs("x", 2048)
    answers = (made.generator(torch.from_numpy(inputs)) + made._offsets).detach().numpy()
    shares = made._generated("x")[1].detach()
    places, rng = coding().places, np.random.default_rng(0)
    assert np.array_equal(shares[:, places.groups[-1]].numpy(), inputs[:, SMALL.latent :])  # the condition is kept
    drawn = np.zeros((40 * len(shares), places.width))
    for group in places.groups:
        ladder = np.cumsum(np.repeat(shares[:, group].numpy(), 40, axis=0), axis=1)
        level = (rng.random((len(drawn), 1)) * ladder[:, -1:] >= ladder).sum(axis=1)
        drawn[np.arange(len(drawn)), group.start + level] = 1.0
    for _, place in places.scalars:
        drawn[:, place] = np.repeat(np.tanh(answers[:, place]), 40) * drawn[:, place + 1]
    sights = coding().sights(drawn)
    first, second = places.pairs
    wanted = (sights[:, first] * sights[:, second]).mean(axis=0)
    assert np.abs(wanted - made.moments("x")).max() < 0.03


def test_an_untrained_generator_answers_with_released_frequencies() -> None:
    shares = adversaries(replace(SMALL, rows=4096))._generated("y")[1].detach().numpy()
    levels = ~np.isin(np.arange(shares.shape[1]), [place for _, place in coding().places.scalars])
    assert np.abs(shares.mean(axis=0) - coding().shares)[levels].max() < 0.05


# ---------------------------------------------------------------- settings and the extra


@pytest.mark.parametrize("settings", [OPEN, PRIVATE], ids=lambda s: s.name)
def test_settings_come_back(settings: Settings) -> None:
    assert Settings.from_json(settings.to_json()) == settings
    assert replace(settings, clip=7.0).digest() != settings.digest()
    assert sum(settings.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "change",
    [
        {"latent": 0},
        {"latent": 4097},
        {"units": 0},
        {"units": 5000},
        {"blocks": 0},
        {"blocks": 9},
        {"rows": 15},
        {"rows": 4097},
        {"turns": 0},
        {"turns": 10_001},
        {"pair_weight": 1.5},
        {"pair_weight": -0.1},
        {"missing_weight": 1.5},
        {"missing_weight": -0.1},
        {"margin_weight": -1.0},
        {"memory": 1.0},
        {"memory": -0.1},
        {"evenness": 0.0},
        {"evenness": 1.5},
        {"steps": 0},
        {"steps": 10_001, "uploads": 20_000},
        {"uploads": 1},
        {"clip": 0.0},
        {"generator_rate": 0.0},
        {"generator_rate": float("inf")},
        {"momentum": 1.0},
        {"averaging": 1.0},
    ],
    ids=str,
)
def test_settings_out_of_range(change: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match="ctgan-open"):
        Settings.from_json({**OPEN.to_json(), **change})


@pytest.mark.parametrize("change", [{"more": 1}, {"units": 3.0}, {"units": True}, {"name": 1}, {"clip": "1"}], ids=str)
def test_settings_of_another_form(change: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match="field"):
        Settings.from_json({**OPEN.to_json(), **change})


def test_a_kind_without_a_multiplier() -> None:
    with pytest.raises(ConfigError, match="gradient"):
        schedule(OPEN, DICTIONARY, {"histogram": 1.0}, 4096)


def test_parameters_of_another_network() -> None:
    form = form_of(SMALL, DICTIONARY)
    for params in (np.zeros(3), np.full(form.length, np.nan)):
        with pytest.raises(MisuseError, match="parameters"):
            named(params, form.layout)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctgan.synthesizers.ctgan", None)
    with pytest.raises(ConfigError, match=r"pip install 'haemfed\[ctgan\]'"):
        generator_of(form_of(SMALL, DICTIONARY))
    initial_weights(SMALL, DICTIONARY, b"w")  # a study can be planned without it
