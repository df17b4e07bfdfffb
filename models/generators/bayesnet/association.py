"""Parents and tables from all pair tables: a column takes as many parents as say something new about it, pair by pair.

A table of a column with its parents has as many free numbers as cells; counted from a few thousand patients, three
parents of eight levels each are hardly ever filled. Here the table of a family is the log-linear one that has the
counts of all its pairs (and of those columns that were counted together) and is least committed beyond. One parent more
then costs (levels − 1)·(levels − 1) free numbers, and gains patients × the drop of the column's entropy given its
parents: of a log-linear table with these counts, that is what the log-likelihood rises by.

Source: Goodman, JASA 1970;65:226; Agresti, Categorical Data Analysis, 3rd ed., ch. 9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np

from models.data import Float64
from models.generators.bayesnet.arithmetic import log, margin, total
from models.generators.bayesnet.entropy import entropy, fitted
from models.generators.bayesnet.search import family, mutual_information

__all__ = ["Associations"]

Table = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Associations:
    """What was counted of columns together.

    Args:
        counts: increasing positions → counts, float64[levels…]: all pairs, and larger families.
        shares: of each column's levels, float64[levels], adding up to 1: used where nobody was counted.
        prior: patients that each table is given as if its columns had nothing to do with each other, above 0.
    """

    counts: Mapping[Table, Float64] = field(repr=False)
    shares: tuple[Float64, ...] = field(repr=False)
    prior: float
    _tables: dict[Table, Float64] = field(default_factory=dict, init=False, repr=False)  # made when first asked for

    @cached_property
    def margins(self) -> tuple[Float64, ...]:
        """Counted share of each column's levels: a column's pair with its neighbour counts it."""
        out = []
        for column, share in enumerate(self.shares):
            pair = family(column, ((column + 1) % len(self.shares),))
            counted = margin(self.counts[pair], (pair.index(column),))
            size = total(counted)
            out.append(counted / size if size > 0 else share)
        return tuple(out)

    def table(self, columns: Table) -> Float64:
        """Shares of the levels of columns that were counted together, the prior among them."""
        if columns not in self._tables:
            counted, apart = self.counts[columns], np.ones(())
            for column in columns:
                apart = np.multiply.outer(apart, self.margins[column])
            self._tables[columns] = np.asarray((counted + self.prior * apart) / (total(counted) + self.prior))
        return self._tables[columns]

    def joint(self, columns: Table, together: Table) -> Float64:
        """The log-linear table of columns, increasing positions; `together`, some of them, were counted as one."""
        place = {column: axis for axis, column in enumerate(columns)}
        known: list[Table] = [*combinations(columns, 2)] if len(columns) > 1 else []
        if len(together) > 2:
            known.append(together)
        given = {tuple(place[c] for c in each): self.table(each) for each in known}
        return fitted([len(self.shares[c]) for c in columns], given or {(0,): self.margins[columns[0]]})

    def extended(
        self, child: int, parents: Table, before: Table, most: int, candidates: int, cells: int, penalty: float
    ) -> Table:
        """Parents with those further ones that raise the criterion, one at a time, the best first.

        Args:
            child: the column.
            parents: that it has; they were counted together with it.
            before: the columns that may become parents.
            most: parents of one column.
            candidates: that are tried at each turn: those that say most about the column alone.
            cells: of the column with its parents.
            penalty: multiple of BIC's ½ log n for each free number.
        """
        together, size = family(child, parents), total(self.counts[min(self.counts)])
        each = penalty * 0.5 * float(log(np.array([max(size, 2.0)]))[0]) / max(size, 1.0)
        cost = {c: each * self._free(child) * self._free(c) for c in before}
        alone = {c: mutual_information(self.counts[family(child, (c,))]) - cost[c] for c in before}
        left_over = self._uncertain(child, parents, together)
        while len(parents) < most:
            room = cells // math.prod(len(self.shares[c]) for c in (child, *parents))
            left = [c for c in before if c not in parents and alone[c] > 0 and len(self.shares[c]) <= room]
            left = sorted(left, key=lambda c: (-alone[c], c))[:candidates]
            after = {c: self._uncertain(child, (*parents, c), together) for c in left}
            gains = {c: left_over - after[c] - cost[c] for c in left}
            best = max(left, key=lambda c: (gains[c], -c), default=None)
            if best is None or gains[best] <= 0:
                break
            parents, left_over = (*parents, best), after[best]
        return tuple(sorted(parents))

    def _free(self, column: int) -> int:
        return int(np.count_nonzero(self.margins[column])) - 1

    def _uncertain(self, child: int, parents: Table, together: Table) -> float:
        """Entropy of the column given its parents, nats."""
        columns = family(child, parents)
        table = self.joint(columns, together)
        others = tuple(axis for axis, column in enumerate(columns) if column != child)
        return entropy(table) - (entropy(margin(table, others)) if others else 0.0)
