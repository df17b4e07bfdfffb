"""The algorithm as a study's author asks for it: names in, public constants out; and what a person reads of it.

Shares follow from the size bands that people declared. Nothing here looks at a patient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from dp import noise_shares
from dp.queries import Query
from models.algorithms import chosen
from models.algorithms.averaging import Averaging
from models.algorithms.chosen import Algorithm, Cox
from models.algorithms.local import step_multiplier, step_query
from models.algorithms.newton import Newton
from models.algorithms.protection import UPDATE, WORDS
from models.generators.study import Settings
from models.presets import Preset
from nodes.errors import StudyInvalid
from nodes.study import Stage, Study
from secagg.manifest import Noise

__all__ = [
    "Asked",
    "algorithm_of",
    "local_steps",
    "named",
    "prepared",
    "require_fits",
    "shares",
    "step_noise",
    "summary",
]

_OF: Final = {
    "fedavg": ("rounds", "local_steps", "local_rate", "server_rate", "bound"),
    "fedprox": ("rounds", "local_steps", "local_rate", "server_rate", "bound", "proximal"),
    "newton": ("rounds", "form", "ridge"),
}
_ROUNDS, _LOCAL_STEPS, _LOCAL_RATE, _BOUND, _PROXIMAL = 20, 5, 0.3, 10.0, 0.1
_BRESLOW_BOUND: Final = 2.0**14
"""No patient expects so many deaths: without noise the baseline is Breslow's estimator, interval by interval."""

_BAND = re.compile(r"(?:(?P<low>\d+)\s*(?:-|to)\s*(?P<high>\d+)|(?P<least>\d+)\s*(?:\+|or more)|(?P<exactly>\d+))\s*")


@dataclass(frozen=True)
class Asked:
    """What an author may say; None leaves a number at its default.

    Args:
        name: of the algorithm.
        rounds: sums of training; of newton, its steps.
        local_steps: E.
        local_rate: step size of one local step, which is a plain gradient step.
        server_rate: what the sum of changes is multiplied by.
        bound: L2 norm that one site's change is cut to.
        proximal: μ of fedprox.
        form: of newton: "stratified" or "grid".
        ridge: of newton.

    Raises:
        StudyInvalid: a number that the algorithm does not have.
    """

    name: Literal["fedavg", "fedprox", "newton"]
    rounds: int | None = None
    local_steps: int | None = None
    local_rate: float | None = None
    server_rate: float | None = None
    bound: float | None = None
    proximal: float | None = None
    form: str | None = None
    ridge: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self)[1:]:
            if getattr(self, each.name) is not None and each.name not in _OF[self.name]:
                raise StudyInvalid(
                    f"{self.name} has no {each.name.replace('_', ' ')}; it has {', '.join(_OF[self.name])}"
                )


def prepared(preset: Preset | tuple[str, Settings], asked: Asked, *, sampling_probability: float = 1.0) -> Preset:
    """The preset with the rounds and the local rule of an algorithm; newton keeps its grid and horizon alone.

    Raises:
        StudyInvalid: a generator, samples of patients, or newton from a preset of another kind of network.
    """
    if sampling_probability != 1:
        raise StudyInvalid(f"{asked.name} reads all patients in every sum: leave sampling out, or use lockstep")
    if not isinstance(preset, Preset):
        raise StudyInvalid(f"a generator ({preset[0]}) has an algorithm of its own: leave {asked.name} out")
    steps = (Newton.steps if asked.name == "newton" else _ROUNDS) if asked.rounds is None else asked.rounds
    preset = replace(preset, steps=steps, uploads=max(steps + 1, math.ceil(1.1 * steps)))
    if asked.name != "newton":
        rate = _LOCAL_RATE if asked.local_rate is None else asked.local_rate
        return replace(preset, update="sgd-momentum", momentum=0.0, learning_rate=rate)
    if preset.learner not in {"cox", "deepsurv"}:
        raise StudyInvalid(
            f"newton fits the linear Cox model, and preset {preset.name!r} is a {preset.learner}: name a preset of "
            "cox or deepsurv, of which its grid and horizon are used"
        )
    return replace(
        preset, learner="cox", hidden=(), members=1, linear_penalty=0.0, hidden_penalty=0.0,
        breslow_bound=_BRESLOW_BOUND, breslow_pseudo_events=0.0,
    )  # fmt: skip


