from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.validators import ModuleValidator

from dp.bookkeeping import ClippedGradients
from dp.queries import SecureSum
from models.artefact import from_bytes, to_bytes
from models.data import DAYS_PER_YEAR, SurvivalData, inputs
from models.deepsurv import flat, pour
from models.errors import ArtefactError, MisuseError
from models.learners import trainable
from models.losses import PiecewiseExponential
from models.metrics import harrell_c
from models.networks import LatentWeibull, parameter_count, rebuild
from models.networks.savae import log_cumulative_hazards
from models.plan import Spec
from models.predict import SurvivalModel
from models.presets import Preset, preset
from models.recalibration import Breslow
from models.savae import SAVAE, columns, noise
from models.training import Trained, fit, initial_weights
from tests.models.support import FEATURES, Alone, Together, patients, small, spec
from tests.models.test_artefact import CARD
from tests.models.test_training import SHARP
from tests.sweeps import examples

FORM = LatentWeibull((5, 3), 3, (1,))
GRID = preset("aml-small").grid


def chosen(steps: int = 5, **changes: object) -> Preset:
    latent: dict[str, object] = {"learner": "savae", "latent": 3, "time_weight": 10.0, "kl_weight": 0.1, "binary": (1,)}
    return replace(small(steps), **latent | changes)  # type: ignore[arg-type]  # the caller's business


def table(n: int, seed: int = 0) -> SurvivalData:
    """The second column is two-valued."""
    data = patients(n, seed)
    x = data.x.copy()
    x[:, 1] = x[:, 1] > 0
    return SurvivalData(x, data.observed, data.duration, data.event)


def drawn(form: LatentWeibull = FORM, scale: float = 0.25) -> SAVAE:
    network = SAVAE(4, form)
    count = parameter_count(form.layout(4, 6))
    pour(network, (scale * np.random.default_rng(1).normal(size=count)).astype("<f8").tobytes())
    return network


def losses(network: SAVAE, *patients: torch.Tensor) -> torch.Tensor:
    return network.per_patient_loss(*patients, time_weight=10.0, kl_weight=0.1)


def train(study: Spec, data: SurvivalData, secure_sum: SecureSum) -> Trained:
    return fit(study.preset, len(FEATURES), study.weights, data, secure_sum, lambda t: study.query("gradient", t))


def test_survival_at_the_edges_of_the_grid_is_that_of_torchs_weibull_law_at_the_mean_code() -> None:
    network, data = drawn(), table(40)
    model = SurvivalModel.as_trained(FEATURES, FORM, GRID, flat(network))
    edges = np.asarray(GRID)

    with torch.no_grad():
        log_shape, log_scale = network.weibull(network.encode(torch.from_numpy(inputs(data.x, data.observed)))[0])
    expected = np.exp(-((edges[None, :] / DAYS_PER_YEAR / np.exp(log_scale.numpy())[:, None])
                        ** np.exp(log_shape.numpy())[:, None]))  # fmt: skip

    assert np.allclose(model.survival(data.x, data.observed, edges), expected, rtol=0, atol=1e-13)
    assert model.hazard.tolist() == [1.0] * 6
    assert np.ptp(np.log(-np.log(expected[:, -1]))) > 1, "patients who differ"
    assert np.allclose(model.risk(data.x, data.observed), np.log(-np.log(expected[:, -1])), atol=1e-11)


@pytest.mark.parametrize(
    ("shape", "scale", "years", "hazard"),
    [(1.0, 2.0, 3.0, 1.5), (2.0, 4.0, 2.0, 0.25), (0.5, 1.0, 4.0, 2.0), (5.0, 1.0, 1.0, 1.0)],
)
def test_cumulative_hazards_of_known_weibull_laws(shape: float, scale: float, years: float, hazard: float) -> None:
    found = log_cumulative_hazards(np.array([math.log(shape)]), np.array([math.log(scale)]), np.array([years]))

    assert math.isclose(math.exp(found[0, 0]), hazard, rel_tol=1e-14)


