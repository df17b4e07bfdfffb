"""What a preset of a survival study is, and the ranges of its numbers; the shipped ones are in `models.presets`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from models.constants import Constants
from models.descent import out_of_range
from models.networks import MOST_MEMBERS, Ensemble, FusedBlocks, Hazards, LatentWeibull, Network

__all__ = ["LEARNERS", "Preset"]

LEARNERS: Final = ("cox", "deepsurv", "savae", "fusion")


@dataclass(frozen=True)
class Preset(Constants):
    """Everything about a model and its training that is the same for all hospitals.

    Args:
        name: of the preset.
        learner: kind of network, one of `LEARNERS`.
        hidden: widths of the hidden layers, () = linear path alone, as "cox" always; of "fusion", the head's.
        members: E ≥ 1 of "deepsurv": networks beside each other, whose log-hazards are averaged; 1 for the others. They
            share the clip of a patient's gradient, so under noise each has 1/√E of it.
        linear_penalty: λ ≥ 0: ½λ‖w‖² of the linear path beside the loss of all patients, like a prior: it carries over
            to other sizes. Added to the released sum, so it costs no privacy. 0 for "savae".
        hidden_penalty: κ ≥ 0, of all other weights but the baseline; 0 for "savae" and "cox".
        latent: length of the code of "savae", of each block's code of "fusion", 1 … 4096; 0 for the others.
        time_weight: of "savae": what the time's log-likelihood is multiplied by, > 0 (1 for the others).
        kl_weight: of "savae": what the divergence of codes from N(0, I) is multiplied by, ≥ 0 (0 for the others).
        binary: of "savae": columns of values 0 and 1, 0-based, increasing; () = all are numbers. Set per study with
            `described`, as the next two.
        blocks: of "fusion": widths of the blocks in column order; () = all columns are one block.
        vectors: of "fusion": which blocks, 0-based, increasing, are observed as a whole or not at all (embeddings).
        steps: T, completed sums that training wants.
        uploads: U ≥ 1.1 · T, uploads that a site may make; the noise is calibrated to U.
        clip: C, L2 bound of one patient's gradient (nats per unit of parameter).
        update: "sgd-momentum" or "adam".
        learning_rate: step size of the public update.
        momentum: of "sgd-momentum", in [0, 1).
        averaging: η ≥ 0 of polynomial-decay averaging of the iterates, w̄_t = (1−ρ_t) w̄_{t−1} + ρ_t w_t with
            ρ_t = (η+1)/(t+η): a larger η forgets the start faster (Shamir & Zhang, ICML 2013).
        normaliser: what the noisy sum is divided by: the *declared* number of training patients of all
            sites, never the count of real ones; times the sampling probability where steps are sampled. Set per
            study with `sized`.
        grid: K+1 edges of the baseline in days, first 0, last the horizon (administrative censoring).
        initial_log_hazard: b at the start, log of deaths per patient-year: a public guess from the
            literature.
        breslow_bound: B' > 1, joint L2 bound of one patient's recalibration vector.
        breslow_pseudo_events: weight m of the common correction in each interval's own, in deaths.
        calibration_times: days, increasing, inside the horizon; the first one defines the risk bins.
        risk_edges: inner edges of the bins of predicted risk of death before the first calibration time.
        provenance: the cohort that the choice was made on.

    Raises:
        ConfigError: a value outside its range.
    """

    name: str
    learner: str
    hidden: tuple[int, ...]
    members: int
    linear_penalty: float
    hidden_penalty: float
    latent: int
    time_weight: float
    kl_weight: float
    binary: tuple[int, ...]
    blocks: tuple[int, ...]
    vectors: tuple[int, ...]
    steps: int
    uploads: int
    clip: float
    update: str
    learning_rate: float
    momentum: float
    averaging: float
    normaliser: float
    grid: tuple[float, ...]
    initial_log_hazard: float
    breslow_bound: float
    breslow_pseudo_events: float
    calibration_times: tuple[float, ...]
    risk_edges: tuple[float, ...]
    provenance: str

    def __post_init__(self) -> None:
        """Check the ranges once, where the numbers enter."""
        problems = {
            **out_of_range(self, most=1000),
            "breslow_bound must be above 1 and breslow_pseudo_events at least 0": self.breslow_bound <= 1
            or self.breslow_pseudo_events < 0,
            "grid must start at 0 and increase": len(self.grid) < 2 or self.grid[0] != 0 or not _rises(self.grid),
            "calibration_times must increase inside the horizon": not self.calibration_times
            or not _rises((0.0, *self.calibration_times))
            or self.calibration_times[-1] > self.grid[-1],
            "risk_edges must increase between 0 and 1": not _rises((0.0, *self.risk_edges, 1.0)),
            "hidden widths must be 1 … 4096": any(not 1 <= width <= 4096 for width in self.hidden),
            f"learner must be one of {', '.join(LEARNERS)}": self.learner not in LEARNERS,
            'learner "cox" has no hidden layer, "savae" at least one': self.hidden
            != {"cox": (), "savae": self.hidden or (1,)}.get(self.learner, self.hidden),
        }
        self.require(problems | self._problems_of_kind())

    def _problems_of_kind(self) -> dict[str, bool]:
        """What only some kinds of network have; at rest elsewhere, so that a preset says nothing that is not used."""
        savae, fusion, hazards = self.learner == "savae", self.learner == "fusion", self.learner in {"cox", "deepsurv"}
        return {
            f"members must be 1 … {MOST_MEMBERS}; only networks with hidden layers that are"
            ' no "savae" or "fusion" have more than one': not 1 <= self.members <= MOST_MEMBERS
            or (self.members > 1 and not (hazards and self.hidden)),
            'penalties must be at least 0; "savae" has none, without hidden layers only the linear one': min(
                self.linear_penalty, self.hidden_penalty
            )
            < 0
            or (savae and self.linear_penalty > 0)
            or (self.hidden_penalty > 0 and (savae or (hazards and not self.hidden))),
            'latent must be 1 … 4096 for "savae" and "fusion", 0 for others': not 1 <= self.latent <= 4096
            if savae or fusion
            else self.latent != 0,
            'time_weight must be positive and kl_weight at least 0; only "savae" has others than 1 and 0': min(
                self.time_weight, self.kl_weight + 1
            )
            <= 0
            or self.kl_weight < 0
            or not (savae or (self.time_weight, self.kl_weight) == (1, 0)),
            'binary columns must increase from 0; only "savae" has any': not _rises((-1, *self.binary))
            or not (savae or self.binary == ()),
            'blocks must be 1 … 100000 columns wide; only "fusion" has any': any(
                not 1 <= width <= 100_000 for width in self.blocks
            )
            or not (fusion or self.blocks == ()),
            "vectors must increase and be among the blocks": not _rises((-1, *self.vectors, len(self.blocks)))
            and self.vectors != (),
        }

    @property
    def network(self) -> Network:
        """The form of the model that is trained."""
        if self.learner == "savae":
            return LatentWeibull(self.hidden, self.latent, self.binary)
        if self.learner == "fusion":
            return FusedBlocks(self.hidden, self.latent, self.blocks, self.vectors)
        return Hazards(self.hidden) if self.members == 1 else Ensemble(self.hidden, self.members)

    @property
    def horizon(self) -> float:
        """Days; follow-up beyond it is not used."""
        return self.grid[-1]

    @property
    def intervals(self) -> int:
        """K."""
        return len(self.grid) - 1

    def sized(self, declared_patients: float) -> Preset:
        """The preset for a study that expects so many training patients in one step (typed in, not counted)."""
        return replace(self, normaliser=float(declared_patients))

    def described(
        self, *, binary: tuple[int, ...] = (), blocks: tuple[int, ...] = (), vectors: tuple[int, ...] = ()
    ) -> Preset:
        """The preset for a study whose columns are of these kinds; what this learner does not use is left out.

        Raises:
            ConfigError: see the class.
        """
        if self.learner == "savae":
            return replace(self, binary=binary)
        return replace(self, blocks=blocks, vectors=vectors) if self.learner == "fusion" else self


def _rises(values: tuple[float, ...]) -> bool:
    return all(a < b for a, b in pairwise(values))
