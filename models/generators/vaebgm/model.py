"""The generator: a code from the mixture or from N(0, I), answers, and a value of every column from its law.

Noise and a curved decoder move the margins away from what the first release says of them. As that release is the best
that is known of a column alone, drawing puts it back: a constant is added to the logits of every bit and level, and
scores go through their own distribution function, so that over all codes each column has its released frequencies.
This is post-processing of released numbers; what columns have to do with each other stays the network's.

Source: Apellániz, Parras & Zazo, EUSIPCO 2024, 1886-1890 (VAE-BGM); Deming & Stephan 1940 (margins by proportional
fitting).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final, Self

import numpy as np
from scipy.special import expit, ndtr, ndtri

import dp.errors
from dp.releases.mixture import Mixture
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.balance import drawn, normals, standard
from models.generators.dictionary import Dictionary
from models.generators.oneway import Frequencies
from models.generators.vaebgm.coding import Answers, Coding
from models.generators.vaebgm.form import Form

__all__ = ["VAEBGM"]

_BLOCK: Final = 1 << 13  # patients of one draw
_REFERENCES: Final = 4096  # codes that margins are put right over
_TURNS: Final = 40
_POINTS: Final = 401  # of a score's distribution function
_TENSORS: Final = ("patients", "frequencies", "params", "mixture")


@dataclass(frozen=True, eq=False)
class VAEBGM:
    """A released generator.

    Args:
        frequencies: released.
        form: of the network.
        params: released parameters, float64[form.length].
        mixture: of the means of codes; None draws codes from N(0, I).
        complete: draw patients with every value observed. Not part of the model: it has the same digest.

    Raises:
        MisuseError: form, parameters, mixture and dictionary contradict each other.
    """

    learner: ClassVar[str] = "vaebgm"

    frequencies: Frequencies
    form: Form
    params: Float64 = field(repr=False)
    mixture: Mixture | None = field(default=None, repr=False)
    complete: bool = False

    def __post_init__(self) -> None:
        """Check and freeze a private copy."""
        answers = self._coding.answers
        if min(float(table.min()) for table in self.frequencies.tables) <= 0:
            raise MisuseError("a generator's frequencies are above zero, as the first release gives them")
        if (self.form.width, self.form.numbers) != (answers.width, len(answers.numbers)):
            raise MisuseError("the autoencoder's form is not that of the dictionary")
        if self.mixture is not None and self.mixture.means.shape[1] != self.form.latent:
            raise MisuseError("mixture and codes have different lengths")
        params = np.array(self.params, dtype=np.float64)
        params.flags.writeable = False
        object.__setattr__(self, "params", params)
        self.form.arrays(params)

    @property
    def dictionary(self) -> Dictionary:
        """Columns and grid of what it draws."""
        return self.frequencies.dictionary

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of frequencies (dictionary among them), structure and released numbers."""
        shape = json.dumps(self.structure(), sort_keys=True, separators=(",", ":")).encode()
        numbers = b"".join(values.astype("<f8").tobytes() for values in self.tensors().values())
        head = b"haemfed/vaebgm/v1" + self.frequencies.digest.encode()
        return hashlib.sha256(head + len(shape).to_bytes(8, "little") + shape + numbers).hexdigest()

    # ---------------------------------------------------------------- drawing

    def draw(self, n: int, rng: np.random.Generator) -> SurvivalData:
        """Draw n patients in scaled units; those of a small table together, see `models.generators.balance`."""
        places, columns = self._coding.answers, self.dictionary.columns
        x, observed = np.zeros((n, len(columns))), np.ones((n, len(columns)), dtype=bool)
        outcome = np.zeros(n, dtype=np.int64)
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            answers = self.form.decode(self._arrays, self.codes(rows.stop - rows.start, rng, n))
            scores = [self._number(k, j, answers[:, k], rng) for k, j in enumerate(places.numbers)]
            for score, j in zip(scores, places.numbers, strict=True):
                x[rows, j] = score
            upper = expit(self._bits(answers) + self._margins[0])
            logits = self._levels(answers) + self._margins[1]
            chances = [_shares(logits[:, group]) for group in reversed(places.groups)]  # follow-up first
            chances += [np.column_stack([1.0 - p, p]) for p in upper.T]
            known = np.concatenate([np.zeros((len(answers), 0)), *map(standard, scores)], axis=1)
            levels = drawn(chances, known, n, rng)
            listed, bits = levels[: len(places.groups)][::-1], np.column_stack(levels[len(places.groups) :]) == 1
            if not self.complete:
                observed[rows] = ~bits[:, len(places.binary) :]
            for k, j in enumerate(places.binary):
                x[rows, j] = np.asarray(columns[j].values)[bits[:, k].astype(int)]
            for k, j in enumerate(places.listed):
                x[rows, j] = np.asarray(columns[j].values)[listed[k]]
            outcome[rows] = listed[-1]
        days, died = self.frequencies.follow_up(outcome, rng)
        return SurvivalData(np.where(observed, x, 0.0), observed, days, died)

    def codes(self, n: int, rng: np.random.Generator, whole: int | None = None) -> Float64:
        """Draw n codes of a table of `whole` (n) patients, float64[n, L].

        In a small table every component is there as often as its weight says, with its mean and covariance.
        """
        latent, whole = self.form.latent, n if whole is None else whole
        if self.mixture is None:
            return normals(n, latent, whole, rng)
        share = self.mixture.weights / self.mixture.weights.sum()
        (which,) = drawn([np.tile(share, (n, 1))], np.zeros((n, 0)), whole, rng)
        codes, own = np.zeros((n, latent)), np.diag(self.form.spreads(self._arrays) ** 2)
        for k, (mean, covariance) in enumerate(zip(self.mixture.means, self.mixture.covariances, strict=True)):
            here = np.flatnonzero(which == k)
            codes[here] = mean + normals(len(here), latent, whole, rng) @ np.linalg.cholesky(covariance + own).T
        return codes

    def _number(self, k: int, column: int, answers: Float64, rng: np.random.Generator) -> Float64:
        scores = answers + self._scales[k] * rng.standard_normal(len(answers))
        share = np.interp(scores, *self._margins[2][k])
        return self.frequencies.unscored(column, ndtri(share))

    @cached_property
    def _coding(self) -> Coding:
        return Coding(self.frequencies)

    @cached_property
    def _arrays(self) -> dict[str, Float64]:
        return self.form.arrays(self.params)

    @cached_property
    def _scales(self) -> Float64:
        return self.form.scales(self._arrays)

    def _bits(self, answers: Float64) -> Float64:
        bits = self._coding.answers.bits
        return answers[:, self.form.numbers : self.form.numbers + bits] + self._coding.offsets[:bits]

    def _levels(self, answers: Float64) -> Float64:
        bits = self._coding.answers.bits
        return answers[:, self.form.numbers + bits :] + self._coding.offsets[bits:]

    @cached_property
    def _margins(self) -> tuple[Float64, Float64, tuple[tuple[Float64, Float64], ...]]:
        """What is added to bits and levels, and each score's distribution function; over observed values."""
        places, binary = self._coding.answers, len(self._coding.answers.binary)
        key = np.frombuffer(bytes.fromhex(self.digest)[:16], dtype="<u8")
        answers = self.form.decode(
            self._arrays, self.codes(_REFERENCES, np.random.Generator(np.random.Philox(key=key)))
        )
        everybody = np.ones((len(answers), len(self.dictionary.columns)))
        logits, shares = self._bits(answers), self._coding.bit_shares
        missing = _bits_put_right(logits[:, binary:], shares[binary:], everybody)
        seen = 1.0 - expit(logits[:, binary:] + missing)
        own = _bits_put_right(logits[:, :binary], shares[:binary], seen[:, list(places.binary)])
        weights = [*(seen[:, j] for j in places.listed), everybody[:, 0]]
        choices = self._levels(answers)
        levels = [
            _levels_put_right(choices[:, group], self._coding.level_shares[group], weight)
            for group, weight in zip(places.groups, weights, strict=True)
        ]
        laws = [_law(answers[:, k], self._scales[k], seen[:, j]) for k, j in enumerate(places.numbers)]
        return np.concatenate([own, missing]), np.concatenate(levels), tuple(laws)

    # ------------------------------------------------------------------ files

    def structure(self) -> dict[str, object]:
        """The sizes, as JSON values."""
        components = 0 if self.mixture is None else len(self.mixture.weights)
        form = self.form
        return {"latent": form.latent, "hidden": form.hidden, "bound": float(form.bound), "components": components}

    def tensors(self) -> dict[str, Float64]:
        """All released numbers: "patients" [1], "frequencies", "params"; "mixture" is weights, means and factors."""
        mixture = self.mixture
        parts = () if mixture is None else (mixture.weights, mixture.means.ravel(), mixture.factors.ravel())
        return {
            "patients": np.array([self.frequencies.patients]),
            "frequencies": np.concatenate(self.frequencies.tables),
            "params": self.params,
            "mixture": np.concatenate([np.zeros(0), *parts]),
        }

    @classmethod
    def rebuild(cls, dictionary: Dictionary, structure: Mapping[str, object], tensors: Mapping[str, Float64]) -> Self:
        """The generator that `structure` and `tensors` were taken from.

        Raises:
            MisuseError: they contradict each other or the dictionary.
        """
        latent, hidden, components, bound = _sizes(structure)
        if set(tensors) != set(_TENSORS):
            raise MisuseError(f"a generator is stored as the vectors {', '.join(_TENSORS)}")
        answers = Answers(dictionary)
        form = Form(answers.width, len(answers.numbers), latent, hidden, bound)
        fine = [*(c.fine_bins + 1 for c in dictionary.columns), dictionary.fine.outcome_levels]
        patients = float(_vector("patients", tensors, 1)[0])
        if not 1 <= patients < np.inf:
            raise MisuseError("a generator was learned from at least one patient, as the first release has it")
        tables = tuple(np.split(_vector("frequencies", tensors, sum(fine)), np.cumsum(fine)[:-1]))
        parts = _vector("mixture", tensors, components * (1 + latent + latent * latent))
        weights, means, factors = np.split(parts, [components, components * (1 + latent)])
        mixture = None
        if components:
            shape = (components, latent)
            mixture = _mixture(weights, means.reshape(shape), factors.reshape(*shape, latent))
        params = _vector("params", tensors, form.length)
        return cls(Frequencies(dictionary, tables, patients), form, params, mixture)


