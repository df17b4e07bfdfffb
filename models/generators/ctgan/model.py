"""The generator: a condition, a latent vector, and a value of every column from the network's answers.

A GAN's margins wander, and those of the first release are the best that is known of a column alone. So drawing puts
them back: a constant is added to the logits of every level, and scalars go through their own distribution function, so
that over all inputs each column has its released frequencies. This is post-processing of released numbers; what
columns have to do with each other stays the network's. Source: iterative proportional fitting, Deming & Stephan 1940.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final, Self

import numpy as np
from scipy.special import ndtri

from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.balance import drawn, standard
from models.generators.ctgan.coding import Coding, Places
from models.generators.ctgan.form import Form
from models.generators.dictionary import Codes, Dictionary
from models.generators.oneway import Frequencies

__all__ = ["CTGAN"]

_BLOCK: Final = 1 << 13  # patients of one draw
_REFERENCES: Final = 4096  # inputs that margins are put right over
_TURNS: Final = 40
_LEAST: Final = 2.0**-30  # of a share
_NEVER: Final = -1e9  # logit of a level that is not drawn
_TENSORS: Final = ("patients", "frequencies", "params", "statistics")


@dataclass(frozen=True, eq=False)
class CTGAN:
    """A released generator.

    Args:
        frequencies: released.
        latent: length of z.
        units: of the generator's residual blocks.
        params: of the generator, float64, in the order of `Form.layout`.
        statistics: of each block, float64[2, units]: mean, and variance ≥ 0.
        complete: draw patients with every value observed. Not part of the model: it has the same digest.

    Raises:
        MisuseError: sizes, parameters, statistics and dictionary contradict each other.
    """

    learner: ClassVar[str] = "ctgan"

    frequencies: Frequencies
    latent: int
    units: tuple[int, ...]
    params: Float64 = field(repr=False)
    statistics: tuple[Float64, ...] = field(repr=False)
    complete: bool = False

    def __post_init__(self) -> None:
        """Check and freeze private copies."""
        if [part.shape for part in self.statistics] != [(2, units) for units in self.units] or not all(
            np.isfinite(part).all() and part[1].min(initial=0.0) >= 0 for part in self.statistics
        ):
            raise MisuseError("a generator's statistics are a mean and a variance of every unit")
        params, statistics = self.params.copy(), tuple(part.copy() for part in self.statistics)
        for array in (params, *statistics):
            array.flags.writeable = False
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "statistics", statistics)
        if len(params) != self.form.length or not np.isfinite(params).all():
            raise MisuseError(f"the generator has {self.form.length} finite parameters, got {len(params)}")

    @property
    def dictionary(self) -> Dictionary:
        """Columns and grid of what it draws."""
        return self.frequencies.dictionary

    @cached_property
    def coding(self) -> Coding:
        """Where everything stands, and its released frequencies."""
        return Coding(self.frequencies)

    @cached_property
    def form(self) -> Form:
        """Sizes."""
        places = Places(self.dictionary)
        return Form(self.latent, self.units, places.width, places.conditions)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of frequencies (dictionary among them), structure and released numbers."""
        shape = json.dumps(self.structure(), sort_keys=True, separators=(",", ":")).encode()
        numbers = b"".join(values.astype("<f8").tobytes() for values in self.tensors().values())
        head = b"haemfed/ctgan/v2" + self.frequencies.digest.encode()
        return hashlib.sha256(head + len(shape).to_bytes(8, "little") + shape + numbers).hexdigest()

    # ---------------------------------------------------------------- drawing

    def draw(self, n: int, rng: np.random.Generator) -> SurvivalData:
        """Draw n patients in scaled units; those of a small table together, see `models.generators.balance`."""
        parts = []
        for start in range(0, n, _BLOCK):
            answers = self.answers(self.inputs(min(_BLOCK, n - start), rng))
            parts.append(self.rows(answers, n, rng))
        return self.decoded(np.concatenate(parts) if parts else np.zeros((0, self.form.width)), rng)

    def inputs(self, n: int, rng: np.random.Generator) -> Float64:
        """Latent vectors and conditions by released frequencies, float64[n, latent + conditions]."""
        condition = self.coding.conditions((rng.permutation(n) + rng.random(n)) / max(n, 1))  # systematic: no gaps
        return np.concatenate([rng.standard_normal((n, self.latent)), condition], axis=1)

    def answers(self, inputs: Float64) -> Float64:
        """Raw scalars and logits, float64[n, width], margins put right."""
        return self.form.answers(self.params, self.statistics, inputs) + self.constants

    def rows(self, answers: Float64, whole: int, rng: np.random.Generator) -> Float64:
        """Rows drawn from answers, float64[n, width], of a table of `whole`: scalars, and one level of each one-hot."""
        places, out = self.coding.places, np.zeros_like(answers)
        for _, place in places.scalars:
            out[:, place] = np.tanh(answers[:, place])
        if not len(out):
            return out
        odds = [np.exp(answers[:, g] - answers[:, g].max(axis=1, keepdims=True)) for g in reversed(places.groups)]
        chances = [part / part.sum(axis=1, keepdims=True) for part in odds]  # follow-up first: it is given
        known = np.concatenate(
            [np.zeros((len(out), 0)), *(standard(out[:, place]) for _, place in places.scalars)], axis=1
        )
        for group, level in zip(reversed(places.groups), drawn(chances, known, whole, rng), strict=True):
            out[np.arange(len(out)), group.start + level] = 1.0
        return out

    def decoded(self, rows: Float64, rng: np.random.Generator) -> SurvivalData:
        """Patients out of rows: a scalar through its distribution function, days within their interval."""
        places, columns = self.coding.places, self.dictionary.columns
        x, observed = np.zeros((len(rows), len(columns))), np.ones((len(rows), len(columns)), dtype=bool)
        for k, (j, place) in enumerate(places.scalars):
            law = self._laws[k]
            share = np.interp(rows[:, place], law, (np.arange(len(law)) + 0.5) / len(law))
            observed[:, j] = rows[:, places.groups[j].start] > 0.5
            x[:, j] = self.frequencies.unscored(j, ndtri(share))
        for j, column in enumerate(columns):
            if column.values:
                level: Codes = rows[:, places.groups[j]].argmax(axis=1)
                observed[:, j] = level < column.bins
                x[:, j] = np.asarray(column.values)[np.minimum(level, column.bins - 1)]
        days, died = self.frequencies.follow_up(rows[:, places.groups[-1]].argmax(axis=1), rng)
        return SurvivalData(np.where(observed, x, 0.0), observed, days, died)

    @cached_property
    def constants(self) -> Float64:
        """What is added to the network's answers, float64[width]: at scalars 0."""
        answers = self._references
        places, shares, out = self.coding.places, self.coding.shares, self.coding.offsets.copy()
        out[places.groups[-1]] = 0.0  # given by the condition, at its released frequencies
        for group in places.groups[:-1]:
            out[group] += _put_right(answers[:, group] + out[group], np.maximum(shares[group], _LEAST))
        if self.complete:
            out[[group.stop - 1 for group in places.groups[:-1]]] = _NEVER
        return out

    @cached_property
    def _references(self) -> Float64:
        """Raw answers for public inputs that the model names."""
        key = np.frombuffer(bytes.fromhex(self.digest)[:16], dtype="<u8")
        rng = np.random.Generator(np.random.Philox(key=key))
        return self.form.answers(self.params, self.statistics, self.inputs(_REFERENCES, rng))

    @cached_property
    def _laws(self) -> Sequence[Float64]:
        """Sorted values of each scalar over the references; equal ones are a step that interpolation climbs."""
        return [np.sort(np.tanh(self._references[:, place])) for _, place in self.coding.places.scalars]

    # ------------------------------------------------------------------ files

    def structure(self) -> dict[str, object]:
        """The sizes, as JSON values."""
        return {"latent": self.latent, "units": list(self.units)}

    def tensors(self) -> dict[str, Float64]:
        """All released numbers: "patients" [1], "frequencies", "params" and "statistics", each in one row."""
        return {
            "patients": np.array([self.frequencies.patients]),
            "frequencies": np.concatenate(self.frequencies.tables),
            "params": self.params,
            "statistics": np.concatenate([part.ravel() for part in self.statistics]),
        }

    @classmethod
    def rebuild(cls, dictionary: Dictionary, structure: Mapping[str, object], tensors: Mapping[str, Float64]) -> Self:
        """The generator that `structure` and `tensors` were taken from.

        Raises:
            MisuseError: they contradict each other or the dictionary.
        """
        latent, units = _sizes(structure)
        if set(tensors) != set(_TENSORS):
            raise MisuseError(f"a generator is stored as the vectors {', '.join(_TENSORS)}")
        fine = [*(c.fine_bins + 1 for c in dictionary.columns), dictionary.fine.outcome_levels]
        (patients,) = _vector("patients", tensors, 1)
        tables = tuple(np.split(_vector("frequencies", tensors, sum(fine)), np.cumsum(fine)[:-1]))
        parts = np.split(_vector("statistics", tensors, 2 * sum(units)), np.cumsum([2 * u for u in units])[:-1])
        statistics = tuple(part.reshape(2, -1) for part in parts)
        params = _vector("params", tensors, tensors["params"].size)
        return cls(Frequencies(dictionary, tables, float(patients)), latent, units, params, statistics)


