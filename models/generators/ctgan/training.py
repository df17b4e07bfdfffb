"""Learning the generator through the door: frequencies, then the critic's gradients; the generator follows by itself.

One step: every site's patients give the critic clipped gradients of −D(real), whose sum is released; the mean gradient
of D(generated), clipped alike, is added by every site for itself; Adam; projection of each layer to norm ≤ 1; then the
generator's updates, which look at generated rows alone and are post-processing.

The sum is divided by the released number of patients, so that real and generated rows have the same mass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dp.errors import UploadsExhausted
from dp.queries import Query, SecureSum
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.ctgan.coding import Coding
from models.generators.ctgan.model import CTGAN
from models.generators.ctgan.settings import Settings, form_of, schedule
from models.generators.dictionary import Dictionary
from models.generators.oneway import OneWay

__all__ = ["initial_weights", "train"]

OnStep = Callable[[int, str], None]
_REFERENCES = 4096  # generated rows that the normalisation's statistics are taken over
_BETA2 = 0.99


def initial_weights(settings: Settings, dictionary: Dictionary, seed: bytes) -> bytes:
    """Initial parameters, critic then generator, from a public seed, float64 little-endian, the same on every host."""
    return form_of(settings, dictionary).start(seed).astype("<f8").tobytes()


def ready() -> None:
    """Refuse where training could not begin: before anything is signed or reserved.

    Raises:
        ConfigError: the package ctgan is not installed.
    """
    from models.generators.ctgan.adversaries import require  # noqa: PLC0415 - as in train

    require()


def train(
    settings: Settings,
    dictionary: Dictionary,
    multipliers: Mapping[str, float],
    patient_cap: int,
    weights: bytes,
    data: SurvivalData,
    secure_sum: SecureSum,
    noise_inflation: float = 1.0,
    on_step: OnStep | None = None,
) -> CTGAN:
    """Learn a generator; every site gets the same one, bit for bit, or a later sum stops the study; see `arithmetic`.

    Guarantee: what depends on patients is the sums of `schedule`, each asked about all that was released before it and
        about the present weights of both networks. Uploads that are exhausted end the learning early; at worst columns
        are drawn on their own.

    Args:
        settings: of the study.
        dictionary: of the table.
        multipliers: kind → noise multiplier.
        patient_cap: public cap on patients per site.
        weights: initial parameters from the study.
        data: this site's training patients; may be empty.
        secure_sum: the door.
        noise_inflation: ≥ 1, upper bound on (noise in a sum) ÷ (noise that is counted on), standard deviations.
        on_step: called after each sum with (sums done, hex digest of everything released so far).

    Raises:
        ConfigError: a kind without a multiplier; the package ctgan is not installed.
        MisuseError: the data have another number of features, or the weights are not those of these networks.
    """
    from models.generators.ctgan.adversaries import Adversaries, require  # noqa: PLC0415 - drawing needs no torch

    require()
    form = form_of(settings, dictionary)
    if len(weights) != 8 * (form.critic_length + form.generator_length):
        raise MisuseError(
            f"weights have {len(weights)} bytes, the networks need {8 * (form.critic_length + form.generator_length)}"
        )
    first, *gradients = schedule(settings, dictionary, multipliers, patient_cap)
    bounded = data.bounded(dictionary.grid[-1])
    dictionary.codes(bounded.rows(np.zeros(len(bounded), dtype=np.bool_)))  # the width, before anything is asked
    door = _Door(settings.digest(), secure_sum, on_step)
    release = OneWay(dictionary)
    try:
        counts = door(first, lambda: release.contribution(bounded))
    except UploadsExhausted:
        counts = np.zeros(first.length)
        gradients = []  # without a number of patients there is nothing to divide a gradient by
    frequencies = release.decode(counts, first.multiplier * first.sensitivity * noise_inflation)
    coding = Coding(frequencies, settings.evenness)
    adversaries = Adversaries(settings, coding, form, hashlib.sha256(weights).digest())
    params = _alternated(settings, adversaries, coding, weights, bounded, door, gradients)
    statistics = form.settled(params, adversaries.inputs("statistics", _REFERENCES)[0])
    return CTGAN(frequencies, form.latent, form.generator, params, statistics)


class _Door:
    """The secure sum with all that was released before in every query, and a report after it."""

    def __init__(self, settings: bytes, secure_sum: SecureSum, on_step: OnStep | None) -> None:
        self._state, self._sum, self._done, self._on_step = settings, secure_sum, 0, on_step

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        """Return the released sum."""
        found = self._sum(query.about(self._state) if self._done else query, contribution)
        self._state = hashlib.sha256(self._state + found.astype("<f8").tobytes()).digest()
        self._done += 1
        if self._on_step is not None:
            self._on_step(self._done, self._state.hex())
        return found


def _alternated(
    settings: Settings,
    adversaries: Any,
    coding: Coding,
    weights: bytes,
    data: SurvivalData,
    door: _Door,
    queries: Sequence[Query],
) -> Float64:
    """Train both; the average of the generator's iterates, float64[generator_length]."""
    import torch  # noqa: PLC0415 - drawing needs no torch

    from dp.arithmetic import chosen  # noqa: PLC0415 - opacus and torch behind it
    from dp.bookkeeping import ClippedGradients  # noqa: PLC0415
    from dp.optimizer import Adam, PublicUpdate, SecureSumOptimizer  # noqa: PLC0415
    from models.deepsurv import flat, pour  # noqa: PLC0415

    critic, generator = adversaries.critic, adversaries.generator
    size = sum(p.numel() for p in critic.parameters())
    pour(critic, weights[: 8 * size])
    pour(generator, weights[8 * size :])
    gradients = ClippedGradients(
        critic,
        lambda module, rows: -module(rows)[:, 0],
        clip=settings.clip,
        arithmetic=chosen(settings.uploads * size),
    )
    optimizer = SecureSumOptimizer(
        PublicUpdate(critic.parameters(), Adam(settings.critic_rate, settings.momentum, _BETA2)),
        gradients,
        [torch.from_numpy(coding.seen(coding.rows(data)))],
        normaliser=coding.frequencies.patients,
        secure_sum=door,
        query=lambda step: queries[step].about(flat(critic) + flat(generator)),
    )
    follow = PublicUpdate(generator.parameters(), Adam(settings.generator_rate, settings.momentum, _BETA2))
    average = np.frombuffer(flat(generator), dtype="<f8")

    def with_generated(_: object) -> None:
        for parameter, part in zip(
            critic.parameters(), adversaries.of_critic(f"critic/{optimizer.steps_done}"), strict=True
        ):
            parameter.grad += torch.from_numpy(part)

    optimizer.attach_step_hook(with_generated)
    for step in range(len(queries)):
        try:
            optimizer.step()
        except UploadsExhausted:
            break
        adversaries.project()
        for turn in range(settings.turns):
            for parameter, part in zip(
                generator.parameters(), adversaries.of_generator(f"generator/{step}/{turn}"), strict=True
            ):
                parameter.grad = torch.from_numpy(part)
            follow.step()
        now = np.frombuffer(flat(generator), dtype="<f8")
        average = settings.averaging * average + (1.0 - settings.averaging) * now
    return average