def _sizes(structure: Mapping[str, object]) -> tuple[int, int, int, float]:
    if set(structure) != {"latent", "hidden", "bound", "components"}:
        raise MisuseError("a generator's structure holds latent, hidden, bound and components")
    latent, hidden, components = (structure[name] for name in ("latent", "hidden", "components"))
    bound = structure["bound"]
    if type(latent) is not int or type(hidden) is not int or type(components) is not int or type(bound) is not float:
        raise MisuseError("a generator's sizes are whole numbers, its bound a number")
    if not 0 <= components <= 64:
        raise MisuseError("a generator's mixture has 0 to 64 components")
    return latent, hidden, components, bound


def _vector(name: str, tensors: Mapping[str, Float64], length: int) -> Float64:
    values = tensors[name]
    if values.shape != (length,) or values.dtype != np.float64:
        raise MisuseError(f"a generator's {name} have {length} float64 numbers here, got {list(values.shape)}")
    return values


def _mixture(weights: Float64, means: Float64, factors: Float64) -> Mixture:
    try:
        made = Mixture(weights, means, factors)
    except dp.errors.MisuseError as error:
        raise MisuseError(str(error)) from None
    if np.triu(factors, 1).any():
        raise MisuseError("a mixture's factors are lower-triangular")
    return made