def _sizes(structure: Mapping[str, object]) -> tuple[int, tuple[int, ...]]:
    latent, units = structure.get("latent"), structure.get("units")
    if set(structure) != {"latent", "units"} or type(latent) is not int or not isinstance(units, list):
        raise MisuseError("a generator's structure holds latent, a whole number, and units, a list")
    if not (1 <= len(units) <= 8 and all(type(u) is int and 1 <= u <= 4096 for u in (latent, *units))):
        raise MisuseError("a generator's sizes are 1 to 4096, of at most 8 blocks")
    return latent, tuple(units)


def _vector(name: str, tensors: Mapping[str, Float64], length: int) -> Float64:
    values = tensors[name]
    if values.shape != (length,) or values.dtype != np.float64:
        raise MisuseError(f"a generator's {name} have {length} float64 numbers here, got {list(values.shape)}")
    return values


def _put_right(logits: Float64, shares: Float64) -> Float64:
    """Constants at which the mean of softmax(logits + c) is the shares, by proportional fitting."""
    out = np.zeros(len(shares))
    for _ in range(_TURNS):
        moved = logits + out
        odds = np.exp(moved - moved.max(axis=1, keepdims=True))
        mean = (odds / odds.sum(axis=1, keepdims=True)).mean(axis=0)
        out += np.log(shares / np.maximum(mean, _LEAST))
    return out
