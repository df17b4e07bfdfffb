"""Public constants of a conditional GAN, and the sums that a study with one asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

from dp.events import ACCOUNT_OF
from dp.queries import Query
from models.constants import Constants
from models.errors import ConfigError
from models.generators.ctgan.coding import Places
from models.generators.ctgan.form import Form
from models.generators.dictionary import Dictionary
from models.generators.oneway import OneWay

__all__ = ["BANNER", "OPEN", "PRIVATE", "Settings", "form_of", "schedule"]

BANNER: Final = (
    "A GAN learns from gradients alone, and needs many patients for it: with 5,000 patients or fewer marginal methods "
    '(learner "bayesnet") usually win, under differential privacy almost always.'
)
"""What a person should read who chooses this learner."""

_SHARES: Final[Mapping[str, float]] = MappingProxyType({"histogram": 0.5, "gradient": 0.5})
_LARGEST: Final = 4096  # units, fake rows
_FEWEST_ROWS: Final = 16


@dataclass(frozen=True)
class Settings(Constants):
    """Everything about a generator's learning that is the same for all hospitals.

    Args:
        name: of these settings.
        latent: length of z, 1 … 4096.
        units: of each residual block of the generator, 1 … 4096.
        blocks: residual blocks, 1 … 8.
        critic_units: of each hidden layer of the critic, 1 … 4096.
        critic_layers: its hidden layers, 1 … 8.
        rows: generated rows of each step, 16 … 4096.
        turns: generator updates for each sum, 1 … 100; they cost no privacy.
        temperature: τ > 0 of the Gumbel softmax.
        condition_weight: of the cross-entropy between answer and condition, ≥ 0.
        evenness: see `models.generators.ctgan.coding.Coding`, in (0, 1].
        steps: T, completed sums of gradients that training wants, 1 … 10,000.
        uploads: U ≥ 1.1 · T, uploads that a site may make for them.
        clip: C, L2 bound of one patient's gradient.
        critic_rate: step size of the critic's Adam.
        generator_rate: step size of the generator's Adam.
        momentum: β₁ of both, in [0, 1).
        averaging: share of the old in the average of the generator's iterates, in [0, 1); 0 takes the last one.
        provenance: the cohorts that the choice was made on.

    Raises:
        ConfigError: a value outside its range.
    """

    name: str
    latent: int
    units: int
    blocks: int
    critic_units: int
    critic_layers: int
    rows: int
    turns: int
    temperature: float
    condition_weight: float
    evenness: float
    steps: int
    uploads: int
    clip: float
    critic_rate: float
    generator_rate: float
    momentum: float
    averaging: float
    provenance: str

    def __post_init__(self) -> None:
        """Check the ranges once, where the numbers enter."""
        reals = [v for f in fields(self) if isinstance(v := getattr(self, f.name), float)]
        positive = (self.temperature, self.evenness, self.clip, self.critic_rate, self.generator_rate)
        problems = {
            "every number must be finite": not all(math.isfinite(v) for v in reals),
            "latent, units and critic_units must be 1 … 4096": not all(
                1 <= v <= _LARGEST for v in (self.latent, self.units, self.critic_units)
            ),
            "blocks and critic_layers must be 1 … 8": not (1 <= self.blocks <= 8 and 1 <= self.critic_layers <= 8),
            "rows must be 16 … 4096 and turns 1 … 100": not _FEWEST_ROWS <= self.rows <= _LARGEST
            or not 1 <= self.turns <= 100,
            "steps must be 1 … 10000 and uploads at least 1.1 times as many": not 1 <= self.steps <= 10_000
            or 10 * self.uploads < 11 * self.steps,
            "temperature, evenness, clip and rates must be positive, evenness at most 1": min(positive) <= 0
            or self.evenness > 1,
            "condition_weight must be at least 0": self.condition_weight < 0,
            "momentum and averaging must be in [0, 1)": not (0 <= self.momentum < 1 and 0 <= self.averaging < 1),
        }
        for problem, present in problems.items():
            if present:
                raise ConfigError(f"settings {self.name!r}: {problem}")

    @property
    def shares(self) -> Mapping[str, float]:
        """Default split of μ² over the kinds of sums."""
        return _SHARES

    def sized(self, declared_patients: float) -> Settings:  # noqa: ARG002 - as other learners
        """These settings: sums are divided by the released number of patients."""
        return self


def form_of(settings: Settings, dictionary: Dictionary) -> Form:
    """The sizes of both networks."""
    places = Places(dictionary)
    generator = (settings.units,) * settings.blocks
    critic = (settings.critic_units,) * settings.critic_layers
    return Form(settings.latent, generator, critic, places.width, places.conditions, len(places.kept))


def schedule(
    settings: Settings, dictionary: Dictionary, multipliers: Mapping[str, float], patient_cap: int
) -> tuple[Query, ...]:
    """Every sum that the learning wants, in order; their public bytes still lack what earlier sums will say.

    Args:
        settings: of the study.
        dictionary: of the table.
        multipliers: kind → noise multiplier.
        patient_cap: public cap on patients per site.

    Raises:
        ConfigError: a kind without a multiplier.
    """
    if missing := [kind for kind in settings.shares if kind not in multipliers]:
        raise ConfigError(f"the study sets no noise multiplier for {', '.join(missing)}")
    state, size = settings.digest(), form_of(settings, dictionary).critic_length
    z, account = multipliers["gradient"], ACCOUNT_OF["gradient"]
    gradients = (
        Query("gradient", step, size, settings.clip, z, account, patient_cap, state) for step in range(settings.steps)
    )
    return (OneWay(dictionary).query(multipliers["histogram"], patient_cap), *gradients)


OPEN: Final = Settings(
    "ctgan-open", 32, 64, 2, 64, 1, 256, 1, 2.0, 0.02, 0.02, 400, 440, 100.0, 0.002, 0.005, 0.5, 0.98, "BeatAML",
)  # fmt: skip
PRIVATE: Final = Settings(
    "ctgan-private", 16, 32, 1, 16, 1, 256, 5, 2.0, 0.02, 0.02, 40, 44, 1.0, 0.02, 0.005, 0.9, 0.95, "METABRIC",
)  # fmt: skip
