"""Public constants of a VAE with a Gaussian mixture of codes, and the sums that a study with them asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from dp.events import ACCOUNT_OF
from dp.queries import Query
from dp.releases.mixture import Mixture, MixtureStatistics
from models import portable
from models.constants import Constants
from models.descent import out_of_range
from models.errors import ConfigError
from models.generators.dictionary import Dictionary
from models.generators.oneway import OneWay
from models.generators.vaebgm.coding import Answers
from models.generators.vaebgm.form import Form

__all__ = ["OPEN", "PRIVATE", "Settings", "form_of", "schedule", "start_of"]

_SHARES: Final[Mapping[bool, Mapping[str, float]]] = MappingProxyType(
    {
        True: MappingProxyType({"histogram": 0.1, "gradient": 0.8, "mixture": 0.1}),
        False: MappingProxyType({"histogram": 0.1, "gradient": 0.9}),
    }
)


@dataclass(frozen=True)
class Settings(Constants):
    """Everything about a generator's learning that is the same for all hospitals.

    Args:
        name: of these settings.
        hidden: units of the hidden layer of encoder and decoder each, 0 … 4096; 0 leaves the linear paths alone.
        latent: L, length of a code, 1 … 64.
        bound: B > 0, of every coordinate of a code's mean.
        kl_weight: κ ≥ 0, of the divergence from N(0, I), from the first step on.
        outcome_weight: of follow-up's log-likelihood, > 0; 1 for other columns.
        missing_weight: of the log-likelihood that values are or are not observed, ≥ 0.
        draws: standard normal vectors of each patient, used in turn, 1 … 64.
        steps: T, completed sums of gradients that training wants, 1 … 10,000.
        uploads: U ≥ 1.1 · T, uploads that a site may make for them.
        clip: C, L2 bound of one patient's gradient.
        update: "sgd-momentum" or "adam".
        learning_rate: step size of the public update.
        momentum: of "sgd-momentum", in [0, 1).
        averaging: η ≥ 0 of the average of iterates; see `models.presets.Preset`.
        normaliser: *declared* number of training patients of all sites; set per study with `sized`.
        components: K, of the mixture, 0 … 64; 0 leaves N(0, I).
        rounds: of EM, 1 … 1000.
        radius: R > 0, codes are cut to this length in the mixture's sums.
        floor: smallest pivot of a component's covariance in units of R², in (0, 1].
        fewest: declared patients below which no mixture is fitted: noise would leave nothing of it.
        provenance: the cohorts that the choice was made on.

    Raises:
        ConfigError: a value outside its range.
    """

    name: str
    hidden: int
    latent: int
    bound: float
    kl_weight: float
    outcome_weight: float
    missing_weight: float
    draws: int
    steps: int
    uploads: int
    clip: float
    update: str
    learning_rate: float
    momentum: float
    averaging: float
    normaliser: float
    components: int
    rounds: int
    radius: float
    floor: float
    fewest: float
    provenance: str

    def __post_init__(self) -> None:
        """Check the ranges once, where the numbers enter."""
        problems = {
            **out_of_range(self, most=10_000),
            "hidden must be 0 … 4096, latent, draws 1 … 64, components 0 … 64": not 0 <= self.hidden <= 4096
            or not (1 <= self.latent <= 64 and 1 <= self.draws <= 64 and 0 <= self.components <= 64),
            "rounds must be 1 … 1000": not 1 <= self.rounds <= 1000,
            "bound, outcome_weight and radius must be positive": min(self.bound, self.outcome_weight, self.radius) <= 0,
            "kl_weight, missing_weight and fewest must be at least 0": min(
                self.kl_weight, self.missing_weight, self.fewest
            )
            < 0,
            "floor must be in (0, 1]": not 0 < self.floor <= 1,
        }
        self.require(problems)

    @property
    def mixed(self) -> bool:
        """Whether a mixture is fitted: a matter of public constants, never of the patients who are there."""
        return self.components > 0 and self.normaliser >= self.fewest

    @property
    def shares(self) -> Mapping[str, float]:
        """Default split of μ² over the kinds of sums."""
        return _SHARES[self.mixed]

    def sized(self, declared_patients: float) -> Settings:
        """The settings for a study that expects so many training patients (typed in, not counted)."""
        return replace(self, normaliser=float(declared_patients))


def form_of(settings: Settings, dictionary: Dictionary) -> Form:
    """The network's sizes."""
    answers = Answers(dictionary)
    return Form(answers.width, len(answers.numbers), settings.latent, settings.hidden, settings.bound)


def start_of(settings: Settings) -> Mixture:
    """The public start of EM: equal weights, centres drawn by a public seed in a box, unit covariances."""
    components, latent = settings.components, settings.latent
    drawn = 2.0 * portable.uniforms(b"vaebgm/mixture", components * latent) - 1.0
    one = np.eye(latent) * (settings.bound / 3.0)
    centres = drawn.reshape(components, latent) * (settings.bound / 2.0)
    return Mixture(np.full(components, 1.0 / components), centres, np.stack([one] * components))


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
    state, length = settings.digest(), form_of(settings, dictionary).length
    z, account = multipliers["gradient"], ACCOUNT_OF["gradient"]
    gradients = (
        Query("gradient", step, length, settings.clip, z, account, patient_cap, state) for step in range(settings.steps)
    )
    first = OneWay(dictionary).query(multipliers["histogram"], patient_cap)
    if not settings.mixed:
        return (first, *gradients)
    release = MixtureStatistics(start_of(settings), settings.radius, settings.floor)
    mixtures = (release.query(multipliers["mixture"], patient_cap, r).about(state) for r in range(settings.rounds))
    return (first, *gradients, *mixtures)


OPEN: Final = Settings(
    "vaebgm-open", 64, 16, 4.0, 1.0, 1.0, 1.0, 8, 600, 660, 1000.0, "adam", 0.01, 0.0, 10.0, 2000.0,
    16, 30, 16.0, 1e-4, 1000.0, "BeatAML 2.0 (Bottomly 2022), METABRIC (Curtis 2012)",
)  # fmt: skip
PRIVATE: Final = Settings(
    "vaebgm-private", 0, 4, 3.0, 1.0, 4.0, 0.3, 8, 40, 44, 5.0, "adam", 0.05, 0.0, 5.0, 2000.0,
    4, 5, 4.0, 1e-2, 1000.0, "BeatAML 2.0 (Bottomly 2022), METABRIC (Curtis 2012)",
)  # fmt: skip
