"""All measures of one table against the hold-out, and beside it the ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.data import SurvivalData
from models.fidelity.outcome import OutcomeFidelity, outcome_fidelity
from models.fidelity.tables import correlation_agreement, group_fidelity, two_way_distance
from models.generators.dictionary import Dictionary


@dataclass(frozen=True)
class Fidelity:
    """How near one table is to the hold-out; formulas in `models.fidelity.tables` and `.outcome`.

    Args:
        clinical: fidelity of the columns that are not genomic.
        genomic: fidelity of the genomic columns.
        gene_correlation: −1 … 1; what tells generators apart.
        two_way_tvd: 0 … 1, lower is better.
        outcome: survival.
    """

    clinical: float
    genomic: float
    gene_correlation: float
    two_way_tvd: float
    outcome: OutcomeFidelity


def fidelity(
    holdout: SurvivalData,
    table: SurvivalData,
    dictionary: Dictionary,
    genomic: Sequence[str],
    rng: np.random.Generator,
) -> Fidelity:
    """Measure a table against real patients whom it was not made from.

    Args:
        holdout: real.
        table: synthetic, or the real training table (then this is the ceiling).
        dictionary: of both.
        genomic: its genomic columns; the others are clinical, at least one of each.
        rng: see `outcome_fidelity`.

    Raises:
        MisuseError: columns that the dictionary lacks, a group without any, an empty table.
    """
    horizon = dictionary.grid[-1]
    real, other = holdout.bounded(horizon), table.bounded(horizon)
    clinical = [name for name in dictionary.names if name not in set(genomic)]
    return Fidelity(
        group_fidelity(real, other, dictionary, clinical),
        group_fidelity(real, other, dictionary, list(genomic)),
        correlation_agreement(real, other, dictionary, list(genomic)),
        two_way_distance(real, other, dictionary),
        outcome_fidelity(real, other, horizon, rng),
    )


def compare(
    holdout: SurvivalData,
    training: SurvivalData,
    synthetic: SurvivalData,
    dictionary: Dictionary,
    genomic: Sequence[str],
    seed: int,
) -> tuple[Fidelity, Fidelity]:
    """Return the fidelity of synthetic patients and, of the real training table, the ceiling; same folds for both."""
    one, other = (
        fidelity(holdout, table, dictionary, genomic, np.random.default_rng(seed)) for table in (synthetic, training)
    )
    return one, other
