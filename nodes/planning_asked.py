"""The question of a plan: sizes, ε, preset and algorithm, all public numbers that a person typed in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from harmonize.split import ONE_IN
from models.presets import Preset
from nodes import rounds
from nodes.errors import ConfigError
from nodes.planning_rounds import Averaged
from nodes.protocol import MINIMUM_MEMBERS, Terms, collusion_bound
from secagg.errors import SecaggError
from secagg.manifest import Manifest, Member, Mode

__all__ = ["LARGEST", "Asked"]

LARGEST: Final = Terms.patient_cap
"""Most patients of one hospital."""

_MOST_SITES: Final = 64
_FEWEST_RUNS, _MOST_RUNS = 3, 20
_WORK: Final = 100_000  # patients × models in training: about half a minute on one core


@dataclass(frozen=True)
class Asked:
    """The federation that somebody has in mind; public numbers, all typed in by a person.

    Args:
        sizes: patients of each hospital, as declared, held-out ones included.
        epsilons: total ε of one training patient to compare, add-or-remove-one, against the coordinator and c sites.
        preset: model and training constants.
        delta: δ of every ε.
        collusion: c; None for the rule of `haemfed study draft`.
        mode: A or B.
        seed: decides everything that is drawn.
        runs: repetitions; None for as many as half a minute allows.
        algorithm: FedAvg or FedProx, planned beside lockstep; None for lockstep alone.

    Raises:
        ConfigError: a number outside its range, or newton, which has no ε; names it and the way out.
    """

    sizes: tuple[int, ...]
    epsilons: tuple[float, ...]
    preset: Preset
    delta: float = 1e-5
    collusion: int | None = None
    mode: Mode = Mode.A
    seed: int = 0
    runs: int | None = None
    algorithm: rounds.Asked | None = None

    def __post_init__(self) -> None:
        """Check what a person typed, before anything runs."""
        if not MINIMUM_MEMBERS <= len(self.sizes) <= _MOST_SITES:
            raise ConfigError(f"{len(self.sizes)} hospitals: a plan is for {MINIMUM_MEMBERS} to {_MOST_SITES} of them")
        for size in self.sizes:
            if not 5 <= size <= LARGEST:
                raise ConfigError(f"a hospital of {size} patients: declare 5 to {LARGEST}, the study's patient cap")
        if not 1 <= len(self.epsilons) <= 12 or len(set(self.epsilons)) != len(self.epsilons):
            raise ConfigError("give 1 to 12 different values of epsilon")
        for epsilon in self.epsilons:
            if not 0.01 <= epsilon <= 100:
                raise ConfigError(f"epsilon {epsilon:g} is not in 0.01 to 100; common values are 0.5 to 8")
        if not 1e-12 <= self.delta <= 1e-3:
            raise ConfigError(f"delta {self.delta:g} is not in 1e-12 to 0.001; 1e-5 is usual")
        if self.runs is not None and not 2 <= self.runs <= 200:
            raise ConfigError(f"{self.runs} runs: give 2 to 200")
        if self.seed < 0:
            raise ConfigError("the seed is a whole number, 0 or more")
        _ = self.honest, self.averaged

    @property
    def uncounted(self) -> int:
        """c: colluding sites that the noise allows for."""
        return collusion_bound(len(self.sizes)) if self.collusion is None else self.collusion

    @property
    def honest(self) -> int:
        """Noise shares that no opened sum lacks, h; from the rules of the protocol itself."""
        n, c = len(self.sizes), self.uncounted
        members = tuple(Member(i, f"hospital-{i}", hashlib.sha256(b"%d" % i).digest()) for i in range(1, n + 1))
        try:
            frame = Manifest(
                run_id=bytes(32),
                study_digest=bytes(32),
                members=members,
                collusion=c,
                minimum_roster=n,
                roster_changes=0,
                max_rounds=self.preset.uploads + 1,
                mode=self.mode,
            )
        except SecaggError as error:
            raise ConfigError(f"{n} hospitals of which {c} may collude: {error}") from error
        return frame.honest(n)

    @property
    def averaged(self) -> Averaged | None:
        """The rounds that are planned beside lockstep, as a study of these hospitals would have them."""
        return None if self.algorithm is None else Averaged.of(self.algorithm, self.preset, self.sizes)

    @property
    def training(self) -> tuple[int, ...]:
        """Patients of each hospital that train."""
        return tuple(round(size * (ONE_IN - 1) / ONE_IN) for size in self.sizes)

    @property
    def repetitions(self) -> int:
        """How often everything is repeated: a function of what was asked, never of the clock."""
        if self.runs is not None:
            return self.runs
        # A small cohort costs a model nearly as much as one block of patients.
        whole, alone = max(sum(self.training), 1024), sum(max(size, 1024) for size in set(self.training))
        work = (2 * len(self.epsilons) + 1) * whole + alone
        if self.averaged is not None:
            each = sum(max(size, 1024) for size in self.training)
            work += len(self.epsilons) * each * self.averaged.local_steps // self.preset.steps
        return max(_FEWEST_RUNS, min(_MOST_RUNS, _WORK // work))
