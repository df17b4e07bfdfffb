"""The parts of a CTGAN: public lattice, rows and conditions, both networks, settings."""

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from dp.bookkeeping import ClippedGradients
from models.errors import ConfigError, MisuseError
from models.generators.ctgan import OPEN, PRIVATE, Settings, initial_weights, schedule
from models.generators.ctgan.adversaries import Adversaries, critic_of, generator_of
from models.generators.ctgan.arithmetic import BITS, normals, project, rounded, uniforms
from models.generators.ctgan.coding import Coding, Places
from models.generators.ctgan.form import Form, named
from models.generators.ctgan.settings import form_of
from models.generators.oneway import NORMAL_BOUND, OneWay
from tests.models.generators.cohorts import DICTIONARY, cohort

SMALL = replace(OPEN, name="small", units=8, critic_units=8, latent=4, rows=64, steps=3, uploads=4)
Float64 = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def coding(n: int = 800) -> Coding:
    release = OneWay(DICTIONARY)
    return Coding(release.decode(release.contribution(cohort(n)), 0.0))


def adversaries(settings: Settings = SMALL) -> Adversaries:
    made = Adversaries(settings, coding(), form_of(settings, DICTIONARY), b"seed")
    numbers = np.frombuffer(initial_weights(settings, DICTIONARY, b"w"), dtype="<f8")
    start = 0
    for module in (made.critic, made.generator):
        for parameter in module.parameters():
            part = numbers[start : start + parameter.numel()].reshape(tuple(parameter.shape))
            parameter.data.copy_(torch.from_numpy(part.copy()))
            start += parameter.numel()
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
    inside = project([weight / 13, bias / 13])
    assert np.array_equal(inside[0], weight / 13)
    # The norm is exactly rounded, whatever the order of the numbers.
    many = np.random.default_rng(0).normal(size=5000)
    assert np.array_equal(project([many])[0][::-1], project([many[::-1]])[0])


def test_public_draws() -> None:
    u, z = uniforms(b"a", (300, 200)), normals(b"a", (300, 200))
    assert u.min() > 0
    assert u.max() < 1
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


def test_what_the_critic_sees_tells_all_and_is_centred() -> None:
    made, data = coding(3000), cohort(3000)
    rows = made.rows(data)
    seen = made.seen(rows)
    assert np.abs(seen.mean(axis=0)).max() < 0.05
    assert seen.shape[1] == made.places.width - len(made.places.groups)
    assert len(np.unique(seen, axis=0)) == len(np.unique(rows, axis=0))


def test_a_row_is_its_patients_alone() -> None:
    made, data = coding(), cohort(300)
    order = np.random.default_rng(0).permutation(300)
    whole = made.seen(made.rows(data))
    assert np.array_equal(made.seen(made.rows(data.rows(order)))[:100], whole[order][:100])
    assert np.array_equal(made.seen(made.rows(data.rows(np.arange(7)))), whole[:7])


def test_conditions_have_released_frequencies() -> None:
    made, n = coding(), 200_000
    condition, target = made.conditions(np.random.default_rng(0).random((n, 2)))
    assert (condition.sum(axis=1) == 1).all()
    assert (target.sum(axis=1) == 1).all()
    for j, start in made.places.conditioned:
        group = made.places.groups[j]
        here = condition[:, start : start + group.stop - group.start]
        assert np.array_equal(here, target[:, group])
        named_ = here.sum()
        assert abs(named_ / n - 1 / len(made.places.conditioned)) < 0.01
        assert np.abs(here.sum(axis=0) / named_ - made.shares[group] / made.shares[group].sum()).max() < 0.01
    whole, _ = made.conditions(np.random.default_rng(0).random((5000, 2)), complete=True)
    ends = [start + DICTIONARY.columns[j].bins for j, start in made.places.conditioned[:-1]]
    assert condition[:, ends].any()
    assert not whole[:, ends].any()
    assert condition.shape[1] == made.places.conditions


# ---------------------------------------------------------------- both networks