def test_the_time_loss_is_minus_the_log_density_or_the_log_survival_of_torchs_weibull() -> None:
    network = drawn()
    z = torch.from_numpy(np.random.default_rng(3).normal(size=(50, 3)))
    years = torch.from_numpy(np.random.default_rng(4).exponential(size=50))
    log_shape, log_scale = network.weibull(z)
    law = torch.distributions.Weibull(torch.exp(log_scale), torch.exp(log_shape))

    died = network.time_loss(z, torch.log(years), torch.ones(50, dtype=torch.float64))
    lost = network.time_loss(z, torch.log(years), torch.zeros(50, dtype=torch.float64))

    assert torch.allclose(died, -law.log_prob(years), rtol=1e-12, atol=1e-12)
    assert torch.allclose(lost, (years / torch.exp(log_scale)) ** torch.exp(log_shape), rtol=1e-12)


def test_the_feature_loss_is_minus_the_log_likelihood_of_what_was_observed() -> None:
    network, data = drawn(), table(50)
    z = torch.from_numpy(np.random.default_rng(3).normal(size=(50, 3)))
    active = z * torch.tensor([0.0, 1.0, 1.0])
    for layer in network.decoder:
        active = torch.tanh(layer(active))
    values, scales = network.values(active), torch.exp(network.scales(torch.ones((1, 1), dtype=torch.float64)))
    x = torch.from_numpy(data.x.copy())
    normal = torch.distributions.Normal(values[:, [0, 2, 3]], scales.expand(50, 3)).log_prob(x[:, [0, 2, 3]])
    coin = torch.distributions.Bernoulli(logits=values[:, [1]]).log_prob(x[:, [1]])
    every = torch.cat(
        [normal[:, :1] + 0.5 * math.log(2 * math.pi), coin, normal[:, 1:] + 0.5 * math.log(2 * math.pi)], 1
    )

    found = network.feature_loss(z, torch.from_numpy(inputs(data.x, data.observed)))

    assert torch.allclose(found, -(every * torch.from_numpy(data.observed.copy())).sum(1), rtol=1e-12)


def test_the_shape_loss_is_minus_the_log_density_around_the_shape_of_the_code_0() -> None:
    network = drawn()
    z = torch.from_numpy(0.5 * np.random.default_rng(3).normal(size=(50, 3)))  # shapes inside their range
    common = network.weibull(torch.zeros_like(z))[0]
    prior = torch.distributions.Normal(common, 0.1**0.5)

    found = network.shape_loss(z)

    assert torch.allclose(found, prior.log_prob(common) - prior.log_prob(network.weibull(z)[0]), rtol=1e-12)
    assert float(found.detach().max()) > 0.1
    assert torch.all(network.shape_loss(torch.zeros_like(z)) == 0)


def test_features_do_not_move_the_first_code_and_the_time_does() -> None:
    network, data = drawn(), table(50)
    u = torch.from_numpy(inputs(data.x, data.observed))
    z = torch.from_numpy(np.random.default_rng(3).normal(size=(50, 3))).requires_grad_()

    (of_features,) = torch.autograd.grad(network.feature_loss(z, u).sum(), z)
    (of_time,) = torch.autograd.grad(network.time_loss(z, torch.zeros(50), torch.ones(50)).sum(), z)

    assert torch.all(of_features[:, 0] == 0)
    assert torch.all(of_features[:, 1:].abs().max(dim=0).values > 0)
    assert torch.all(of_time.abs().max(dim=0).values > 0)


def test_the_divergence_is_that_of_torch() -> None:
    network, data = drawn(), table(20)
    batch = columns(data, 3)
    mean, log_variance = network.encode(batch[0])
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))

    with_it = network.per_patient_loss(*batch, time_weight=1.0, kl_weight=1.0)
    without = network.per_patient_loss(*batch, time_weight=1.0, kl_weight=0.0)

    assert torch.allclose(with_it - without, torch.distributions.kl_divergence(q, p).sum(1), rtol=1e-9)


def test_opacus_finds_nothing_to_refuse_and_every_parameter_is_in_a_linear_layer() -> None:
    network = drawn()

    assert ModuleValidator.validate(network, strict=True) == []
    owned = {id(p) for m in network.modules() if type(m) is torch.nn.Linear for p in m.parameters()}
    assert owned == {id(p) for p in network.parameters()}
    assert not list(network.buffers())
    assert not any(isinstance(m, torch.nn.Dropout) for m in network.modules())


