"""Who takes part in a step: everybody, or a Poisson sample of secret coins."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dp.errors import ConfigError
from dp.queries import Keystream

__all__ = ["FULL_BATCH", "FullBatch", "Poisson", "Sampler"]

_COIN_BITS: Final = 64


class Sampler(Protocol):
    """Chooses the patients of one upload."""

    @property
    def probability(self) -> float:
        """With which each patient takes part; what the accountant is told."""
        ...

    def draw(self, patients: int) -> NDArray[np.int64] | None:
        """Return the rows that take part, in ascending order, or None for all of them."""
        ...


@dataclass(frozen=True)
class FullBatch:
    """Everybody, in every step, the default."""

    probability: float = field(default=1.0, init=False)

    def draw(self, patients: int) -> None:  # noqa: ARG002 - protocol
        """Return None: all of them."""
        return


FULL_BATCH: Final = FullBatch()


@dataclass(frozen=True)
class Poisson:
    """Each patient takes part with one probability, independently of everybody else and of every other upload.

    This, and not a shuffled or a fixed-size batch, is what Poisson-subsampled accounting is about. A patient takes part
    if 64 secret bits are below ⌊q·2⁶⁴⌋: with a probability never above q, and short of it by less than 2⁻⁶⁴.
    Amplification holds against everybody who does not know the coins; a hospital knows its own. A round that is done
    again draws a new sample: the two uploads must not be one sample twice.

    Args:
        probability: q, 0 < q < 1.
        keystream: secret bytes of the site, used for nothing else.

    Raises:
        ConfigError: q outside its range.
    """

    probability: float
    keystream: Keystream = field(repr=False)

    def __post_init__(self) -> None:
        if not 2.0**-40 < self.probability < 1:
            raise ConfigError(
                f"a sampling probability lies above 2^-40 and below 1, not at {self.probability:g}; leave it out for "
                "full batches"
            )

    @property
    def threshold(self) -> int:
        """⌊q·2⁶⁴⌋."""
        return int(Fraction(self.probability) * 2**_COIN_BITS)

    def draw(self, patients: int) -> NDArray[np.int64]:
        """Throw every patient's coin; the sample may be empty."""
        coins = np.frombuffer(self.keystream(patients * _COIN_BITS // 8), dtype="<u8")
        return np.flatnonzero(coins < np.uint64(self.threshold)).astype(np.int64)