def test_start_is_public_and_the_package_has_these_layers() -> None:
    form = form_of(SMALL, DICTIONARY)
    one, other = (initial_weights(SMALL, DICTIONARY, seed) for seed in (b"a", b"b"))
    assert one == initial_weights(SMALL, DICTIONARY, b"a") != other
    assert len(one) == 8 * (form.critic_length + form.generator_length)
    assert sum(p.numel() for p in critic_of(form).parameters()) == form.critic_length
    assert sum(p.numel() for p in generator_of(form).parameters()) == form.generator_length
    names = {name for name, _ in form.generator_layout}
    assert names == {name for name, _ in generator_of(form).named_parameters()}


def test_the_generator_in_numpy_is_the_packages() -> None:
    form = Form(4, (8, 6), (8,), Places(DICTIONARY).width, Places(DICTIONARY).conditions, 5)
    rng = np.random.default_rng(0)
    params, inputs = rng.normal(size=form.generator_length), rng.normal(size=(2000, 4 + form.conditions))
    statistics = form.settled(params, inputs)
    module = generator_of(form)
    module.load_state_dict(
        {
            **{name: torch.tensor(values) for name, values in named(params, form.generator_layout).items()},
            **{f"seq.{k}.bn.running_mean": torch.tensor(part[0]) for k, part in enumerate(statistics)},
            **{f"seq.{k}.bn.running_var": torch.tensor(part[1]) for k, part in enumerate(statistics)},
            **{f"seq.{k}.bn.num_batches_tracked": torch.tensor(1) for k in range(2)},
        }
    )
    wanted = module.eval()(torch.from_numpy(inputs)).detach().numpy()
    assert np.allclose(form.answers(params, statistics, inputs), wanted, atol=1e-10)
    batch = module.train()(torch.from_numpy(inputs)).detach().numpy()  # the statistics are those of the inputs
    assert np.allclose(batch, wanted, atol=1e-2)


def test_generated_rows_are_clipped_as_patients_are() -> None:
    made = adversaries(replace(SMALL, clip=0.3))
    with torch.no_grad():
        rows = made._generated("x")[0]
    kernel = ClippedGradients(made.critic, lambda module, x: module(x)[:, 0], clip=0.3)
    wanted = kernel.sum([rows]) / len(rows)
    found = np.concatenate([part.ravel() for part in made.of_critic("x")])
    assert np.abs(found - wanted).max() < 2e-5 * np.abs(wanted).max()
    loose = np.concatenate([part.ravel() for part in adversaries(replace(SMALL, clip=1e6)).of_critic("x")])
    assert np.abs(found - loose).max() > 0.1 * np.abs(loose).max()  # the clip matters here


def test_generated_rows_are_whole_levels() -> None:
    made = adversaries()
    rows = made._generated("x")[0].detach().numpy()
    centre, spread = coding().scale
    plain = rows * spread + centre
    levels = ~np.isin(coding().places.kept, [place for _, place in coding().places.scalars])
    assert np.allclose(plain[:, levels] * (1 - plain[:, levels]), 0, atol=1e-12)
    assert made.of_generator("x")[0].any()


def test_an_untrained_generator_answers_with_released_frequencies() -> None:
    made = adversaries(replace(SMALL, rows=4096))
    rows = made._generated("y")[0].detach().numpy()
    levels = ~np.isin(coding().places.kept, [place for _, place in coding().places.scalars])
    assert np.abs(rows[:, levels].mean(axis=0)).max() < 0.25


def test_projection_of_the_critic() -> None:
    made = adversaries()
    for parameter in made.critic.parameters():
        parameter.data.mul_(50.0)
    made.project()
    layers = [(p.detach().numpy()) for p in made.critic.parameters()]
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        assert (weight**2).sum() + (bias**2).sum() == pytest.approx(1, abs=1e-12)


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
        {"units": 5000},
        {"blocks": 9},
        {"critic_layers": 0},
        {"critic_units": 0},
        {"rows": 15},
        {"turns": 0},
        {"temperature": 0.0},
        {"condition_weight": -1.0},
        {"evenness": 1.5},
        {"steps": 0},
        {"uploads": 10},
        {"clip": 0.0},
        {"critic_rate": -1.0},
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
    with pytest.raises(MisuseError, match="parameters"):
        named(np.zeros(3), form.critic_layout)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctgan.synthesizers.ctgan", None)
    with pytest.raises(ConfigError, match=r"pip install 'haemfed\[ctgan\]'"):
        generator_of(form_of(SMALL, DICTIONARY))
    initial_weights(SMALL, DICTIONARY, b"w")  # a study can be planned without it
