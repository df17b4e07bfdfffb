"""One training loop: full-batch DP gradient descent whose all-reduce is a secure sum.

Every site runs `fit` on its own patients with the same study. What must be equal everywhere (initial
weights, the public update, the average of the iterates) is computed from public bytes and released sums by +
− × ÷ √ alone, so the digests are equal bit for bit; forward and backward passes may differ in the last bits
between hosts, because only their clipped, noised sum leaves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from dp.arithmetic import chosen
from dp.bookkeeping import ClippedGradients
from dp.errors import UploadsExhausted
from dp.optimizer import Adam, Momentum, PublicUpdate, SecureSumOptimizer
from dp.queries import Query, SecureSum
from dp.sampling import FULL_BATCH, Sampler
from models.data import SurvivalData
from models.deepsurv import flat, pour
from models.descent import Descent
from models.errors import MisuseError
from models.learners import trainable
from models.losses import PerPatientLoss
from models.presets import Preset


@dataclass(frozen=True)
class Trained:
    """What training left.

    Args:
        params: float64 little-endian, order of the network's layout; the averaged iterate.
        steps_done: completed sums; fewer than the preset's steps if the uploads ran out.
    """

    params: bytes = field(repr=False)
    steps_done: int

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the params."""
        return model_digest(self.params)


def model_digest(params: bytes) -> str:
    """Hex SHA-256 of the parameters (float64 little-endian): equal at all sites or the study stops."""
    return hashlib.sha256(params).hexdigest()


def initial_weights(preset: Preset, features: int, seed: bytes) -> bytes:
    """Initial weights from a public seed, the same bytes on every host.

    SHA-256 in counter mode, 53-bit integers, one division and one square root. Baseline = the preset's public
    constant; linear path and output layer = 0 (the untrained model ranks nobody); hidden layers = uniform
    ± 1/√fan_in, biases 0. The bytes, not the seed, go into the study.

    Args:
        preset: model and constants.
        features: p.
        seed: any public bytes.

    Returns:
        float64 little-endian, d numbers in the order of the network's layout.
    """
    parts: list[bytes] = []
    network = preset.network
    for name, shape in network.layout(features, preset.intervals):
        values = network.start(name, shape, seed + name.encode(), preset.initial_log_hazard)
        parts.append(values.astype("<f8").tobytes())
    return b"".join(parts)


def fit(
    preset: Preset,
    features: int,
    weights: bytes,
    data: SurvivalData,
    secure_sum: SecureSum,
    query: Callable[[int], Query],
    on_step: Callable[[int, str], None] | None = None,
    *,
    loss: PerPatientLoss | None = None,
    sampler: Sampler = FULL_BATCH,
) -> Trained:
    """Train a survival model through the secure sum; see `descend`.

    Args:
        preset: public hyper-parameters.
        features: p, as in the data.
        weights: initial weights from the study.
        data: this site's training patients (bounded here; may be empty).
        secure_sum: the door.
        query: see `descend`.
        on_step: see `descend`.
        loss: one term per patient; the piecewise-exponential likelihood by default.
        sampler: see `descend`.

    Raises:
        NotPerPatient: (a TypeError) the loss is not a sum over patients.
        MisuseError: data, weights or query do not fit the model.
    """
    made = trainable(preset, features, loss)
    if data.features != features:
        raise MisuseError(f"the study has {features} features, the data {data.features}")
    patients = made.columns(data.bounded(preset.horizon))
    return descend(
        preset, made.module, made.losses, weights, patients, secure_sum, query, on_step,
        penalties=made.penalties, sampler=sampler,
    )  # fmt: skip


