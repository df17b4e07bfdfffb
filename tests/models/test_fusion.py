from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.validators import ModuleValidator

from dp.bookkeeping import ClippedGradients
from dp.queries import Float64, SecureSum
from models.artefact import from_bytes, to_bytes
from models.data import SurvivalData, joined
from models.deepsurv import flat, pour
from models.errors import ArtefactError, MisuseError
from models.fusion import Fusion
from models.learners import trainable
from models.metrics import harrell_c
from models.networks import RISK_BOUND, FusedBlocks, parameter_count, rebuild
from models.plan import Spec
from models.predict import SurvivalModel
from models.presets import Preset, preset
from models.training import Trained, fit, initial_weights
from tests.models.support import Alone, Together, patients, small, spec
from tests.models.test_artefact import CARD
from tests.models.test_training import SHARP
from tests.sweeps import examples

NAMES = ("age", "sex", "wbc", "tpi", "image.0", "image.1", "image.2")
FORM = FusedBlocks((4,), 2, (1, 3, 3), (2,))
GRID = preset("aml-small").grid


def chosen(steps: int = 5, **changes: object) -> Preset:
    fused: dict[str, object] = {"learner": "fusion", "hidden": (4,), "latent": 2, "blocks": (1, 3, 3), "vectors": (2,)}
    return replace(small(steps), **fused | changes)  # type: ignore[arg-type]  # the caller's business


def table(n: int, seed: int = 0, images: float = 0.5) -> SurvivalData:
    """Four numbers, and a vector of three that some patients have."""
    data = patients(n, seed)
    rng = np.random.default_rng([seed, 1])
    has = rng.random((n, 1)) < images
    x = np.concatenate([data.x, rng.normal(size=(n, 3))], axis=1)
    return SurvivalData(x, np.concatenate([data.observed, np.tile(has, 3)], axis=1), data.duration, data.event)


def drawn(form: FusedBlocks = FORM, features: int = 7) -> Fusion:
    network = Fusion(features, form, 6)
    count = parameter_count(form.layout(features, 6))
    pour(network, (0.4 * np.random.default_rng(1).normal(size=count)).astype("<f8").tobytes())
    return network


def parts_of(network: Fusion, vector: Float64) -> dict[str, Float64]:
    found, start = {}, 0
    for name, p in network.named_parameters():
        found[name] = vector[start : start + p.numel()].reshape(tuple(p.shape))
        start += p.numel()
    return found


def study_of(public: Preset) -> Spec:
    weights = initial_weights(public, 7, b"seed")
    return replace(spec(small()), preset=public, features=NAMES, weights=weights)


def train(study: Spec, data: SurvivalData, secure_sum: SecureSum) -> Trained:
    return fit(study.preset, 7, study.weights, data, secure_sum, lambda t: study.query("gradient", t))


@pytest.mark.parametrize(
    "form", [FORM, FusedBlocks((), 3, (), ()), FusedBlocks((), 1, (7,), (0,)), FusedBlocks((3, 2), 2, (4, 3), ())]
)
def test_numpy_and_torch_predict_the_same(form: FusedBlocks) -> None:
    network, data = drawn(form), table(40)
    model = SurvivalModel.as_trained(NAMES, form, GRID, flat(network))

    with torch.no_grad():
        risk = network.risk(torch.from_numpy(form.inputs(data.x, data.observed)))[:, 0].numpy()

    assert np.allclose(model.risk(data.x, data.observed), risk, atol=1e-12)
    assert np.std(risk) > 0.1


def test_inputs_of_known_patients() -> None:
    form = FusedBlocks((), 1, (1, 2, 4), (2,))
    x = np.array([[2.0, 3.0, 5.0, 2.0, 4.0, 6.0, 8.0]] * 3)
    observed = np.array([[1, 1, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 0], [1, 0, 1, 0, 0, 0, 0]], dtype=bool)

    assert form.inputs(x, observed).tolist() == [
        [2, 0, 3, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1],  # nothing observed; a vector that is not whole is absent
        [2, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0, 0, 1],
    ]


def test_a_site_without_a_block_gives_its_encoder_and_its_linear_path_no_gradient() -> None:
    network, data = drawn(), table(30, images=0.0)
    made = trainable(chosen(), 7)
    gradients = ClippedGradients(network, made.losses, clip=8.0)

    without = parts_of(network, gradients.sum(made.columns(data)))
    with_one = parts_of(network, gradients.sum(made.columns(joined([data, table(1, 3, images=1.0)]))))

    image = slice(8, 11)  # behind 2 · 1 and 2 · 3 inputs of the blocks of numbers
    assert not np.any(without["encoders.2.weight"])
    assert not np.any(without["encoders.2.bias"])
    assert not np.any(without["skip.weight"][0, image])
    assert np.all(without["encoders.1.weight"][:, :3])
    assert without["skip.weight"][0, -1] != 0
    assert np.all(with_one["encoders.2.weight"])
    assert np.all(with_one["skip.weight"][0, image])