def named(asked: Asked, bands: Sequence[str]) -> dict[str, object]:
    """What the document says.

    Args:
        asked: by its author.
        bands: declared size bands of the sites, in order.

    Raises:
        StudyInvalid: a band is no number of patients.
        ConfigError: (of `models`) a constant out of range.
    """
    if asked.name == "newton":
        steps = Newton.steps if asked.rounds is None else asked.rounds
        ridge = Newton.ridge if asked.ridge is None else asked.ridge
        return chosen.describe(Cox(asked.form or "stratified", Newton(steps, ridge)))
    proximal = 0.0 if asked.name == "fedavg" else _PROXIMAL if asked.proximal is None else asked.proximal
    if asked.name == "fedprox" and proximal == 0:
        raise StudyInvalid("fedprox with a proximal of 0 is fedavg: name that")
    found = Averaging(
        local_steps=_LOCAL_STEPS if asked.local_steps is None else asked.local_steps,
        bound=_BOUND if asked.bound is None else asked.bound,
        proximal=proximal,
        server_rate=1.0 if asked.server_rate is None else asked.server_rate,
        shares=shares(bands),
    )
    return chosen.describe(found)


def shares(bands: Sequence[str]) -> tuple[float, ...]:
    """Each site's part of all patients: in proportion to the middle of its declared band; of "N or more", to N.

    >>> shares(["100-299", "100 or more", "100+"])
    (0.5, 0.25, 0.25)

    Raises:
        StudyInvalid: a band is no number of patients.
    """
    middles = []
    for band in bands:
        found = _BAND.fullmatch(band.strip())
        numbers = [] if found is None else [int(number) for number in found.groups() if number is not None]
        if not numbers or max(numbers) == 0 or numbers != sorted(numbers):
            raise StudyInvalid(
                f"size band {band!r} says no number of patients, and shares of averaging follow from it: write "
                "100-249, or 500 or more"
            )
        middles.append(math.fsum(numbers) / len(numbers))
    whole = math.fsum(middles)
    return tuple(middle / whole for middle in middles)


def algorithm_of(study: Study) -> Algorithm | None:
    """What a study names; None for lockstep.

    Raises:
        ConfigError: (of `models`) it is none, or a constant is out of range.
    """
    return None if study.learning.algorithm is None else chosen.read(study.learning.algorithm)


def local_steps(study: Study, stage: Stage) -> int:
    """How often an upload of this stage draws noise."""
    algorithm = algorithm_of(study)
    return algorithm.local_steps if isinstance(algorithm, Averaging) and stage.kind == UPDATE else 1


def step_noise(study: Study) -> tuple[float, float] | None:
    """Clip norm and noise multiplier of one local step; None without local noise in local steps."""
    algorithm = algorithm_of(study)
    if not isinstance(algorithm, Averaging) or study.privacy.noise is not Noise.LOCAL:
        return None
    upload = next(stage.multiplier for stage in study.stages if stage.kind == UPDATE)
    return Preset.from_json(study.learning.preset).clip, step_multiplier(upload, algorithm.local_steps)


def require_fits(study: Study, wanted: Sequence[Query]) -> None:
    """Refuse shares that were not declared, and local steps whose noise has no lattice.

    Raises:
        StudyInvalid: the shares are not those of the declared bands.
        ConfigError: (of `dp`) the noise of a local step does not fit.
    """
    algorithm = algorithm_of(study)
    if not isinstance(algorithm, Averaging):
        return
    if algorithm.shares != shares([site.size_band for site in study.sites]):
        raise StudyInvalid(f"study {study.name!r} has other shares than follow from its declared size bands")
    if study.privacy.noise is Noise.LOCAL:
        upload = next(query for query in wanted if query.kind == UPDATE)
        clip = Preset.from_json(study.learning.preset).clip
        noise_shares.local_lattice(step_query(upload, clip, algorithm.local_steps, 0), 1)


def summary(study: Study) -> Iterator[str]:
    """The algorithm and its protection: lines for a person who is asked to sign, or reads a report."""
    match algorithm_of(study):
        case None:
            yield "algorithm: lockstep, every sum is one of clipped gradients"
        case Averaging() as it:
            pull = f", pulled back with μ = {it.proximal:g}" if it.proximal else ""
            yield (
                f"algorithm: {'fedprox' if it.proximal else 'fedavg'}, every sum is one of changes by {it.local_steps} "
                f"local steps{pull}, each cut to norm {it.bound:g} and weighted by declared size"
            )
            weights = ", ".join(f"{site.name} {share:.3f}" for site, share in zip(study.sites, it.shares, strict=True))
            yield f"  shares: {weights}"
            if (noise := step_noise(study)) is not None:
                yield f"  {WORDS[Noise.LOCAL]}; its multiplier is {noise[1]:.3f} in each local step"
        case Cox(form, newton):
            strata = "stratified by hospital" if form == "stratified" else "on the preset's grid"
            yield (
                f"algorithm: newton, Cox's partial likelihood {strata} by {newton.steps} sums, ridge {newton.ridge:g}; "
                f"{WORDS[Noise.NONE]}"
            )
