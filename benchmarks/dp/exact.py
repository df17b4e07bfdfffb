"""Is the sum that a federation opens the sum of its integers? Figure 4.6a, through the product's secure aggregation.

Six hospitals train on real patients; every clipped sum goes through clients, masks and server in this process. A
curator adds the same rounded sums and the same noise shares as plain integers. Every coordinate of every step must be
equal; then so are the models, because both sides apply the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.dp.federation import Distributed, descend, stream, tensors
from benchmarks.dp.settings import WAYS, multiplier, preset_of
from benchmarks.dp.utility import Deal
from benchmarks.report import Row
from benchmarks.secagg import parties
from benchmarks.secagg.assembly import Assembly
from benchmarks.secagg.contributions import wide_terms
from dp import noise_shares
from dp.queries import Float64, Int64, Query
from nodes.chunks import outgoing
from secagg.context import Context
from secagg.manifest import Manifest, Terms
from secagg.masks import Backend, Keystream

__all__ = ["Masked", "Opening", "rows"]

_SITES: Final = 6


class _Sums:
    """What the sites of an `Assembly` contribute: the clipped sums of the present step, rounded, with their noise."""

    def __init__(self, length: int, streams: Sequence[Keystream]) -> None:
        self.length, self._streams = length, streams
        self.query: Query | None = None
        self.sums: Sequence[Float64] = ()

    def terms(self, of: Manifest, roster: int) -> Terms:
        """Return what this round sums."""
        assert self.query is not None
        grid = noise_shares.lattice(self.query, roster, honest=of.honest(roster))
        return wide_terms(self.query, grid)

    def coordinates(self, member: int, context: Context) -> Int64:
        """Round a hospital's clipped sum and add its share."""
        assert self.query is not None
        grid = noise_shares.lattice(self.query, len(context.roster), honest=context.terms.honest)
        rounded = noise_shares.encode(self.sums[member - 1], self.query, grid)
        return rounded + noise_shares.draw(self._streams[member - 1], self.length)


class Opening(Assembly):
    """One round at a time, every member's sum kept instead of compared."""

    def round(self) -> Int64:
        """Take everybody's upload and return the sum that every member accepted."""
        for member in self.manifest.indices:
            upload, _ = self._upload(member, self.steps.pop(member))
            for part in outgoing(upload):
                self._do(self._server.receive(member, part))
        taken = list(self._accepted())
        assert len(taken) == len(self.manifest.members), "not every member was given the sum"
        assert all(np.array_equal(each, taken[0]) for each in taken), "two sites accepted different sums"
        return taken[0]


class Masked:
    """A `Door` that is a whole federation's secure aggregation.

    Args:
        length: d.
        streams: each site's noise.
        backend: cipher implementation.
        collusion: c.
    """

    def __init__(self, length: int, streams: Sequence[Keystream], backend: Backend, collusion: int = 1) -> None:
        self._contribution = _Sums(length, streams)
        self.assembly = Opening(parties.manifest(len(streams), collusion=collusion), self._contribution, backend)
        self.assembly.set_up()
        self.opened: list[Int64] = []

    def __call__(self, query: Query, sums: Sequence[Float64]) -> Float64:
        """Run one round."""
        self._contribution.query, self._contribution.sums = query, sums
        self.opened.append(self.assembly.round())
        n = len(self.assembly.manifest.members)
        grid = noise_shares.lattice(query, n, honest=self.assembly.manifest.honest(n))
        return noise_shares.decode(self.opened[-1], query, grid)


class _Curator(Distributed):
    """Keeps the integers that it added."""

    def __init__(self, sites: int, honest: int, streams: Sequence[Keystream]) -> None:
        super().__init__(sites, honest, streams)
        self.added: list[Int64] = []

    def total(self, query: Query, grid: noise_shares.Lattice, sums: Sequence[Float64]) -> Int64:
        """Add in plain integers."""
        self.added.append(super().total(query, grid, sums))
        return self.added[-1]


def rows(data: Path, backend: Backend) -> list[Row]:
    """Train once through both and compare every coordinate of every sum."""
    deal = Deal("MDS", 0, _SITES, data)
    train, _ = deal.sides()
    preset = preset_of(deal.cohort, WAYS["distributed"], len(train))
    weights, z = deal.start(preset, train.features), multiplier(1.0)
    parts = [tensors(train.rows(part), preset) for part in deal.parts(len(train))]

    def streams() -> list[Keystream]:
        return [stream("exact", site) for site in range(_SITES)]

    federation = Masked(len(weights) // 8, streams(), backend)
    curator = _Curator(_SITES, federation.assembly.manifest.honest(_SITES), streams())
    ours, theirs = (descend(preset, weights, parts, door, z) for door in (federation, curator))
    different = sum(int(np.sum(a != b)) for a, b in zip(federation.opened, curator.added, strict=True))
    coordinates = sum(map(len, curator.added))
    once = _Curator(_SITES, curator.honest, streams())
    descend(preset, weights, [tensors(train, preset)], once, z)
    first = int(np.max(np.abs(once.added[0] - curator.added[0])))
    models = int(np.sum(np.frombuffer(ours) != np.frombuffer(theirs)))
    what = f"MDS, {_SITES} hospitals, {preset.steps} steps"
    return [
        Row(
            "4.6a",
            f"{what}: opened sum ≠ pooled integer sum, of {coordinates:,} coordinates",
            different,
            "coordinates",
            0,
            "lower",
        ),
        Row("4.6a", "model parameters that differ afterwards", models, "parameters"),
        Row(
            "4.6a",
            f"first sum, rounded once instead of at {_SITES} hospitals: largest difference",
            first,
            "lattice steps",
        ),
    ]
