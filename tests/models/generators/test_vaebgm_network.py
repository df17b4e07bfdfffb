"""Coding, network and loss: what is a function of one patient, and what torch and scipy say of the same numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from opacus.validators import ModuleValidator
from scipy.stats import norm

from dp.bookkeeping import ClippedGradients
from dp.central import UnprotectedSum
from models.data import Float64, SurvivalData
from models.deepsurv import pour
from models.errors import MisuseError
from models.generators.dictionary import Column, Dictionary, Kind
from models.generators.oneway import Frequencies, OneWay
from models.generators.vaebgm import OPEN, initial_weights
from models.generators.vaebgm.autoencoder_network import Autoencoder
from models.generators.vaebgm.coding import Answers, Coding
from models.generators.vaebgm.form import LOG_SCALE, LOG_VARIANCE, Form
from models.generators.vaebgm.settings import form_of
from models.networks.base import parameter_count
from models.savae import noise
from tests.models.generators.cohorts import DICTIONARY, GRID, cohort

ANSWERS = Answers(DICTIONARY)
FORMS = [Form(ANSWERS.width, 2, 3, hidden, 3.0) for hidden in (0, 5)]
BOTH = pytest.mark.parametrize("form", FORMS, ids=["linear", "curved"])


def frequencies(data: SurvivalData) -> Frequencies:
    release = OneWay(DICTIONARY)
    return release.decode(UnprotectedSum()(release.query(1.0, 4096), lambda: release.contribution(data)), 0.0)


@lru_cache
def coding() -> Coding:
    return Coding(frequencies(cohort(2000)))


def parameters(form: Form, scale: float = 0.3) -> Float64:
    return scale * np.random.default_rng(1).normal(size=form.length)


def network(form: Form) -> Autoencoder:
    made = Autoencoder(form, ANSWERS)
    pour(made, parameters(form).astype("<f8").tobytes())
    return made


def columns(data: SurvivalData) -> list[torch.Tensor]:
    targets = coding().targets(data)
    inputs = coding().inputs(targets)
    return [torch.from_numpy(np.ascontiguousarray(c)) for c in (inputs, *targets, noise(inputs, 3))]


def losses(module: Autoencoder, u: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    return module.per_patient_loss(u, rest[:-1], rest[-1], torch.from_numpy(coding().offsets), 0.7)


# ---------------------------------------------------------------- coding


def test_the_answers_have_a_place_each() -> None:
    assert (ANSWERS.numbers, ANSWERS.binary, ANSWERS.listed) == ((0, 1), (3, 4, 5), (2,))
    assert ANSWERS.bits == 3 + 6
    assert ANSWERS.groups == (slice(0, 3), slice(3, 3 + DICTIONARY.outcome_levels))
    assert ANSWERS.width == 2 + 9 + 3 + 9


def test_scores_are_mean_normal_numbers_between_the_quantiles_of_a_bin() -> None:
    data = cohort(2000)
    scores, seen, *_ = coding().targets(data)
    for k in range(2):
        share = coding().frequencies.observed(k)
        codes = DICTIONARY.columns[k].fine_codes(data.x[:, k], data.observed[:, k])
        edges = norm.ppf(np.concatenate([[0.0], np.cumsum(share)[:-1], [1.0]]))
        for code in np.unique(codes[data.observed[:, k]]):
            expected = norm.expect(lambda v: v, lb=edges[code], ub=edges[code + 1], conditional=True)
            assert np.allclose(scores[codes == code, k], expected, atol=1e-6)
        assert (scores[~data.observed[:, k], k] == 0).all()
        assert np.array_equal(seen[:, k] == 1, data.observed[:, k])
        assert abs(scores[:, k].sum() / seen[:, k].sum()) < 0.01
        assert 0.9 < (scores[:, k] ** 2).sum() / seen[:, k].sum() < 1.0


def test_half_the_patients_at_one_value_have_a_score_in_the_middle_of_them() -> None:
    column = Column("c", Kind.CONTINUOUS, low=0.0, high=8.0, edges=(1.0, 2.0))
    dictionary = Dictionary((column,), GRID)
    share = np.full(column.fine_bins + 1, 1e-9)
    share[0], share[-2] = 0.5, 0.5
    outcome = np.full(dictionary.fine.outcome_levels, 1 / dictionary.fine.outcome_levels)
    found = Coding(Frequencies(dictionary, (share / share.sum(), outcome), 100.0))
    data = SurvivalData(np.array([[0.0], [8.0]]), np.ones((2, 1)) == 1, np.ones(2), np.ones(2) == 1)

    assert np.allclose(found.targets(data)[0][:, 0], [-math.sqrt(2 / math.pi), math.sqrt(2 / math.pi)], atol=1e-5)


def test_targets_say_the_codes_and_inputs_are_centred() -> None:
    data = cohort(2000)
    codes = DICTIONARY.codes(data)
    targets = coding().targets(data)
    _, _, bits, counted, levels = targets
    inputs = coding().inputs(targets)

    for k, j in enumerate((3, 4, 5)):
        assert np.array_equal(bits[:, k] == 1, codes[:, j] == 1)
        assert np.array_equal(counted[:, k] == 1, data.observed[:, j])
    assert np.array_equal(bits[:, 3:] == 0, data.observed)
    assert (counted[:, 3:] == 1).all()
    for group, j in zip(ANSWERS.groups, (2, 6), strict=True):
        hot = levels[:, group]
        some = hot.sum(axis=1) == 1
        assert np.array_equal(hot[some].argmax(axis=1), codes[some, j])
        assert np.array_equal(some, data.observed[:, 2] if j == 2 else np.ones(2000) == 1)
    assert inputs.shape == (2000, ANSWERS.width)
    assert np.abs(np.delete(inputs.mean(axis=0), np.arange(5, 11))).max() < 0.01
    gone = replace(data, x=np.where(data.observed, data.x, 9.0))
    assert np.array_equal(coding().inputs(coding().targets(gone)), inputs)
    assert np.array_equal(coding().inputs(coding().targets(data.rows(np.arange(7)))), inputs[:7])


def test_offsets_are_the_released_frequencies() -> None:
    data, found = cohort(2000), coding()
    share = 1 / (1 + np.exp(-found.offsets[:9]))
    for k, j in enumerate((3, 4, 5)):
        assert abs(share[k] - data.x[data.observed[:, j], j].mean()) < 1e-3
    assert np.allclose(share[3:], 1 - data.observed.mean(axis=0), atol=1e-3)
    for group in ANSWERS.groups:
        assert abs(np.exp(found.offsets[9:][group]).sum() - 1) < 1e-12
    outcome = np.bincount(DICTIONARY.outcome_codes(data), minlength=9) / 2000
    assert np.allclose(np.exp(found.offsets[9:][ANSWERS.groups[1]]), outcome, atol=2e-3)


# ---------------------------------------------------------------- network


@BOTH
def test_opacus_finds_nothing_to_refuse_and_every_parameter_is_in_a_linear_layer(form: Form) -> None:
    made = network(form)

    assert ModuleValidator.validate(made, strict=True) == []
    owned = {id(p) for m in made.modules() if type(m) is torch.nn.Linear for p in m.parameters()}
    assert owned == {id(p) for p in made.parameters()}
    assert not list(made.buffers())
    assert all(p.dtype == torch.float64 for p in made.parameters())
    assert sum(p.numel() for p in made.parameters()) == form.length == parameter_count(form.layout)


@BOTH
def test_numpy_encodes_and_decodes_what_torch_does(form: Form) -> None:
    made, arrays = network(form), form.arrays(parameters(form))
    u, z = columns(cohort(50))[0], torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    mean, log_variance = made.encode(u)

    assert np.allclose(form.encode(arrays, u.numpy()), mean.detach().numpy(), atol=1e-12)
    assert np.allclose(form.decode(arrays, z.numpy()), made.decode(z).detach().numpy(), atol=1e-12)
    assert np.allclose(form.spreads(arrays), torch.exp(0.5 * log_variance[0]).detach().numpy())
    assert np.abs(mean.detach().numpy()).max() < form.bound


def test_codes_stay_in_the_public_box_whatever_the_parameters() -> None:
    form = FORMS[1]
    arrays = form.arrays(parameters(form, 1e3))
    assert np.abs(form.encode(arrays, columns(cohort(50))[0].numpy())).max() <= form.bound
    assert np.all(form.spreads(arrays) <= math.exp(0.5 * LOG_VARIANCE[1]))
    assert np.all(form.scales(arrays) >= math.exp(LOG_SCALE[0]))
    alone = [form.encode(arrays, row[None]) for row in columns(cohort(50))[0].numpy()]
    assert np.array_equal(np.concatenate(alone), form.encode(arrays, columns(cohort(50))[0].numpy()))


@BOTH
def test_the_loss_is_minus_the_bound_by_torchs_own_laws(form: Form) -> None:
    made, data = network(form), cohort(60)
    u, scores, seen, bits, counted, levels, epsilon = columns(data)
    mean, log_variance = made.encode(u)
    answers = made.decode(mean + torch.exp(0.5 * log_variance) * epsilon)
    offsets = torch.from_numpy(coding().offsets)
    laws: Any = torch.distributions
    scale = torch.from_numpy(form.scales(form.arrays(parameters(form)))).expand(60, 2)
    numbers = -laws.Normal(answers[:, :2], scale).log_prob(scores) - 0.5 * math.log(2 * math.pi)
    expected = (numbers * seen).sum(1)
    expected = expected - (laws.Bernoulli(logits=answers[:, 2:11] + offsets[:9]).log_prob(bits) * counted).sum(1)
    for group in ANSWERS.groups:
        law = laws.Categorical(logits=answers[:, 11:][:, group] + offsets[9:][group])
        own = -law.log_prob(levels[:, group].argmax(1))
        expected = expected + torch.where(levels[:, group].sum(1) > 0, own, torch.zeros_like(own))
    q = laws.Normal(mean, torch.exp(0.5 * log_variance))
    divergence = laws.kl_divergence(q, laws.Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(1)

    assert torch.allclose(losses(made, *columns(data)), expected + 0.7 * divergence, rtol=1e-9)


@BOTH
def test_one_patients_loss_ignores_all_others(form: Form) -> None:
    made, data = network(form), cohort(30)
    together = losses(made, *columns(data)).detach().numpy()
    order = np.random.default_rng(5).permutation(30)

    alone = [float(losses(made, *columns(data.rows(np.array([i])))).detach()) for i in range(30)]

    assert np.allclose(together, alone, rtol=1e-12, atol=0)
    assert np.allclose(together[order], losses(made, *columns(data.rows(order))).detach().numpy(), rtol=1e-12, atol=0)
    fewer = data.rows(np.arange(30) != 4)
    for whole, rest in zip(columns(data), columns(fewer), strict=True):
        assert np.array_equal(np.delete(whole.numpy(), 4, axis=0), rest.numpy())


@BOTH
def test_the_clipped_sum_is_that_of_a_loop_over_patients(form: Form) -> None:
    made, batch, clip = network(form), columns(cohort(40)), 6.0

    found = ClippedGradients(made, losses, clip=clip).sum(batch)

    expected, clipped = np.zeros(len(found)), 0.0
    for i in range(40):
        loss = losses(made, *(column[i : i + 1] for column in batch)).sum()
        own = np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, list(made.parameters()))])
        clipped += float(np.linalg.norm(own) > clip)
        expected += own * min(1.0, clip / np.linalg.norm(own))
    assert 0 < clipped < 40, "the clip norm must bite, and not everybody"
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_start_is_public_and_knows_nothing_but_an_order_of_outcomes() -> None:
    form = form_of(OPEN, DICTIONARY)
    arrays = form.arrays(form.start(b"seed", ANSWERS.risk))
    inputs = columns(cohort(500))[0].numpy()
    codes = form.encode(arrays, inputs)

    assert initial_weights(OPEN, DICTIONARY, b"seed") == form.start(b"seed", ANSWERS.risk).astype("<f8").tobytes()
    assert initial_weights(OPEN, DICTIONARY, b"seed") != initial_weights(OPEN, DICTIONARY, b"seen")
    assert not form.decode(arrays, np.random.default_rng(0).normal(size=(9, form.latent)))[:, :-9].any()
    assert np.ptp(codes, axis=0).min() > 0
    data = cohort(500)
    early, late = data.event & (data.duration < 91), ~data.event & (data.duration > 1800)
    assert codes[early, 0].min() > codes[late, 0].max() + 1
    answers = form.decode(arrays, np.eye(form.latent)[:1])[0, -9:]
    assert np.array_equal(np.argsort(-answers[:4]), np.arange(4))
    assert answers[:4].min() > answers[4:].max()
    assert answers.argmin() == 8


@pytest.mark.parametrize(
    "sizes",
    [(0, 0, 1, 0, 1.0), (3, 4, 1, 0, 1.0), (3, 1, 0, 0, 1.0), (3, 1, 65, 0, 1.0), (3, 1, 1, -1, 1.0),
     (3, 1, 1, 4097, 1.0), (3, 1, 1, 0, 0.0), (3, 1, 1, 0, math.inf), (3, 1, 1, 0, math.nan)],
    ids=str,
)  # fmt: skip
def test_sizes_out_of_range(sizes: tuple[int, int, int, int, float]) -> None:
    with pytest.raises(MisuseError, match="no autoencoder"):
        Form(*sizes)


def test_parameters_of_another_length_or_not_finite() -> None:
    form = FORMS[0]
    bad = parameters(form)
    bad[3] = np.nan
    for params in (np.zeros(form.length - 1), bad):
        with pytest.raises(MisuseError, match="finite parameters"):
            form.arrays(params)


def test_a_table_without_numbers() -> None:
    only = Dictionary((Column("g", Kind.BINARY, (0.0, 1.0)),), GRID)
    form = form_of(OPEN, only)
    assert form.numbers == 0
    assert Autoencoder(form, Answers(only)).decode(torch.zeros(2, form.latent, dtype=torch.float64)).shape == (2, 11)
    assert form.scales(form.arrays(form.start(b"s", Answers(only).risk))).shape == (0,)
