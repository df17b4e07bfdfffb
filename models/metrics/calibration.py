"""Whether predicted risks are the risks that occur, in one number each.

With Λ_i = the hazard that the model had predicted for patient i over the follow-up that he really had, the events d_i
are Poisson with mean Λ_i if the model is right (the counting process less its compensator is a martingale), censoring
or not. Both measures fit log E[d_i] = a + b·log Λ_i to that:

| measure                    | fixed | fitted | right | otherwise                                        |
|----------------------------|-------|--------|-------|--------------------------------------------------|
| `calibration_in_the_large` | b = 1 | a      | a = 0 | above 0: more died than were predicted           |
| `calibration_slope`        |       | a, b   | b = 1 | below 1: predicted risks are too far apart       |

The slope is on the scale of the log cumulative hazard. Under proportional hazards the offset of follow-up, log Λ0(T_i),
is kept at coefficient 1 and b multiplies the rest, f_i: else length of follow-up would set it.

Source: Crowson, Atkinson & Therneau, Stat Methods Med Res 2016;25:1692; van Houwelingen, Stat Med 2000;19:3401.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.data import Float64, SurvivalData
from models.errors import MisuseError

_ROUNDS: Final = 50
_SMALLEST: Final = 1e-12


def calibration_in_the_large(expected: Float64, data: SurvivalData) -> float:
    """log(deaths ÷ predicted deaths): 0 is right, above 0 more died than predicted; −inf without a death.

    Args:
        expected: float64[n], Λ_i = −log S_i(T_i), predicted over each patient's own follow-up.
        data: n patients.
    """
    _check(expected, data)
    with np.errstate(divide="ignore"):
        return float(np.log(data.event.sum()) - np.log(np.sum(expected)))


def calibration_slope(risk: Float64, expected: Float64, data: SurvivalData) -> float:
    """Coefficient b of f_i in log E[d_i] = a + log(Λ_i / e^{f_i}) + b·f_i: 1 is right, below 1 overfitted.

    nan where the risks do not differ or nobody died.

    Args:
        risk: float64[n], f_i = log-risk in nats, as the model means it.
        expected: float64[n], Λ_i over each patient's own follow-up.
        data: n patients.
    """
    _check(expected, data)
    if risk.shape != expected.shape:
        raise MisuseError(f"{len(data)} patients, risks of shape {risk.shape}")
    died = data.event.astype(np.float64)
    if not died.any() or float(np.ptp(risk)) == 0.0:
        return float("nan")
    design = np.stack([np.ones(len(risk)), risk - risk.mean()], axis=1)
    offset = np.log(np.maximum(expected, _SMALLEST)) - design[:, 1]
    beta = np.array([np.log(died.sum() / np.exp(offset + design[:, 1]).sum()), 1.0])
    for _ in range(_ROUNDS):  # Newton; the likelihood is concave
        mean = np.exp(np.clip(offset + design @ beta, -700.0, 50.0))
        step = np.linalg.solve((design * mean[:, None]).T @ design, design.T @ (died - mean))
        beta = beta + np.clip(step, -1.0, 1.0)
        if float(np.abs(step).max()) < 1e-10:
            break
    return float(beta[1])


def _check(expected: Float64, data: SurvivalData) -> None:
    if expected.shape != (len(data),) or not np.all(expected >= 0):
        raise MisuseError(f"{len(data)} patients need as many expected deaths ≥ 0, got shape {expected.shape}")
