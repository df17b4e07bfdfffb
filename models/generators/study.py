"""A study that makes a generator: which learner, under which public constants, and the order of its sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol, Self, cast

from dp.queries import Query, SecureSum
from models.data import SurvivalData
from models.errors import ConfigError
from models.generators.dictionary import Dictionary
from models.generators.file import StoredGenerator

__all__ = ["LEARNERS", "GeneratorSpec", "Settings", "settings_named", "settings_of"]

LEARNERS: Final = ("bayesnet", "vaebgm", "ctgan")
_KIND: Final = "learner"  # beside the settings' own fields in a study's document


class Settings(Protocol):
    """Public constants of one learner; see its package."""

    @property
    def name(self) -> str:
        """Of these settings."""
        ...

    @property
    def shares(self) -> Mapping[str, float]:
        """Default split of the training patients' μ² over the kinds of its sums."""
        ...

    def sized(self, declared_patients: float) -> Settings:
        """The settings for a study that expects so many training patients (typed in, not counted)."""
        ...

    def to_json(self) -> dict[str, object]:
        """All fields, as JSON values."""
        ...

    def digest(self) -> bytes:
        """SHA-256 of all fields."""
        ...


class _Learner(Protocol):
    """What every learner's package exports, beside its named settings."""

    def schedule(
        self, settings: Any, dictionary: Dictionary, multipliers: Mapping[str, float], patient_cap: int
    ) -> tuple[Query, ...]: ...

    def parameter_count(self, settings: Any, dictionary: Dictionary) -> int: ...

    def initial_weights(self, settings: Any, dictionary: Dictionary, seed: bytes) -> bytes: ...

    def train(
        self,
        settings: Any,
        dictionary: Dictionary,
        multipliers: Mapping[str, float],
        patient_cap: int,
        weights: bytes,
        data: SurvivalData,
        secure_sum: SecureSum,
        noise_inflation: float = 1.0,
        on_step: Callable[[int, str], None] | None = None,
    ) -> StoredGenerator: ...


def _learner(name: str) -> _Learner:
    """Load a learner when it is needed: a closed list, and two of them bring torch along.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in LEARNERS:
        raise ConfigError(f"no generator {name!r}; there are {', '.join(LEARNERS)}")
    return cast("_Learner", import_module(f"models.generators.{name}"))


def settings_named(name: str) -> tuple[str, Settings]:
    """Look settings up by name: (learner, settings).

    Raises:
        ConfigError: there are none of this name; lists them.
    """
    known: dict[str, tuple[str, Settings]] = {}
    for learner in LEARNERS:
        package = _learner(learner)
        kind = package.Settings  # type: ignore[attr-defined]  # a class, which a Protocol of functions cannot name
        known |= {each.name: (learner, each) for each in vars(package).values() if isinstance(each, kind)}
    if name not in known:
        raise ConfigError(f"no settings {name!r} of a generator; there are {', '.join(sorted(known))}")
    return known[name]


def settings_of(body: Mapping[str, object]) -> tuple[str, Settings]:
    """Read what `GeneratorSpec.to_json` wrote into a study: (learner, settings).

    Raises:
        ConfigError: a field is missing, unknown or of another type.
    """
    learner = str(body.get(_KIND))
    kind = _learner(learner).Settings  # type: ignore[attr-defined]  # as above
    settings: Settings = kind.from_json({name: value for name, value in body.items() if name != _KIND})
    return learner, settings


@dataclass(frozen=True)
class GeneratorSpec:
    """What a study says about its generator: public constants only.

    Args:
        learner: one of `LEARNERS`.
        settings: of that learner.
        dictionary: columns and grid, from the profile.
        weights: initial weights, as its `initial_weights` makes them.
        multipliers: noise multiplier z per kind of query; other kinds than the learner's are for others.
        patient_cap: public cap on patients per site.
        noise_inflation: ≥ 1, see `models.plan.Spec`.

    Raises:
        ConfigError: a value is missing or out of range, or a package that the learner needs.
    """

    learner: str
    settings: Settings
    dictionary: Dictionary
    weights: bytes = field(repr=False)
    multipliers: Mapping[str, float]
    patient_cap: int
    noise_inflation: float = 1.0

    def __post_init__(self) -> None:
        """Check what the learner does not check itself."""
        wanted = 8 * _learner(self.learner).parameter_count(self.settings, self.dictionary)
        if len(self.weights) != wanted:
            raise ConfigError(f"initial weights have {len(self.weights)} bytes, {self.learner} needs {wanted}")
        if not self.noise_inflation >= 1:
            raise ConfigError("noise_inflation is at least 1")
        if ready := getattr(_learner(self.learner), "ready", None):
            ready()  # what training needs is there: asked before anybody signs
        self.schedule()

    @classmethod
    def draft(
        cls,
        learner: str,
        settings: Settings,
        dictionary: Dictionary,
        seed: bytes,
        multipliers: Mapping[str, float],
        patient_cap: int,
    ) -> Self:
        """A spec with initial weights from a public seed."""
        weights = _learner(learner).initial_weights(settings, dictionary, seed)
        return cls(learner, settings, dictionary, weights, multipliers, patient_cap)

    def to_json(self) -> dict[str, object]:
        """Learner and settings, for the study's document."""
        return {_KIND: self.learner, **self.settings.to_json()}

    def schedule(self) -> tuple[Query, ...]:
        """Every sum that is wanted, in order: what a study checks its lattice and budget against."""
        return _learner(self.learner).schedule(self.settings, self.dictionary, self.multipliers, self.patient_cap)

    def run(
        self, data: SurvivalData, secure_sum: SecureSum, on_step: Callable[[int, str], None] | None = None
    ) -> StoredGenerator:
        """Learn through the door; every site gets the same generator.

        Args:
            data: this site's training patients; may be empty.
            secure_sum: the door.
            on_step: called after each sum with (sums done, digest of what was released so far).
        """
        return _learner(self.learner).train(
            self.settings,
            self.dictionary,
            self.multipliers,
            self.patient_cap,
            self.weights,
            data,
            secure_sum,
            self.noise_inflation,
            on_step,
        )
