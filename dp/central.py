"""Sums without a federation: what a trusted curator with all the data would release.

`CentralSum` is the yardstick of the federation: the same clipping, lattice, rounding, noise sampler and
decoding, with the sites' shares drawn in one place. `UnprotectedSum` releases exact sums.
Both are oracles of tests, benchmarks and demonstrations that hold all data anyway.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from dp import noise_shares
from dp.errors import ConfigError
from dp.events import Event
from dp.queries import Float64, Keystream, Query


@dataclass
class CentralSum:
    """A `SecureSum` over pooled data.

    Args:
        entropy: secret bytes.
        roster_size: |R| whose lattice is used, ≥ 2.
        collusion: c of that lattice; with 0 the noise is z·sensitivity, what a curator would add.
        shares: how many shares to draw; ``roster_size`` gives exactly the law of a federated sum,
            ``roster_size − collusion`` (the default) exactly the accounted noise.
        events: every release made, in order.

    Raises:
        ConfigError: fewer shares than the accounting counts.
    """

    entropy: Keystream = field(repr=False)
    roster_size: int = 2
    collusion: int = 0
    shares: int | None = None
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.shares is not None and self.shares < self.roster_size - self.collusion:
            raise ConfigError("fewer noise shares than the accounting counts")

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        """Return the pooled sum with noise; see `dp.queries.SecureSum`."""
        lattice = noise_shares.lattice(query, self.roster_size, honest=self.roster_size - self.collusion)
        # All patients in one vector: the clamp is that of all sites together.
        pooled = replace(lattice, clamp=lattice.clamp * self.roster_size)
        self.events.append(query.event())
        total = noise_shares.encode(contribution(), query, pooled)
        for _ in range(lattice.honest if self.shares is None else self.shares):
            total += noise_shares.draw(self.entropy, query.length)
        return noise_shares.decode(total, query, lattice)


class UnprotectedSum:
    """Returns the contribution as it is. NOT differentially private: an oracle, never a door."""

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:  # noqa: ARG002 - protocol
        """Return the exact clipped sum; see `dp.queries.SecureSum` for what this is not."""
        return np.array(contribution(), dtype=np.float64)