def descend(
    descent: Descent,
    model: nn.Module,
    losses: Callable[..., torch.Tensor],
    weights: bytes,
    patients: Sequence[torch.Tensor],
    secure_sum: SecureSum,
    query: Callable[[int], Query],
    on_step: Callable[[int, str], None] | None = None,
    *,
    penalties: Sequence[float] = (),
    sampler: Sampler = FULL_BATCH,
) -> Trained:
    """Gradient descent of any network through the secure sum; it leaves the last iterate in `model`.

    One step: per-patient gradients of this site's patients (all, or a Poisson sample), each clipped to L2 norm C,
    summed, released by `secure_sum` with everybody else's, divided by the public normaliser, applied by a public
    update. Ridge penalties are added to the released sum, and the returned parameters are the polynomial-decay average
    of the iterates: both are post-processing of what is public.

    Guarantee: with a `secure_sum` that releases query t at multiplier z, each step is the Gaussian mechanism of that
        multiplier for one added or removed patient, subsampled with the sampler's probability.

    Args:
        descent: public constants.
        model: float64 network of Linear layers; see `dp.bookkeeping`.
        losses: (model, columns of patients …) → [n] losses, entry i a function of patient i and the model alone.
        weights: initial weights from the study, float64 little-endian in the order of `named_parameters`.
        patients: this site's patients as `losses` wants them; first axis = patient, possibly none.
        secure_sum: the door.
        query: step index → query; its length must be d and its sensitivity C. Each is asked `about` the present
            weights, so that two sites whose weights differ cannot complete a sum together.
        on_step: called after each applied step with (steps done, digest of the averaged parameters).
        penalties: λ of ½λ‖w‖² beside the loss of all patients, one for each parameter; none by default.
        sampler: who takes part in an upload; its probability is that of the queries.

    Raises:
        MisuseError: weights, query or penalties do not fit the model.
    """
    pour(model, weights)
    _check(query(0), descent, len(weights) // 8)
    numbers = descent.uploads * sum(each.numel() for each in model.parameters())
    gradients = ClippedGradients(model, losses, clip=descent.clip, arithmetic=chosen(numbers))
    optimizer = SecureSumOptimizer(
        PublicUpdate(model.parameters(), _rule(descent)),
        gradients,
        patients,
        normaliser=descent.normaliser,
        secure_sum=secure_sum,
        query=lambda step: query(step).about(flat(model)),
        sampler=sampler,
    )
    # The sum over a sample is q times everybody's on average, so the prior weighs q times as much beside it.
    optimizer.attach_step_hook(ridge(model, penalties, sampler.probability / descent.normaliser))

    average = _numbers(weights)
    done = 0
    while done < descent.steps:
        try:
            optimizer.step()
        except UploadsExhausted:
            break
        done += 1
        rho = (descent.averaging + 1.0) / (done + descent.averaging)
        average = (1.0 - rho) * average + rho * _numbers(flat(model))
        if on_step is not None:
            on_step(done, model_digest(average.astype("<f8").tobytes()))
    return Trained(average.astype("<f8").tobytes(), done)


def ridge(model: nn.Module, penalties: Sequence[float], scale: float) -> Callable[[object], None]:
    """What adds penalties to released gradients: ``p.grad += (λ · scale) · p``, element-wise, as `PublicUpdate` counts.

    Args:
        model: whose parameters have `grad` when it is called.
        penalties: λ ≥ 0 of each parameter, or none at all.
        scale: what the released sum was multiplied by.

    Raises:
        MisuseError: penalties of another number of parameters, or below zero.
    """
    parameters = list(model.parameters())
    if len(penalties) not in {0, len(parameters)} or not all(0 <= penalty < math.inf for penalty in penalties):
        raise MisuseError(f"{len(penalties)} penalties, each finite and at least 0, for {len(parameters)} parameters")
    weighed = [(p, penalty * scale) for p, penalty in zip(parameters, penalties, strict=False) if penalty > 0]

    def add(_: object) -> None:
        for p, weight in weighed:
            grad = p.grad
            if grad is None:
                raise MisuseError("a parameter has no released gradient")
            total = grad.numpy()
            np.add(total, weight * p.detach().numpy(), out=total)

    return add


def _numbers(params: bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.frombuffer(params, dtype="<f8").astype(np.float64)


def _rule(descent: Descent) -> Adam | Momentum:
    if descent.update == "adam":
        return Adam(descent.learning_rate)
    return Momentum(descent.learning_rate, descent.momentum)


def _check(query: Query, descent: Descent, length: int) -> None:
    if query.kind != "gradient" or query.length != length or query.sensitivity != descent.clip:
        raise MisuseError(
            f"the gradient query must have length {length} and sensitivity {descent.clip}; "
            f"got {query.kind}, {query.length}, {query.sensitivity}"
        )