def test_numbers_that_were_not_observed_change_neither_prediction_nor_gradient() -> None:
    network, data = drawn(), table(40)
    model = SurvivalModel.as_trained(NAMES, FORM, GRID, flat(network))
    filled = SurvivalData(np.where(data.observed, data.x, 7.0), data.observed, data.duration, data.event)
    torn = data.observed.copy()
    torn[:, 5] = False
    made = trainable(chosen(), 7)
    gradients = ClippedGradients(network, made.losses, clip=1.0)

    whole = model.risk(data.x, data.observed)

    assert np.array_equal(model.risk(filled.x, filled.observed), whole)
    assert np.array_equal(gradients.sum(made.columns(filled)), gradients.sum(made.columns(data)))
    assert not np.array_equal(model.risk(data.x, torn), whole)
    torn[:, 4:] = False
    assert np.array_equal(
        model.risk(data.x, torn), model.risk(data.x, np.concatenate([data.observed[:, :4], torn[:, 4:]], axis=1))
    )


def test_opacus_finds_nothing_to_refuse_and_every_parameter_is_in_a_linear_layer() -> None:
    network = drawn()

    assert ModuleValidator.validate(network, strict=True) == []
    owned = {id(p) for m in network.modules() if type(m) is torch.nn.Linear for p in m.parameters()}
    assert owned == {id(p) for p in network.parameters()}
    assert not list(network.buffers())


def test_one_patients_loss_ignores_all_others() -> None:
    network, data, made = drawn(), table(30), trainable(chosen(), 7)
    together = made.losses(network, *made.columns(data)).detach().numpy()

    alone = [float(made.losses(network, *made.columns(data.rows(np.array([i])))).detach()) for i in range(30)]

    assert np.allclose(together, alone, rtol=1e-12, atol=0)


def test_the_clipped_sum_is_that_of_a_loop_over_patients() -> None:
    network, data, made = drawn(), table(40), trainable(chosen(), 7)
    batch = made.columns(data)

    found = ClippedGradients(network, made.losses, clip=1.5).sum(batch)

    expected = np.zeros(len(found))
    clipped = 0
    for i in range(40):
        loss = made.losses(network, *(column[i : i + 1] for column in batch)).sum()
        own = np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, list(network.parameters()))])
        clipped += np.linalg.norm(own) > 1.5
        expected += own * min(1.0, 1.5 / np.linalg.norm(own))
    assert 0 < clipped < 40, "the clip norm must bite some patients"
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_patient_moves_the_clipped_sum_and_nobodys_prediction() -> None:
    network, data, made = drawn(), table(700), trainable(chosen(), 7)
    gradients = ClippedGradients(network, made.losses, clip=1.0)  # a power of two: every number of the sum is exact
    model = SurvivalModel.as_trained(NAMES, FORM, GRID, flat(network))
    whole, risk = gradients.sum(made.columns(data)), model.risk(data.x, data.observed)

    for out in (0, 699):
        rest = np.arange(700) != out
        fewer = data.rows(rest)
        own = gradients.sum(made.columns(data.rows(~rest)))
        assert np.array_equal(whole - gradients.sum(made.columns(fewer)), own)
        assert np.array_equal(model.risk(fewer.x, fewer.observed), risk[rest])


MADE = trainable(chosen(), 7)
KERNEL = ClippedGradients(drawn(), MADE.losses, clip=0.5)


