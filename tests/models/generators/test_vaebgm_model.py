"""A released generator: its draws keep margins, bounds and levels, files bring it back, contradictions are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from dp.central import UnprotectedSum
from dp.releases.mixture import Mixture
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.dictionary import Column, Dictionary, Kind
from models.generators.generator import Generator, sample
from models.generators.oneway import Frequencies
from models.generators.vaebgm import OPEN, VAEBGM, initial_weights, train
from models.generators.vaebgm.coding import Answers
from models.generators.vaebgm.form import Form
from tests.models.generators.cohorts import DICTIONARY, GRID, cohort


@lru_cache
def generator(components: int = 4) -> VAEBGM:
    settings = replace(OPEN, hidden=8, latent=3, steps=40, uploads=44, learning_rate=0.05, components=components)
    weights = initial_weights(settings, DICTIONARY, b"seed")
    z = dict.fromkeys(settings.shares, 1.0)
    return train(settings, DICTIONARY, z, 4096, weights, cohort(3000), UnprotectedSum())


def wild() -> VAEBGM:
    """Parameters as noise might leave them."""
    made = generator(0)
    return replace(made, params=1.5 * np.random.default_rng(3).normal(size=made.form.length))


EVERY = pytest.mark.parametrize("made", [generator, lambda: generator(0), wild], ids=["mixture", "prior", "wild"])


@EVERY
def test_it_is_a_generator(made: Callable[[], VAEBGM]) -> None:
    found: Generator = made()
    assert found.learner == "vaebgm"
    assert found.dictionary == DICTIONARY
    one, same = sample(found, 200, 3), sample(found, 200, 3)
    assert np.array_equal(one.x, same.x)
    assert np.array_equal(one.duration, same.duration)
    assert not np.array_equal(one.duration, sample(found, 200, 4).duration)
    assert len(made().draw(0, np.random.default_rng(0))) == 0


@EVERY
def test_draws_keep_bounds_and_levels(made: Callable[[], VAEBGM]) -> None:
    data = made().draw(20_000, np.random.default_rng(1))
    for j, column in enumerate(DICTIONARY.columns):
        x = data.x[data.observed[:, j], j]
        if column.values:
            assert set(np.unique(x)) <= set(column.values)
        else:
            assert column.low <= x.min() < x.max() <= column.high
    assert (data.x[~data.observed] == 0).all()
    assert data.duration.min() >= 0
    assert data.duration.max() <= GRID[-1]


@EVERY
def test_every_column_has_its_released_frequencies_whatever_the_network_says(made: Callable[[], VAEBGM]) -> None:
    found = made()
    data = found.draw(60_000, np.random.default_rng(2))
    for j, column in enumerate(DICTIONARY.columns):
        drawn = np.bincount(column.codes(data.x[:, j], data.observed[:, j]), minlength=column.levels) / len(data)
        assert np.abs(drawn - found.frequencies.coarse(j)).max() < 0.03, column.name
    outcome = np.bincount(DICTIONARY.outcome_codes(data), minlength=9) / len(data)
    real = np.bincount(DICTIONARY.outcome_codes(cohort(3000)), minlength=9) / 3000
    assert np.abs(outcome - real).max() < 0.03


def test_complete_patients_have_every_value() -> None:
    found = generator()
    whole = replace(found, complete=True)
    data = whole.draw(4000, np.random.default_rng(2))

    assert not found.draw(4000, np.random.default_rng(2)).observed.all()
    assert data.observed.all()
    assert whole.digest == found.digest
    real = cohort(3000)
    for j in (3, 4, 5):
        assert abs(data.x[:, j].mean() - real.x[real.observed[:, j], j].mean()) < 0.04


def test_codes_come_from_the_mixture() -> None:
    found = generator()
    assert found.mixture is not None
    share = found.mixture.weights / found.mixture.weights.sum()
    mean = share @ found.mixture.means
    centred = found.mixture.means - mean
    spreads = found.form.spreads(found.form.arrays(found.params))
    covariance = np.einsum("k,kij->ij", share, found.mixture.covariances) + (centred.T * share) @ centred
    for n, atol in ((200_000, 0.03), (4000, 0.01)):  # a small table is drawn together: less chance in it
        codes = found.codes(n, np.random.default_rng(0))
        assert np.allclose(codes.mean(axis=0), mean, atol=atol)
        assert np.allclose(np.cov(codes.T), covariance + np.diag(spreads**2), atol=atol)
    assert np.allclose(np.cov(generator(0).codes(200_000, np.random.default_rng(0)).T), np.eye(3), atol=0.02)


def test_blocks_of_a_large_draw_are_joined() -> None:
    data = generator().draw(40_000, np.random.default_rng(5))
    assert len(data) == 40_000
    assert len(np.unique(data.duration)) > 20_000


@EVERY
def test_a_file_brings_it_back(made: Callable[[], VAEBGM]) -> None:
    found = made()
    again = VAEBGM.rebuild(DICTIONARY, found.structure(), found.tensors())
    assert again.digest == found.digest
    assert np.array_equal(again.draw(50, np.random.default_rng(0)).x, found.draw(50, np.random.default_rng(0)).x)


@pytest.mark.parametrize("part", ["patients", "frequencies", "params", "mixture", "bound"])
def test_every_released_number_is_in_the_digest(part: str) -> None:
    structure, tensors = generator().structure(), generator().tensors()
    if part == "bound":
        structure[part] = 4.5
    else:
        numbers = tensors[part].copy()
        numbers[0] += 1e-9 if part != "patients" else 1
        tensors[part] = numbers
    assert VAEBGM.rebuild(DICTIONARY, structure, tensors).digest != generator().digest


Change = Callable[[dict[str, Any], dict[str, Float64]], object]


def _set(where: str, value: object) -> Change:
    return lambda structure, _: structure.__setitem__(where, value)


def _numbers(where: str, value: Callable[[Float64], Float64]) -> Change:
    return lambda _, tensors: tensors.__setitem__(where, value(tensors[where].copy()))


def _first(value: float) -> Callable[[Float64], Float64]:
    def change(numbers: Float64) -> Float64:
        numbers[0] = value
        return numbers

    return change


def _nobody(numbers: Float64) -> Float64:
    numbers[1] += numbers[0]
    numbers[0] = 0.0
    return numbers


def _upper(numbers: Float64) -> Float64:
    numbers[-4] = 0.5  # second row, third column of the last factor
    return numbers


@pytest.mark.parametrize(
    "change",
    [
        _set("latent", 4),
        _set("latent", True),
        _set("hidden", 9),
        _set("hidden", "8"),
        _set("components", 3),
        _set("components", -1),
        _set("components", 10**12),
        _set("bound", 4),
        _set("bound", -4.0),
        _set("bound", float("inf")),
        _set("more", 1),
        lambda structure, _: structure.pop("latent"),
        lambda _, tensors: tensors.pop("mixture"),
        lambda _, tensors: tensors.__setitem__("more", np.zeros(1)),
        _numbers("params", lambda v: v[:-1]),
        _numbers("params", lambda v: v.astype(np.float32)),
        _numbers("params", _first(np.nan)),
        _numbers("frequencies", lambda v: v * 2),
        _numbers("frequencies", _nobody),
        _numbers("frequencies", _first(-0.1)),
        _numbers("patients", _first(np.nan)),
        _numbers("patients", lambda v: np.append(v, 1.0)),
        _numbers("mixture", lambda v: -v),
        _numbers("mixture", _first(0.0)),
        _numbers("mixture", _first(np.inf)),
        _numbers("mixture", _upper),
    ],
    ids=range(26),
)
def test_what_contradicts_itself_is_no_generator(change: Change) -> None:
    structure, tensors = dict(generator().structure()), dict(generator().tensors())
    change(structure, tensors)
    with pytest.raises(MisuseError):
        VAEBGM.rebuild(DICTIONARY, structure, tensors)


def test_a_file_with_a_huge_mixture_is_refused_for_its_number() -> None:
    structure = {**generator().structure(), "components": 65}
    with pytest.raises(MisuseError, match="0 to 64"):
        VAEBGM.rebuild(DICTIONARY, structure, generator().tensors())


def test_a_generator_of_another_dictionary_or_mixture_is_refused() -> None:
    found = generator()
    with pytest.raises(MisuseError, match="form"):
        replace(found, form=Form(found.form.width + 1, 2, 3, 8, 4.0))
    with pytest.raises(MisuseError, match="lengths"):
        replace(found, mixture=Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None]))


def test_columns_of_one_kind_alone() -> None:
    for column in (Column("g", Kind.BINARY, (0.0, 1.0)), Column("a", Kind.CONTINUOUS, low=0.0, high=3.0, edges=(1.0,))):
        only = Dictionary((column,), GRID)
        even = np.full(column.fine_bins + 1, 1 / (column.fine_bins + 1))
        outcome = np.full(only.fine.outcome_levels, 1 / only.fine.outcome_levels)
        numbers = int(column.kind is Kind.CONTINUOUS)
        form = Form(2 + 9 if not numbers else 1 + 1 + 9, numbers, 2, 0, 3.0)
        data: SurvivalData = VAEBGM(
            Frequencies(only, (even, outcome), 10.0), form, form.start(b"s", Answers(only).risk)
        ).draw(500, np.random.default_rng(0))
        assert 0 < data.observed.mean() < 1
        assert data.x.max() <= 3
