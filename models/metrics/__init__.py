"""Scores on data that is at hand: oracles, local screens, benchmarks. Nothing here may leave a hospital.

Everywhere `risk` is higher for an earlier death, times are days, and `alive` is predicted survival S(t | x).
"""

from models.metrics.calibration import calibration_in_the_large, calibration_slope
from models.metrics.curves import (
    brier_score,
    integrated_brier_score,
    kaplan_meier,
    log_rank,
    negative_log_likelihood,
    product_limit,
)
from models.metrics.ranking import antolini_c, auc_at, harrell_c, uno_c, within_c

__all__ = [
    "antolini_c",
    "auc_at",
    "brier_score",
    "calibration_in_the_large",
    "calibration_slope",
    "harrell_c",
    "integrated_brier_score",
    "kaplan_meier",
    "log_rank",
    "negative_log_likelihood",
    "product_limit",
    "uno_c",
    "within_c",
]