def test_one_patients_loss_and_noise_ignore_all_others() -> None:
    network, data = drawn(), table(30)
    together = losses(network, *columns(data, 3)).detach().numpy()
    order = np.random.default_rng(5).permutation(30)

    alone = [float(losses(network, *columns(data.rows(np.array([i])), 3)).detach()) for i in range(30)]
    moved = losses(network, *columns(data.rows(order), 3)).detach().numpy()

    assert np.allclose(together, alone, rtol=1e-12, atol=0)
    assert np.allclose(together[order], moved, rtol=1e-12, atol=0)
    fewer = data.rows(np.arange(30) != 4)
    assert np.array_equal(np.delete(columns(data, 3)[3].numpy(), 4, axis=0), columns(fewer, 3)[3].numpy())


def test_the_noise_is_standard_normal_and_another_for_every_patient() -> None:
    drawn_ = noise(np.random.default_rng(0).normal(size=(4000, 4)), 3)

    assert drawn_.shape == (4000, 3)
    assert np.all(np.abs(drawn_.mean(axis=0)) < 4 / math.sqrt(4000))
    assert np.all(np.abs(drawn_.std(axis=0) - 1) < 4 / math.sqrt(8000))
    assert np.all(np.abs(np.corrcoef(drawn_.T)[np.triu_indices(3, 1)]) < 4 / math.sqrt(4000))
    assert len(np.unique(drawn_)) == drawn_.size
    assert np.array_equal(noise(np.array([[0.0]]), 2), noise(np.array([[-0.0]]), 2))


def test_the_clipped_sum_is_that_of_a_loop_over_patients() -> None:
    network, data = drawn(), table(40)
    batch = columns(data, 3)

    found = ClippedGradients(network, losses, clip=2.0).sum(batch)

    expected = np.zeros(len(found))
    clipped = 0
    for i in range(40):
        loss = losses(network, *(column[i : i + 1] for column in batch)).sum()
        own = np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, list(network.parameters()))])
        clipped += np.linalg.norm(own) > 2.0
        expected += own * min(1.0, 2.0 / np.linalg.norm(own))
    assert clipped > 0, "the clip norm must bite"
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_patient_moves_the_clipped_sum_and_nobodys_prediction() -> None:
    network, data = drawn(), table(700)
    gradients = ClippedGradients(network, losses, clip=1.0)  # a power of two: every number of the sum is exact
    model = SurvivalModel.as_trained(FEATURES, FORM, GRID, flat(network))
    whole, hazards = gradients.sum(columns(data, 3)), model.hazards(data.x, data.observed)

    for out in (0, 699):
        rest = np.arange(700) != out
        fewer = data.rows(rest)
        assert np.array_equal(whole - gradients.sum(columns(fewer, 3)), gradients.sum(columns(data.rows(~rest), 3)))
        assert np.array_equal(model.hazards(fewer.x, fewer.observed), hazards[rest])


KERNEL = ClippedGradients(drawn(), losses, clip=0.5)


@given(
    x=st.lists(SHARP, min_size=4, max_size=4),
    duration=SHARP,
    event=st.booleans(),
    observed=st.lists(st.booleans(), min_size=4, max_size=4),
)
@settings(max_examples=examples(40), deadline=None)
def test_one_patient_whatever_he_is_moves_the_sum_by_at_most_the_clip(
    x: list[float], duration: float, event: bool, observed: list[bool]
) -> None:
    base = table(20)
    more = SurvivalData(
        np.vstack([base.x, x]), np.vstack([base.observed, observed]),
        np.append(base.duration, duration), np.append(base.event, event),
    )  # fmt: skip

    before, after = (KERNEL.sum(columns(data.bounded(GRID[-1]), 3)) for data in (base, more))

    assert np.all(np.isfinite(after))
    assert np.linalg.norm(after - before) <= 0.5 * (1 + 1e-12)


