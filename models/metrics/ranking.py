"""Who dies first: C-indices and the time-dependent AUC."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.concordance import SurvivalFunction, antolini_counts, pair_counts, pair_sums
from models.data import Float64, SurvivalData
from models.metrics.curves import censoring_before

_BLOCK: Final = 512  # deaths at once against everybody: bounds the memory


def harrell_c(risk: Float64, data: SurvivalData) -> float:
    """Harrell's C-index; nan if no pair is comparable.

    Edge cases: ties of risk count ½; a death and a censoring on one day are comparable; two deaths on one
        day are not.

    Args:
        risk: float64[n].
        data: n patients.

    Source: Harrell et al., Stat Med 1996;15:361.
    """
    v, w = pair_sums(risk, data)
    return float(0.5 + v / w) if w > 0 else float("nan")


def within_c(risk: Float64, data: SurvivalData, site: NDArray[np.int64]) -> float:
    """Harrell's C over the pairs of patients of one site, all sites' pairs counted together; nan without a pair.

    Args:
        risk: float64[n].
        data: n patients.
        site: int64[n], of which site.
    """
    signed, comparable = 0, 0
    for each in np.unique(site):
        here = site == each
        one, other = pair_counts(risk[here], data.rows(here))
        signed, comparable = signed + one, comparable + other
    return 0.5 + signed / (2 * comparable) if comparable else float("nan")


def antolini_c(model: SurvivalFunction, data: SurvivalData) -> float:
    """Antolini's time-dependent C-index: the pair is concordant if S(T_i | x_i) < S(T_i | x_j), i dying first.

    Ties as in `harrell_c`. Under proportional hazards it is Harrell's C. nan if no pair is comparable.

    Args:
        model: gives survival up to its horizon.
        data: n patients whose durations are inside the model's horizon (`SurvivalData.bounded`).

    Source: Antolini, Boracchi & Biganzoli, Stat Med 2005;24:3927.
    """
    signed, comparable = antolini_counts(model, data)
    return 0.5 + signed / (2 * comparable) if comparable else float("nan")


def uno_c(
    risk: Float64, data: SurvivalData, horizon: float, *, training: SurvivalData | None = None, cap: float = 100.0
) -> float:
    """Uno's C-index up to a horizon: pairs weighted by 1/Ĝ(T_i−)², which does not depend on who was censored when.

    C = Σ_ij w_i 1{T_i < T_j, died_i, T_i < horizon} (1{r_i > r_j} + ½ 1{r_i = r_j}) ÷ Σ_ij w_i 1{…}; a censoring on the
    day of a death counts as later. nan if no pair is comparable.

    Args:
        risk: float64[n].
        data: n patients.
        horizon: days, where Ĝ must still be positive.
        training: whose follow-up gives Ĝ (Kaplan–Meier of the censoring); the same patients by default.
        cap: largest 1/Ĝ.

    Source: Uno, Cai, Pencina, D'Agostino & Wei, Stat Med 2011;30:1105.
    """
    weight = np.minimum(1.0 / censoring_before(training or data, data.duration, least=1.0 / cap), cap) ** 2
    died = np.flatnonzero(data.event & (data.duration < horizon))
    above, below = 0.0, 0.0
    for start in range(0, len(died), _BLOCK):
        rows = died[start : start + _BLOCK]
        time, other = data.duration[rows, None], data.duration[None, :]
        later = (time < other) | ((time == other) & ~data.event[None, :])
        right = (1.0 + np.sign(risk[rows, None] - risk[None, :])) / 2.0
        above += float(np.sum(weight[rows, None] * later * right))
        below += float(np.sum(weight[rows, None] * later))
    return above / below if below > 0 else float("nan")


def auc_at(risk: Float64, data: SurvivalData, time: float) -> float:
    """Cumulative/dynamic AUC at `time` over those whose state then is known; nan without a pair.

    Args:
        risk: float64[n].
        data: n patients.
        time: days.
    """
    cases = risk[data.event & (data.duration <= time)]
    controls = risk[data.duration > time]
    if not len(cases) or not len(controls):
        return float("nan")
    order = np.sign(cases[:, None] - controls[None, :])
    return float(np.mean((1.0 + order) / 2.0))
