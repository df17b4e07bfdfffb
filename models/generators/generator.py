"""What every generator is: a released model that draws patients; and the drawing with clinical rules and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np

from models.data import Bool, SurvivalData, joined
from models.errors import ConfigError
from models.generators.dictionary import Dictionary

__all__ = ["LARGEST", "Generator", "Rule", "sample", "stream"]

LARGEST: Final = 1_000_000
"""Patients of one synthetic table at most."""
_ATTEMPTS: Final = 200
_LABEL: Final = b"haemfed/synthetic/v1"

Rule = Callable[[SurvivalData], Bool]
"""Which patients may not be: bool[n], a function of each row alone."""


class Generator(Protocol):
    """A generator as it was released: everything in it is public or was paid for."""

    @property
    def learner(self) -> str:
        """Its kind: "bayesnet", "vaebgm" or "ctgan"."""
        ...

    @property
    def dictionary(self) -> Dictionary:
        """Columns and grid of what it draws."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of every released number in it."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> SurvivalData:
        """Draw n patients in scaled units; nothing but released numbers and `rng` goes in.

        Each is one of the model's. They need not be independent of each other: see `models.generators.balance`.
        """
        ...


def stream(generator: Generator, seed: int) -> np.random.Generator:
    """A generator of random numbers that the model and a public seed name: not secret, repeatable."""
    head = hashlib.sha256(_LABEL + generator.digest.encode() + seed.to_bytes(8, "little")).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(head[:16], dtype="<u8")))


def sample(
    generator: Generator, patients: int, seed: int, broken: Rule = lambda data: np.zeros(len(data), dtype=np.bool_)
) -> SurvivalData:
    """Draw patients until so many keep the rules.

    Rejection looks at drawn rows only: it is post-processing and costs no privacy.

    Args:
        generator: released.
        patients: how many, 1 … `LARGEST`.
        seed: public, 0 … 2⁶³ − 1: the same seed, model and version draw the same table.
        broken: which drawn patients are refused.

    Raises:
        ConfigError: a number outside its range, or a model that hardly ever keeps the rules.
    """
    if not 1 <= patients <= LARGEST:
        raise ConfigError(f"a synthetic table has 1 to {LARGEST:,} patients, {patients} were asked for")
    if not 0 <= seed < 2**63:
        raise ConfigError("a seed is a whole number from 0 to 2^63 - 1")
    rng, kept, found = stream(generator, seed), [], 0
    for _ in range(_ATTEMPTS):
        drawn = generator.draw(max(patients - found, 64), rng)
        kept.append(drawn.rows(~broken(drawn)))
        found += len(kept[-1])
        if found >= patients:
            return joined(kept).rows(np.arange(patients))
    raise ConfigError(
        f"of {_ATTEMPTS} draws only {found} patients keep the clinical rules, {patients} were asked for: the generator "
        "has learned too little; train with more patients or a larger ε"
    )
