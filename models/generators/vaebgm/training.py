"""Learning the generator through the door: frequencies, gradients, then EM rounds on the codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dp.queries import Query, SecureSum
from dp.releases.mixture import Mixture, MixtureStatistics
from dp.releases.records import Records
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.dictionary import Dictionary
from models.generators.door import Door, OnStep
from models.generators.oneway import Frequencies, OneWay
from models.generators.vaebgm.coding import Answers, Coding
from models.generators.vaebgm.form import Form
from models.generators.vaebgm.model import VAEBGM
from models.generators.vaebgm.settings import Settings, form_of, schedule, start_of

__all__ = ["initial_weights", "parameter_count", "train"]


def parameter_count(settings: Settings, dictionary: Dictionary) -> int:
    """How many numbers `initial_weights` are."""
    return form_of(settings, dictionary).length


def initial_weights(settings: Settings, dictionary: Dictionary, seed: bytes) -> bytes:
    """Initial parameters from a public seed, float64 little-endian, the same bytes on every host."""
    return form_of(settings, dictionary).start(seed, Answers(dictionary).risk).astype("<f8").tobytes()


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
) -> VAEBGM:
    """Learn a generator; every site gets the same one, bit for bit.

    Guarantee: what depends on patients is the sums of `schedule`, each asked about all that was released before it.
        A kind whose uploads are exhausted ends early; the generator is the one that the sums so far give, at worst
        columns drawn on their own.

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
        ConfigError: a kind without a multiplier.
        MisuseError: the data have another number of features, or the weights are not those of this network.
    """
    form = form_of(settings, dictionary)
    if len(weights) != 8 * form.length:
        raise MisuseError(f"weights have {len(weights)} bytes, the network needs {8 * form.length}")
    planned = schedule(settings, dictionary, multipliers, patient_cap)
    bounded = data.bounded(dictionary.grid[-1])
    dictionary.codes(bounded.rows(np.zeros(len(bounded), dtype=np.bool_)))  # the width, before anything is asked
    door = Door(settings.digest(), secure_sum, noise_inflation, on_step)
    frequencies = _frequencies(OneWay(dictionary), planned[0], bounded, door)
    coding = Coding(frequencies)
    gradients = [query for query in planned if query.kind == "gradient"]
    params, inputs = _descent(settings, form, coding, weights, bounded, door, gradients)
    mixture = None
    if settings.mixed:
        means = form.encode(form.arrays(params), inputs)
        mixture = _mixed(settings, [query for query in planned if query.kind == "mixture"], means, door)
    return VAEBGM(frequencies, form, params, mixture)


def _frequencies(release: OneWay, query: Query, data: SurvivalData, door: Door) -> Frequencies:
    counts = door.tried(query, lambda: release.contribution(data))
    return release.decode(np.zeros(query.length) if counts is None else counts, door.noise_sd(query))


@dataclass
class _Turn:
    """Which of a patient's normal vectors is used; the same in all sums of a step, at every site."""

    number: int = 0


def _descent(
    settings: Settings,
    form: Form,
    coding: Coding,
    weights: bytes,
    data: SurvivalData,
    door: Door,
    queries: Sequence[Query],
) -> tuple[Float64, Float64]:
    """Parameters that training leaves, and the network's inputs."""
    import torch  # noqa: PLC0415 - whoever only draws needs no torch

    from models.generators.vaebgm.autoencoder_network import Autoencoder  # noqa: PLC0415
    from models.savae import noise  # noqa: PLC0415
    from models.training import descend  # noqa: PLC0415

    targets = coding.targets(data)
    inputs = coding.inputs(targets)
    epsilon = noise(inputs, settings.draws * settings.latent).reshape(len(inputs), settings.draws, settings.latent)
    columns = [inputs, *_weighted(settings, coding, targets), epsilon]
    offsets, turn = torch.from_numpy(coding.offsets), _Turn()

    def losses(module: Any, u: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module.per_patient_loss(
            u, rest[:-1], rest[-1][:, turn.number], offsets, settings.kl_weight
        )
        return found

    def asked(step: int) -> Query:
        turn.number = step % settings.draws
        return queries[step]

    trained = descend(
        settings,
        Autoencoder(form, coding.answers),
        losses,
        weights,
        [torch.from_numpy(column) for column in columns],
        door,
        asked,
    )
    return np.frombuffer(trained.params, dtype="<f8").astype(np.float64), inputs


def _weighted(settings: Settings, coding: Coding, targets: Sequence[Float64]) -> list[Float64]:
    """Targets with the weights of columns in what counts."""
    scores, seen, bits, counted, levels = targets
    counted, levels = counted.copy(), levels.copy()
    counted[:, len(coding.answers.binary) :] *= settings.missing_weight
    levels[:, coding.answers.groups[-1]] *= settings.outcome_weight
    return [scores, seen, bits, counted, levels]


def _mixed(settings: Settings, queries: Sequence[Query], means: Float64, door: Door) -> Mixture:
    """EM from the public start: as many rounds as uploads last."""
    mixture = start_of(settings)
    for planned in queries:
        release = MixtureStatistics(mixture, settings.radius, settings.floor)
        query = release.query(planned.multiplier, planned.patient_cap, planned.index)
        total = door.tried(query, lambda release=release: release.contribution(Records(means)))  # type: ignore[misc]
        if total is None:
            break
        mixture = release.decode(total, door.noise_sd(query)).mixture
    return mixture
