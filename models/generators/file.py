"""The generator's file: a `models.container` with the public dictionary, the learner's structure and its numbers.

Format "haemfed/generator/1": the head holds "generator" = {learner, dictionary: {columns, grid}, structure} beside
digest and card; the tensors are the learner's own. Reading it executes nothing: a learner is one of `LEARNERS`, and
what it rebuilds must have the digest that the file states.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, Self, cast

import numpy as np

from models.container import check_card, head_of, pack, read, tensors_of, verified
from models.data import Float64, SurvivalData
from models.errors import ArtefactError, MisuseError
from models.generators.dictionary import Column, Dictionary, Kind

__all__ = ["FORMAT", "LEARNERS", "StoredGenerator", "from_bytes", "load", "to_bytes"]

FORMAT: Final = "haemfed/generator/1"
LEARNERS: Final[Mapping[str, tuple[str, str]]] = {
    "bayesnet": ("models.generators.bayesnet.network", "BayesianNetwork"),
    "vaebgm": ("models.generators.vaebgm.model", "VAEBGM"),
    "ctgan": ("models.generators.ctgan.model", "CTGAN"),
}
"""Name in a file → module and class, loaded when a file of it is read. A closed list: a file chooses among them."""

_MOST_COLUMNS: Final = 2_000
_MOST_NUMBERS: Final = 1_000  # edges of a column, or of the grid


class StoredGenerator(Protocol):
    """A `Generator` that can be stored."""

    @property
    def learner(self) -> str:
        """A name of `LEARNERS`."""
        ...

    @property
    def dictionary(self) -> Dictionary:
        """Columns and grid of what it draws."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of dictionary, structure and tensors."""
        ...

    @property
    def complete(self) -> bool:
        """Whether it draws patients with every value observed; a wish of the user, no part of the model."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> SurvivalData:
        """Draw n independent patients."""
        ...

    def structure(self) -> dict[str, object]:
        """JSON values."""
        ...

    def tensors(self) -> dict[str, Float64]:
        """All released numbers."""
        ...

    @classmethod
    def rebuild(cls, dictionary: Dictionary, structure: Mapping[str, object], tensors: Mapping[str, Float64]) -> Self:
        """The generator that structure and tensors were taken from; MisuseError if they contradict each other."""
        ...


def to_bytes(generator: StoredGenerator, card: Mapping[str, object]) -> bytes:
    """The complete file.

    Args:
        generator: released.
        card: JSON values with at least the keys of `models.container.REQUIRED_CARD`.

    Raises:
        MisuseError: the card is incomplete or not JSON, or the learner is none of `LEARNERS`.
    """
    check_card(card)
    if generator.learner not in LEARNERS:
        raise MisuseError(f"no file of a learner {generator.learner!r}: {', '.join(LEARNERS)}")
    described = {
        "learner": generator.learner,
        "dictionary": _described(generator.dictionary),
        "structure": generator.structure(),
    }
    head = {"format": FORMAT, "generator": described, "digest": generator.digest, "card": dict(card)}
    return pack(head, generator.tensors())


def from_bytes(data: bytes) -> tuple[StoredGenerator, dict[str, Any]]:
    """Read a file that `to_bytes` wrote; returns the generator and its card.

    Raises:
        ArtefactError: too large, damaged, another format, a learner that this installation lacks, a description that
            contradicts itself or the tensors, or a digest that does not fit.
    """
    head = head_of(data, FORMAT)
    match head.get("generator"):
        case {"learner": str(learner), "dictionary": dict(columns), "structure": dict(structure), **more} if not more:
            pass
        case _:
            raise ArtefactError("the model file contradicts itself: its description of the generator is malformed")
    found = _class(learner)
    generator = verified(head, lambda: found.rebuild(_dictionary(columns), structure, tensors_of(data)))
    return generator, head["card"]


def load(path: Path) -> tuple[StoredGenerator, dict[str, Any]]:
    """Read a generator's file; see `from_bytes`.

    Raises:
        ArtefactError: also if the file cannot be read.
    """
    return from_bytes(read(path))


def _class(learner: str) -> type[StoredGenerator]:
    if learner not in LEARNERS:
        raise ArtefactError(f"the model file names no learner of this version: {', '.join(LEARNERS)}")
    module, name = LEARNERS[learner]
    try:
        return cast("type[StoredGenerator]", getattr(import_module(module), name))
    except ImportError as error:
        raise ArtefactError(
            f"this installation cannot draw from a model of {learner}: {error.name or module} is missing; "
            "install the version of haemfed that the study was run with"
        ) from error


def _described(dictionary: Dictionary) -> dict[str, object]:
    columns = [
        {
            "name": c.name, "kind": str(c.kind), "values": list(c.values),
            "low": c.low, "high": c.high, "edges": list(c.edges),
        }
        for c in dictionary.columns
    ]  # fmt: skip
    return {"columns": columns, "grid": list(dictionary.grid)}


def _dictionary(described: Mapping[str, object]) -> Dictionary:
    columns, grid = described.get("columns"), described.get("grid")
    well_formed = set(described) == {"columns", "grid"} and isinstance(columns, list) and _numbers(grid)
    if not well_formed or not 1 <= len(cast("list[object]", columns)) <= _MOST_COLUMNS:
        raise ArtefactError("the model file contradicts itself: its dictionary is malformed")
    return Dictionary(
        tuple(_column(each) for each in cast("list[object]", columns)),
        tuple(float(g) for g in cast("list[float]", grid)),
    )


def _column(given: object) -> Column:
    match given:
        case {"name": str(name), "kind": str(kind), "values": values, "low": low, "high": high, "edges": edges, **more}:
            if not more and name and kind in set(Kind) and all(map(_numbers, (values, [low, high], edges))):
                return Column(
                    name, Kind(kind), tuple(map(float, values)), float(low), float(high), tuple(map(float, edges))
                )
    raise ArtefactError("the model file contradicts itself: a column of its dictionary is malformed")


def _numbers(given: object) -> bool:
    """Whether it is a short list of finite numbers."""
    if not isinstance(given, list) or len(given) > _MOST_NUMBERS:
        return False
    # A whole number of a thousand digits is finite, and no float.
    return all(type(v) in (int, float) and abs(v) < 1e300 for v in given)
