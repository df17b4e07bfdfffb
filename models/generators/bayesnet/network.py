"""The generator: a directed graph over the columns, one table per column, ancestral sampling.

A table of up to `BALANCED` patients is drawn column by column for all of them together (`models.generators.balance`):
each patient is one of the model's, and the table shows less chance than independent ones. A larger table is of
independent patients: chance is small in it.

Source: Koller & Friedman, Probabilistic Graphical Models, 2009, ch. 3 and 12.1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.balance import exchanged, spread, standard
from models.generators.bayesnet.scores import coarse
from models.generators.dictionary import Codes, Dictionary
from models.generators.oneway import Frequencies

__all__ = ["BALANCED", "BayesianNetwork"]

BALANCED = 8192  # patients of a table that is balanced at most: that takes about a minute at 100 columns
_BLOCK = 1 << 16  # patients of one draw: a table row for each is in memory


@dataclass(frozen=True, eq=False)
class BayesianNetwork:
    """A released Bayesian network.

    Args:
        frequencies: released; they place numbers inside the levels.
        order: positions of the columns, parents before children; the last position is `OUTCOME`.
        parents: of each column, increasing positions.
        tables: of each column P(level | parents' levels), float64[levels, parents' levels…]; sums over the first axis
            are 1.
        complete: draw patients with every value observed: levels "not observed" are left out, the others share their
            probability in proportion. Not part of the model: it has the same digest.

    Raises:
        MisuseError: order, parents and tables contradict each other or the dictionary, or numbers are none.
    """

    learner: ClassVar[str] = "bayesnet"

    frequencies: Frequencies
    order: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[Float64, ...] = field(repr=False)
    complete: bool = False

    def __post_init__(self) -> None:
        """Check and freeze private copies."""
        levels = self.dictionary.levels
        _check_graph(self.order, self.parents, len(levels))
        shapes = [(levels[j], *(levels[a] for a in self.parents[j])) for j in range(len(levels))]
        if [t.shape for t in self.tables] != shapes:
            raise MisuseError("a network has one table per column, over its levels and those of its parents")
        frozen = []
        for table in self.tables:
            array = np.array(table, dtype=np.float64)
            if not np.isfinite(array).all() or array.min() < 0 or np.abs(array.sum(axis=0) - 1).max() > 1e-6:
                raise MisuseError("a network's tables hold probabilities that add up to 1")
            array.flags.writeable = False
            frozen.append(array)
        object.__setattr__(self, "tables", tuple(frozen))

    @property
    def dictionary(self) -> Dictionary:
        """Columns and grid of what it draws."""
        return self.frequencies.dictionary

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of frequencies (dictionary among them), structure and tables."""
        shape = json.dumps(self.structure(), sort_keys=True, separators=(",", ":")).encode()
        numbers = b"".join(table.astype("<f8").tobytes() for table in self.tables)
        patients = np.array([self.frequencies.patients], dtype="<f8").tobytes()
        head = b"haemfed/bayesnet/v1" + self.frequencies.digest.encode() + patients
        return hashlib.sha256(head + len(shape).to_bytes(8, "little") + shape + numbers).hexdigest()

    def draw(self, n: int, rng: np.random.Generator) -> SurvivalData:
        """Draw n patients in scaled units, balanced up to `BALANCED` of them, independent beyond."""
        if n <= BALANCED:
            codes = self.balanced(n, rng)
        else:
            codes = np.concatenate([self.levels_of(min(_BLOCK, n - k), rng) for k in range(0, n, _BLOCK)])
        columns = self.dictionary.columns
        x = np.zeros((n, len(columns)))
        observed = codes[:, :-1] < np.array([c.bins for c in columns])
        for j in range(len(columns)):
            seen = observed[:, j]
            x[seen, j] = self.frequencies.numbers(j, codes[seen, j], rng)
        days, died = self.frequencies.follow_up(codes[:, -1], rng)
        return SurvivalData(x, observed, days, died)

    def levels_of(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw the levels of n independent patients, int64[n, p + 1], `OUTCOME` last."""
        codes = np.zeros((n, len(self.order)), dtype=np.int64)
        for j in self.order:
            table = self._drawn_from[j]
            cumulated = np.cumsum(table.reshape(len(table), -1), axis=0).T[self._rows(j, codes)]
            # Scaled by the last sum, so that a level of probability 0 at the end is never taken for a rounding error.
            codes[:, j] = (rng.random(n)[:, None] * cumulated[:, -1:] >= cumulated).sum(axis=1)
        return codes

    def balanced(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw the levels of n patients together, int64[n, p + 1]: each column balanced against those drawn before."""
        codes, before = np.zeros((n, len(self.order)), dtype=np.int64), np.zeros((n, 0))
        for j in self.order if n else ():
            rows, shuffled = self._rows(j, codes), rng.permutation(n)
            table = self._drawn_from[j]
            chance = table.reshape(len(table), -1).T[rows]
            together = shuffled[np.argsort(rows[shuffled], kind="stable")]
            codes[:, j] = exchanged(spread(chance, together, rng), chance, before, rng)
            before = np.concatenate([before, *self._features(j, codes[:, j])], axis=1)
        return codes

    def _rows(self, column: int, codes: Codes) -> Codes:
        """Which combination of its parents' levels each patient has, int64[n]."""
        if not self.parents[column]:
            return np.zeros(len(codes), dtype=np.int64)
        shape = self.tables[column].shape[1:]
        return np.asarray(np.ravel_multi_index(tuple(codes[:, a] for a in self.parents[column]), shape))

    def _features(self, column: int, codes: Codes) -> tuple[Float64, Float64]:
        """What later columns are balanced against: observed or not, and the level; of follow-up, death and interval."""
        if column == len(self.tables) - 1:
            k = self.dictionary.intervals
            return standard((codes < k).astype(np.float64)), standard(np.where(codes == 2 * k, k, codes % k) * 1.0)
        observed = codes < self.dictionary.columns[column].bins
        middle = codes[observed].mean() if observed.any() else 0.0
        return standard(observed.astype(np.float64)), standard(np.where(observed, codes - middle, 0.0))

    @cached_property
    def _drawn_from(self) -> tuple[Float64, ...]:
        if not self.complete:
            return self.tables
        out = []
        for j, (table, share) in enumerate(zip(self.tables, coarse(self.frequencies), strict=True)):
            if j == len(self.tables) - 1:
                out.append(table)
                continue
            seen = table.copy()
            seen[-1] = 0.0
            known = seen.sum(axis=0)
            instead = np.append(share[:-1], 0.0).reshape(-1, *[1] * (table.ndim - 1)) / share[:-1].sum()
            out.append(np.where(known > 0, seen / np.where(known > 0, known, 1.0), instead))
        return tuple(out)

    # ------------------------------------------------------------------ files

    def structure(self) -> dict[str, object]:
        """The graph, as JSON values."""
        return {"order": list(self.order), "parents": [list(each) for each in self.parents]}

    def tensors(self) -> dict[str, Float64]:
        """All released numbers: "patients" [1], "frequencies" and "tables" one after the other in C order."""
        return {
            "patients": np.array([self.frequencies.patients]),
            "frequencies": np.concatenate(self.frequencies.tables),
            "tables": np.concatenate([table.ravel() for table in self.tables]),
        }

    @classmethod
    def rebuild(cls, dictionary: Dictionary, structure: Mapping[str, object], tensors: Mapping[str, Float64]) -> Self:
        """The network that `structure` and `tensors` were taken from.

        Raises:
            MisuseError: they contradict each other or the dictionary.
        """
        order, parents = _graph(structure)
        _check_graph(order, parents, len(dictionary.levels))
        if set(tensors) != {"patients", "frequencies", "tables"}:
            raise MisuseError("a network is stored as the vectors patients, frequencies and tables")
        fine = [(c.fine_bins + 1,) for c in dictionary.columns]
        levels = dictionary.levels
        shapes = [(levels[j], *(levels[a] for a in parents[j])) for j in range(len(levels))]
        shares = _split("frequencies", tensors["frequencies"], [*fine, (dictionary.fine.outcome_levels,)])
        (patients,) = _split("patients", tensors["patients"], [(1,)])
        frequencies = Frequencies(dictionary, shares, float(patients[0]))
        return cls(frequencies, order, parents, _split("tables", tensors["tables"], shapes))


def _check_graph(order: tuple[int, ...], parents: tuple[tuple[int, ...], ...], columns: int) -> None:
    place = {column: k for k, column in enumerate(order)}
    if sorted(order) != list(range(columns)) or len(parents) != columns:
        raise MisuseError("a network orders every column once and lists its parents")
    for child, those in enumerate(parents):
        if list(those) != sorted(set(those)) or any(place.get(a, columns) >= place[child] for a in those):
            raise MisuseError("parents are increasing positions of columns that come earlier in the order")


def _graph(structure: Mapping[str, object]) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    order, parents = structure.get("order"), structure.get("parents")
    if set(structure) != {"order", "parents"} or not _whole(order) or not isinstance(parents, list):
        raise MisuseError("a network's structure holds the lists order and parents")
    if not all(_whole(each) for each in parents):
        raise MisuseError("a network's parents are lists of positions")
    return tuple(order), tuple(tuple(each) for each in parents)  # type: ignore[arg-type]  # checked just above


def _whole(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int for v in values)


def _split(name: str, numbers: Float64, shapes: list[tuple[int, ...]]) -> tuple[Float64, ...]:
    sizes = [math.prod(shape) for shape in shapes]
    if numbers.shape != (sum(sizes),) or numbers.dtype != np.float64:
        raise MisuseError(f"a network's {name} have {sum(sizes)} float64 numbers here, got {list(numbers.shape)}")
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
