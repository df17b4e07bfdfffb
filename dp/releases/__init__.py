"""Statistics over patients that are released once: each a `dp.queries.Release` with its proof.

The statistics of a survival model (Kaplan-Meier, Breslow, concordance, AUC, calibration, Brier,
likelihood) need one and live in `models`; they are built from the same lemmas.

| lemma | contributions of one patient | add or remove one | replace one |
|---|---|---|---|
| ball | any vector of norm ≤ C | C | 2C |
| cone | norm ≤ C and no two patients' vectors at an obtuse angle (all coordinates ≥ 0) | C | √2·C |
| cells | a unit vector in each of m blocks, or zero in some | √m | √(2m) |
| constant | two patients' vectors differ by at most C in norm, and each has norm ≤ C | C | C |

Ball: triangle inequality. Cone: ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩ ≤ 2C². Cells: a cone with C² = m.
"""

from dp.releases.estimate import QUANTILE, Estimate
from dp.releases.histogram import Histogram, NoisyCounts, cell_counts
from dp.releases.marginals import Marginal, Marginals, NoisyMarginals
from dp.releases.mixture import Mixture, MixtureStatistics, NoisyMixture
from dp.releases.quantiles import NoisyQuantiles, Quantiles
from dp.releases.records import Records
from dp.releases.sums import BoundedSum, Count, NoisySum

__all__ = [
    "QUANTILE",
    "BoundedSum",
    "Count",
    "Estimate",
    "Histogram",
    "Marginal",
    "Marginals",
    "Mixture",
    "MixtureStatistics",
    "NoisyCounts",
    "NoisyMarginals",
    "NoisyMixture",
    "NoisyQuantiles",
    "NoisySum",
    "Quantiles",
    "Records",
    "cell_counts",
]