@given(
    x=st.lists(SHARP, min_size=7, max_size=7),
    duration=SHARP,
    event=st.booleans(),
    observed=st.lists(st.booleans(), min_size=7, max_size=7),
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

    before, after = (KERNEL.sum(MADE.columns(data.bounded(GRID[-1]))) for data in (base, more))

    assert np.all(np.isfinite(after))
    assert np.linalg.norm(after - before) <= 0.5 * (1 + 1e-12)


def test_three_sites_one_without_images_own_one_model_bit_for_bit_and_it_is_the_pooled_one() -> None:
    study = study_of(chosen(8))
    parts = [table(50, 1, images=1.0), table(30, 2, images=0.0), table(10, 3)]

    federated = Together(3).run(lambda i, secure_sum: train(study, parts[i], secure_sum))
    pooled = train(study, joined(parts), Alone())

    assert len({t.digest for t in federated}) == 1
    ours, theirs = (np.frombuffer(t.params, dtype="<f8") for t in (federated[0], pooled))
    assert np.allclose(ours, theirs, atol=1e-9)
    assert federated[0].params != study.weights


def test_the_untrained_model_has_the_public_hazard_and_ranks_nobody() -> None:
    public, data = chosen(), table(7)
    model = SurvivalModel.as_trained(NAMES, public.network, GRID, initial_weights(public, 7, b"s"))

    assert model.risk(data.x, data.observed).tolist() == [0.0] * 7
    assert np.allclose(model.hazard, np.exp(public.initial_log_hazard), rtol=1e-13)


def test_risk_is_clipped_and_has_no_gradient_outside() -> None:
    network = Fusion(7, FORM, 6)
    pour(network, np.full(parameter_count(FORM.layout(7, 6)), 5.0).astype("<f8").tobytes())

    risk = network.risk(torch.full((1, 14), 10.0, dtype=torch.float64))
    risk.sum().backward()

    assert float(risk.detach()) == RISK_BOUND
    assert float(network.skip.weight.grad.abs().max()) == 0.0


def test_the_model_file_predicts_the_same_bits_and_one_that_contradicts_itself_is_refused() -> None:
    model, data = SurvivalModel.as_trained(NAMES, FORM, GRID, flat(drawn())), table(20)
    file = to_bytes(model, CARD)

    back, _ = from_bytes(file)

    assert back.network == FORM
    assert back.digest == model.digest
    assert np.array_equal(back.hazards(data.x, data.observed), model.hazards(data.x, data.observed))
    with pytest.raises(ArtefactError, match="blocks of"):
        from_bytes(file.replace(b'\\"blocks\\":[1,3,3]', b'\\"blocks\\":[1,3,4]'))


@pytest.mark.parametrize(
    "form",
    [
        {"hidden": [], "latent": 0, "blocks": [], "vectors": []},
        {"hidden": [], "latent": 2, "blocks": [0, 7], "vectors": []},
        {"hidden": [], "latent": 2, "blocks": [7], "vectors": [-1]},
        {"hidden": [], "latent": 2, "blocks": [7]},
        {"hidden": 3, "latent": 2, "blocks": [7], "vectors": []},
    ],
)
def test_what_describes_no_fusion_is_refused(form: dict[str, object]) -> None:
    with pytest.raises(MisuseError, match="no network"):
        rebuild("fusion", form)


def test_blocks_that_are_not_the_features_are_misuse() -> None:
    with pytest.raises(MisuseError, match="7 features"):
        FusedBlocks((), 2, (3, 3), ()).layout(7, 6)
    with pytest.raises(MisuseError, match="vectors"):
        FusedBlocks((), 2, (4, 3), (2,)).layout(7, 6)
    with pytest.raises(MisuseError, match="vectors"):
        FusedBlocks((), 2, (4, 3), (1, 1)).layout(7, 6)


@pytest.mark.slow
def test_an_informative_embedding_at_half_of_the_sites_raises_concordance() -> None:
    """64 numbers, of which one direction tells the risk, at two of four hospitals; the other two train with mask 0."""
    rng = np.random.default_rng(0)
    n, direction = 1600, rng.normal(size=64) / 8
    clinical, image = rng.normal(size=(n, 3)), rng.normal(size=(n, 64))
    death = rng.exponential(size=n) * 900 * np.exp(-0.6 * clinical[:, 0] - 1.2 * image @ direction)
    lost = rng.exponential(size=n) * 2500
    has = np.repeat(np.arange(8) % 2 == 0, n // 8)  # sites 0, 2 train with images; 4, 6 are tested on
    observed = np.concatenate([np.ones((n, 3), dtype=bool), np.tile(has[:, None], 64)], axis=1)
    data = SurvivalData(np.concatenate([clinical, image], axis=1), observed, np.minimum(death, lost) + 1, death <= lost)
    names = tuple(f"x{j}" for j in range(67))
    blind = SurvivalData(data.x, observed & (np.arange(67) < 3), data.duration, data.event)

    found = []
    for table_ in (data, blind):
        public = replace(chosen(60), blocks=(3, 64), vectors=(1,), normaliser=800.0)
        study = replace(
            spec(small()), preset=public, features=names, weights=initial_weights(public, 67, b"s"), patient_cap=1000
        )
        sites = [table_.rows(np.arange(n // 8) + i * n // 8) for i in range(4)]
        trained = Together(4).run(
            lambda i, door, study=study, sites=sites: fit(
                study.preset, 67, study.weights, sites[i], door, lambda t: study.query("gradient", t)
            )
        )
        model = SurvivalModel.as_trained(names, public.network, GRID, trained[0].params)
        fresh = [table_.rows((np.arange(n) >= n // 2) & (has == there)) for there in (True, False)]
        found.append([harrell_c(model.risk(part.x, part.observed), part) for part in fresh])

    (seen, unseen), (blind_seen, blind_unseen) = found
    assert seen > blind_seen + 0.05, "patients with an image gain"
    assert unseen > blind_unseen - 0.02, "patients without one lose nothing"
