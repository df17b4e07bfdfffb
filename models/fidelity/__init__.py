"""How good synthetic patients are: clinical and genomic fidelity, dependence, survival; formulas in `tables`.

Everything is measured against real patients whom nothing was trained on (the hold-out), and so is the real training
table itself: what it reaches is the ceiling. Needs patients at hand: for benchmarks and at one hospital, not for what
leaves it.
"""

from models.fidelity.outcome import OutcomeFidelity, outcome_fidelity
from models.fidelity.tables import (
    column_similarity,
    correlation_agreement,
    group_fidelity,
    pair_similarity,
    two_way_distance,
)
from models.fidelity.verdict import Fidelity, compare, fidelity

__all__ = [
    "Fidelity",
    "OutcomeFidelity",
    "column_similarity",
    "compare",
    "correlation_agreement",
    "fidelity",
    "group_fidelity",
    "outcome_fidelity",
    "pair_similarity",
    "two_way_distance",
]
