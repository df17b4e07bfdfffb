"""Learning the generator through the door: frequencies, then the critic's gradients; the generator follows by itself.

One step: every site's patients give clipped gradients of D(real) in the critic's weights, whose sum is released. The
critic being linear in its weights, this gradient says the same whatever they are: the mean of all sums so far is the
best that is known of it. What follows is post-processing, `turns` times over:

    critic      w ← the largest step, of norm ≤ 1, along the average of (gradient of real − of generated rows)
    generator   Adam on generated rows alone (`adversaries`)

Sums are divided by the released number of patients, so that real and generated rows have the same mass. A patient
whose gradient is longer than the clip counts as a shorter one: what such patients have in common comes out weaker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dp.queries import Query, SecureSum
from dp.rows import clipped_units, from_units
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.ctgan.arithmetic import project
from models.generators.ctgan.coding import Coding
from models.generators.ctgan.model import CTGAN
from models.generators.ctgan.settings import Settings, form_of, pair_weights, schedule
from models.generators.dictionary import Dictionary
from models.generators.door import Door, OnStep
from models.generators.oneway import OneWay

if TYPE_CHECKING:
    from models.generators.ctgan.adversaries import Adversaries

__all__ = ["clipped_products", "initial_weights", "parameter_count", "ready", "train"]

_REFERENCES = 4096  # generated rows that the normalisation's statistics are taken over
_BETA2 = 0.99
_BLOCK = 256  # patients whose products are in memory at once


def parameter_count(settings: Settings, dictionary: Dictionary) -> int:
    """How many numbers `initial_weights` are."""
    return form_of(settings, dictionary).length


def initial_weights(settings: Settings, dictionary: Dictionary, seed: bytes) -> bytes:
    """Initial parameters of the generator from a public seed, float64 little-endian, the same on every host."""
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
        MisuseError: the data have another number of features, or the weights are not those of this network.
    """
    from models.generators.ctgan.adversaries import Adversaries, require  # noqa: PLC0415 - drawing needs no torch

    require()
    form = form_of(settings, dictionary)
    if len(weights) != 8 * form.length:
        raise MisuseError(f"weights have {len(weights)} bytes, the network needs {8 * form.length}")
    first, *gradients = schedule(settings, dictionary, multipliers, patient_cap)
    bounded = data.bounded(dictionary.grid[-1])
    dictionary.codes(bounded.rows(np.zeros(len(bounded), dtype=np.bool_)))  # the width, before anything is asked
    door = Door(settings.digest(), secure_sum, noise_inflation, on_step)
    release = OneWay(dictionary)
    counts = door.tried(first, lambda: release.contribution(bounded))
    if counts is None:
        counts = np.zeros(first.length)
        gradients = []  # without a number of patients there is nothing to divide a gradient by
    frequencies = release.decode(counts, door.noise_sd(first))
    coding = Coding(frequencies, settings.evenness, settings.missing_weight)
    adversaries = Adversaries(settings, coding, form, hashlib.sha256(weights).digest())
    params = _alternated(settings, adversaries, coding, weights, bounded, door, gradients)
    statistics = form.settled(params, adversaries.inputs("statistics", _REFERENCES))
    return CTGAN(frequencies, form.latent, form.units, params, statistics)


def clipped_products(settings: Settings, coding: Coding, data: SurvivalData) -> Float64:
    """Sum over patients of their gradients, a_p u_j u_k, each clipped; float64[pairs], exact (`dp.rows`).

    Sensitivity: a patient's vector has norm ≤ C, so C for one more or less, 2C for one replaced (`dp.releases`, ball).
    """
    sights, weights = coding.sights(coding.rows(data)), pair_weights(settings, coding.places)
    first, second = coding.places.pairs
    total = np.zeros(len(first), dtype=np.int64)
    for start in range(0, len(sights), _BLOCK):
        some = sights[start : start + _BLOCK]
        total += clipped_units([some[:, first] * some[:, second] * weights], settings.clip)
    return from_units(total, settings.clip)


def _alternated(
    settings: Settings,
    adversaries: Adversaries,
    coding: Coding,
    weights: bytes,
    data: SurvivalData,
    door: Door,
    queries: Sequence[Query],
) -> Float64:
    """Train both; the average of the generator's iterates, float64[length]."""
    import torch  # noqa: PLC0415 - drawing needs no torch

    from dp.optimizer import Adam, PublicUpdate  # noqa: PLC0415 - opacus and torch behind it
    from models.deepsurv import flat, pour  # noqa: PLC0415

    generator = adversaries.generator
    pour(generator, weights)
    follow = PublicUpdate(generator.parameters(), Adam(settings.generator_rate, settings.momentum, _BETA2))
    average = np.frombuffer(flat(generator), dtype="<f8")
    critic = np.zeros(len(coding.places.pairs[0]))
    total, difference = np.zeros_like(critic), np.zeros_like(critic)
    for step, query in enumerate(queries):
        about = query.about(critic.astype("<f8").tobytes() + flat(generator))
        found = door.tried(about, lambda: clipped_products(settings, coding, data))
        if found is None:
            break
        total = total + found
        real = total / ((step + 1) * coding.frequencies.patients)
        for turn in range(settings.turns):
            now = real - adversaries.moments(f"critic/{step}/{turn}")
            difference = settings.memory * difference + (1.0 - settings.memory) * now
            (critic,) = project([difference])
            slopes = adversaries.of_generator(f"generator/{step}/{turn}", critic)
            for parameter, part in zip(generator.parameters(), slopes, strict=True):
                parameter.grad = torch.from_numpy(part)
            follow.step()
            iterate = np.frombuffer(flat(generator), dtype="<f8")
            average = settings.averaging * average + (1.0 - settings.averaging) * iterate
    return average
