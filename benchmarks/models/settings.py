"""Public constants of the model figures, and where each was chosen: never on the cohort that it is reported on.

| what       | candidates                               | chosen                                                 |
|------------|------------------------------------------|--------------------------------------------------------|
| DeepSurv   | λ, κ in 10 … 300, 100 or 200 steps       | on BeatAML and METABRIC; for BeatAML on METABRIC alone |
| `PRIVATE`  | width 8 or 16, step size .01 … .04       | on BeatAML and METABRIC, noise per patient as with MDS |
| `LOCAL`    |                                          | by each hospital inside its own training patients      |

The best mean of the columns wins. λ and κ weigh on the sum over patients, like a prior, so that they carry over to
other sizes. Differences below .002 are noise. The columns of `cohorts` were not chosen by a search, but drafts of these
constants were tried on one deal of the MDS cohort too (C .745 to .750 without noise).

Scores of the search (5-fold C, one to three deals): `FOUND`. The constants of DeepSurv without noise are the product's
presets "deepsurv-mds-open" and so on, for which `benchmarks.models.tune` searched again.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.dp.settings import Disease, Way, disease
from models.presets import Preset, preset

__all__ = ["FOUND", "LOCAL", "PRIVATE", "constants_of", "of_disease"]

PRIVATE: Final = Way((8,), 3.0, 0.01, 3.0)
"""Descent with noise, and the same steps without."""

LOCAL: Final = ((200.0, 30.0), (30.0, 30.0))
"""(λ, κ) from which a hospital alone may choose inside its own training patients, beside ridge Cox."""

FOUND: Final[dict[str, Any]] = {
    "DeepSurv, (λ, κ, steps): BeatAML, METABRIC": {
        "(30, 10, 100)": (0.7206, 0.5840),
        "(30, 30, 200)": (0.7240, 0.5844),
        "(100, 10, 100)": (0.7200, 0.5841),
        "(100, 10, 200)": (0.7180, 0.5866),
        "(100, 30, 200)": (0.7248, 0.5855),
        "(100, 100, 200)": (0.7228, 0.5836),
        "(100, 300, 200)": (0.7222, 0.5830),
        "(200, 30, 200)": (0.7251, 0.5855),
        "(300, 30, 200)": (0.7250, 0.5854),
        "ridge Cox": (0.7251, 0.5847),
    },
    "PRIVATE, (width, step size): BeatAML at ε = 1 and 3, METABRIC at ε = 1 and 3": {
        "(8, 0.01)": (0.7153, 0.7217, 0.5775, 0.5819),
        "(8, 0.02)": (0.7191, 0.7196, 0.5728, 0.5821),
        "(8, 0.03)": (0.7145, 0.7168, 0.5671, 0.5806),
        "(16, 0.01)": (0.7140, 0.7201, 0.5692, 0.5804),
        "(16, 0.015)": (0.7156, 0.7193, 0.5667, 0.5810),
        "(16, 0.02)": (0.7152, 0.7170, 0.5646, 0.5804),
        "(16, 0.03)": (0.7102, 0.7102, 0.5611, 0.5811),
        "(16, 0.04)": (0.7022, 0.7049, 0.5562, 0.5800),
        "(16, 0.02), averaging 1": (0.7151, 0.7177, 0.5662, 0.5810),
        "(16, 0.03), averaging 1": (0.7113, 0.7135, 0.5627, 0.5821),
    },
}


def constants_of(cohort: str) -> Disease:
    """Return time grid and hazard of a cohort's disease."""
    return disease(cohort)


def of_disease(cohort: str, kind: str = "deepsurv") -> Preset:
    """Return the product's own preset for a cohort's disease, without noise."""
    return preset(f"{kind}-{cohort.lower()}-open")
