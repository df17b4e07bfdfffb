"""Structure from counts: a spanning tree by mutual information, then more parents by BIC.

The order is that of the tree grown from `OUTCOME` (Chow & Liu 1968; Prim 1957); every column has its tree parent, and
takes further ones from before it while the Bayesian information criterion rises. Levels that nobody has count neither
as levels nor as combinations of parents.

Source: Chow & Liu, IEEE Trans Inf Theory 1968; Schwarz, Ann Stat 1978.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from models.data import Float64
from models.generators.bayesnet.arithmetic import log, margin, total
from models.generators.bayesnet.evidence import ordered

__all__ = ["Tree", "bic", "candidates", "family", "grown", "mutual_information", "tree_of"]

Tree = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Order of the columns, parents of each."""


def mutual_information(counts: Float64) -> float:
    """Of the two axes of a table, nats; 0 of an empty one."""
    size = total(counts)
    if size <= 0:
        return 0.0
    rows, columns = margin(counts, (0,)), margin(counts, (1,))
    terms = total(counts * log(counts)) - total(rows * log(rows)) - total(columns * log(columns))
    return max(terms / size + float(log(np.array([size]))[0]), 0.0)


def bic(counts: Float64, child: int, penalty: float) -> float:
    """Log-likelihood of a column given its parents, less the penalty of its table; nats.

    Args:
        counts: float64[levels…] of the family.
        child: axis of the column.
        penalty: multiple of the criterion's ½ log n for each free number.
    """
    others = tuple(axis for axis in range(counts.ndim) if axis != child)
    size, parents = total(counts), margin(counts, others)
    free = np.count_nonzero(margin(counts, (child,))) - 1
    for axis in others:
        free *= np.count_nonzero(margin(counts, (axis,)))
    fit = total(counts * log(counts)) - total(parents * log(parents))
    return fit - penalty * 0.5 * free * float(log(np.array([max(size, 1.0)]))[0])


def tree_of(counts: Mapping[tuple[int, ...], Float64], columns: int) -> Tree:
    """The tree: order, and the one parent of every column but the first."""
    strength = np.zeros((columns, columns))
    for a, b in combinations(range(columns), 2):
        strength[a, b] = strength[b, a] = mutual_information(counts[a, b])
    order = ordered(strength)
    parents: list[tuple[int, ...]] = [()] * columns
    for place, child in enumerate(order[1:], 1):
        parents[child] = (max(order[:place], key=lambda c: (strength[child, c], -c)),)
    return order, tuple(parents)


def family(child: int, parents: tuple[int, ...]) -> tuple[int, ...]:
    """A column and its parents, increasing positions: the axes of their table."""
    return tuple(sorted((child, *parents)))


def candidates(
    tree: Tree,
    counts: Mapping[tuple[int, ...], Float64],
    levels: tuple[int, ...],
    most: int,
    cells: int,
    growing: frozenset[int],
) -> dict[int, tuple[int, ...]]:
    """Further parents worth a table, for each column that still takes some: those that say most about it alone."""
    order, parents = tree
    out = {}
    for place, child in enumerate(order):
        if child not in growing:
            continue
        room = cells // (levels[child] * math.prod(levels[c] for c in parents[child]))
        left = [c for c in order[:place] if c not in parents[child] and levels[c] <= room]
        left.sort(key=lambda c: (-mutual_information(counts[family(child, (c,))]), c))
        out[child] = tuple(left[:most])
    return out


def grown(
    counts: Mapping[tuple[int, ...], Float64],
    parents: tuple[tuple[int, ...], ...],
    wanted: Mapping[int, tuple[int, ...]],
    penalty: float,
) -> tuple[tuple[tuple[int, ...], ...], frozenset[int]]:
    """Parents with the best further one of each column, where BIC rises; and the columns that took one."""
    out, took = list(parents), set()
    for child, those in wanted.items():
        tried = [tuple(sorted((*parents[child], c))) for c in those]
        scores = [_score(counts, child, each, penalty) for each in tried]
        if scores and max(scores) > _score(counts, child, parents[child], penalty):
            out[child] = tried[scores.index(max(scores))]
            took.add(child)
    return tuple(out), frozenset(took)


def _score(counts: Mapping[tuple[int, ...], Float64], child: int, parents: tuple[int, ...], penalty: float) -> float:
    axes = family(child, parents)
    return bic(counts[axes], axes.index(child), penalty)