def test_three_sites_own_one_model_bit_for_bit_and_it_is_the_pooled_one() -> None:
    study = spec(chosen(8))
    everybody = table(90)
    parts = [everybody.rows(np.arange(a, b)) for a, b in ((0, 50), (50, 80), (80, 90))]

    federated = Together(3).run(lambda i, secure_sum: train(study, parts[i], secure_sum))
    pooled = train(study, everybody, Alone())

    assert len({t.digest for t in federated}) == 1
    ours, theirs = (np.frombuffer(t.params, dtype="<f8") for t in (federated[0], pooled))
    assert np.allclose(ours, theirs, atol=1e-9)
    assert federated[0].params != study.weights


def test_the_untrained_model_has_the_public_hazard_and_ranks_nobody() -> None:
    public, data = chosen(), table(7)
    model = SurvivalModel.as_trained(FEATURES, public.network, GRID, initial_weights(public, 4, b"s"))

    expected = np.exp(-np.exp(public.initial_log_hazard) * np.asarray(GRID) / DAYS_PER_YEAR)

    assert np.allclose(model.survival(data.x, data.observed, np.asarray(GRID)), expected, atol=1e-13)
    assert len(set(model.risk(data.x, data.observed).tolist())) == 1


def test_numbers_that_were_not_observed_change_no_prediction() -> None:
    model = SurvivalModel.as_trained(FEATURES, FORM, GRID, flat(drawn()))
    data = table(30)
    other = np.where(data.observed, data.x, 7.0)

    assert np.array_equal(model.hazards(other, data.observed), model.hazards(data.x, data.observed))
    assert not np.array_equal(model.hazards(other, np.ones_like(data.observed)), model.hazards(other, data.observed))


def test_the_model_file_predicts_the_same_bits_and_one_that_contradicts_itself_is_refused() -> None:
    model, data = SurvivalModel.as_trained(FEATURES, FORM, GRID, flat(drawn())), table(20)
    file = to_bytes(model, CARD)

    back, _ = from_bytes(file)

    assert back.network == FORM
    assert back.digest == model.digest
    assert np.array_equal(back.hazards(data.x, data.observed), model.hazards(data.x, data.observed))
    with pytest.raises(ArtefactError, match="two-valued columns"):
        from_bytes(file.replace(b'\\"binary\\":[1]', b'\\"binary\\":[4]'))


def test_recalibration_bounds_a_patients_vector_and_corrects_every_interval() -> None:
    model, data = SurvivalModel.as_trained(FEATURES, FORM, GRID, flat(drawn(scale=0.2))), table(400)
    release = Breslow(model, chosen())

    found = release.decode(release.contribution(data), noise_sd=0.0)

    assert len(found.corrections) == 6
    assert np.all(found.model.hazard != 1.0)


@pytest.mark.parametrize(
    "form",
    [
        {"hidden": [3], "latent": 0, "binary": []},
        {"hidden": [3], "latent": True, "binary": []},
        {"hidden": [3], "latent": 2},
        {"hidden": [0], "latent": 2, "binary": []},
        {"hidden": [3], "latent": 2, "binary": [-1]},
        {"hidden": [3], "latent": 2, "binary": [0.5]},
        {"hidden": [3], "latent": 2, "binary": [], "more": 1},
    ],
)
def test_what_describes_no_savae_is_refused(form: dict[str, object]) -> None:
    with pytest.raises(MisuseError, match="no network"):
        rebuild("savae", form)


def test_a_form_that_does_not_fit_the_features_and_a_foreign_loss_are_misuse() -> None:
    with pytest.raises(MisuseError, match="two-valued"):
        LatentWeibull((3,), 2, (4,)).layout(4, 6)
    with pytest.raises(MisuseError, match="two-valued"):
        LatentWeibull((3,), 2, (1, 1)).layout(4, 6)
    with pytest.raises(MisuseError, match="no SAVAE"):
        LatentWeibull((), 2, ()).layout(4, 6)
    with pytest.raises(MisuseError, match="own bound"):
        trainable(chosen(), 4, PiecewiseExponential())


@pytest.mark.slow
def test_it_learns_as_well_as_deepsurv() -> None:
    public = chosen(60, clip=20.0, learning_rate=0.02, hidden=(8,), normaliser=400.0)
    data, fresh = table(400), table(400, seed=77)

    trained = train(spec(public), data, Alone())

    model = SurvivalModel.as_trained(FEATURES, public.network, GRID, trained.params)
    assert harrell_c(model.risk(fresh.x, fresh.observed), fresh) > 0.65
