r"""Fidelity of survival: the curve, and what a model learns from the table.

| measure           | formula                                                                                    |
|-------------------|--------------------------------------------------------------------------------------------|
| survival distance | 1/H ∫₀ᴴ \|S_R(t) − S_S(t)\| dt, Kaplan–Meier, H = the dictionary's horizon                  |
| log-rank          | p of the log-rank test, R against S, follow-up cut at H                                     |
| C-index           | Harrell's C on R of a ridge Cox model trained on S (TSTR); on the real training table: TRTR |

The log-rank p falls with the size of the table: compare at equal sizes, and read the distance first.

Source: Esteban, Hyland & Rätsch, arXiv 1706.02633 (TSTR); Norcliffe et al., AISTATS 2023 (survival distance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.data import SurvivalData, joined
from models.errors import MisuseError
from models.fidelity.cox import choose
from models.metrics import harrell_c, log_rank, product_limit


@dataclass(frozen=True)
class OutcomeFidelity:
    """See the table of this module.

    Args:
        distance: 0 … 1.
        log_rank_p: 0 … 1; nan where nobody is compared.
        c_index: on the real table, of a model of the other one.
    """

    distance: float
    log_rank_p: float
    c_index: float


def outcome_fidelity(
    real: SurvivalData, other: SurvivalData, horizon: float, rng: np.random.Generator
) -> OutcomeFidelity:
    """Compare follow-up, and test on `real` what was learned from `other`.

    Args:
        real: hold-out.
        other: synthetic, or the real training table.
        horizon: H in days.
        rng: deals the folds in which the ridge penalty is chosen.

    Raises:
        MisuseError: an empty table or a horizon that is not positive.
    """
    if not len(real) or not len(other) or horizon <= 0:
        raise MisuseError("survival is compared of two tables with patients, up to a positive horizon")
    one, two = real.bounded(horizon), other.bounded(horizon)
    group = np.arange(len(one) + len(two)) < len(one)
    chi2 = log_rank(joined([one, two]), group)
    model = choose(two, rng)
    return OutcomeFidelity(_between(one, two, horizon), math.erfc(math.sqrt(chi2 / 2)), harrell_c(model.risk(one), one))


def _between(one: SurvivalData, two: SurvivalData, horizon: float) -> float:
    """Area between two Kaplan–Meier curves as a share of the horizon: both are steps, so this is exact."""
    curves = [product_limit(each.duration, each.event) for each in (one, two)]
    inner = np.unique(np.concatenate([times for times, _ in curves]))
    edges = np.concatenate([[0.0], inner[inner < horizon], [horizon]])
    alive = [
        np.concatenate([[1.0], steps])[np.searchsorted(times, edges[:-1], side="right")] for times, steps in curves
    ]
    return float(np.sum(np.abs(alive[0] - alive[1]) * np.diff(edges)) / horizon)