def _shares(logits: Float64) -> Float64:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _bits_put_right(logits: Float64, shares: Float64, weights: Float64) -> Float64:
    """Constants at which Σ w·expit(logit + c) = share · Σ w in every column, by bisection."""
    low, high = np.full(len(shares), -40.0), np.full(len(shares), 40.0)
    wanted = shares * weights.sum(axis=0)
    for _ in range(_TURNS):
        middle = (low + high) / 2
        small = (expit(logits + middle) * weights).sum(axis=0) < wanted
        low, high = np.where(small, middle, low), np.where(small, high, middle)
    return np.asarray((low + high) / 2)


def _levels_put_right(logits: Float64, shares: Float64, weights: Float64) -> Float64:
    """Constants at which the weighted mean of softmax(logits + c) is the shares, by proportional fitting."""
    out = np.zeros(len(shares))
    for _ in range(_TURNS):
        moved = logits + out
        odds = np.exp(moved - moved.max(axis=1, keepdims=True))
        mean = weights @ (odds / odds.sum(axis=1, keepdims=True)) / weights.sum()
        out += np.log(shares / np.maximum(mean, 1e-12))
    return out


def _law(answers: Float64, scale: float, weights: Float64) -> tuple[Float64, Float64]:
    """Points and weighted mean of Φ((point − answer) / scale) there: the distribution function of a score."""
    inner = np.quantile(answers, np.linspace(0.0, 1.0, _POINTS))
    points = np.unique(np.concatenate([inner + scale * shift for shift in range(-5, 6)]))
    # Fewer are enough: a step between neighbours is then a small share of all patients or of one scale.
    points = np.unique(np.append(points[:: max(len(points) // _POINTS, 1)], points[-1]))
    below = ndtr((points[:, None] - answers[None, :]) / scale) @ weights
    return points, np.clip(below / weights.sum(), 0.0, 1.0)
