"""Statistics of all hospitals' tables through the door: an option, charged like everything else.

Training needs none of them: the profile's centres and spreads are public constants. A federation that wants to see its
own distributions releases one bounded sum (`harmonize.statistics`), once per version of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dp.queries import SecureSum
from dp.releases.records import Records
from dp.releases.sums import BoundedSum
from harmonize import statistics
from harmonize.profile import Profile
from harmonize.statistics import Summary
from harmonize.table import Table

__all__ = ["CohortStatistics", "collect", "release"]


@dataclass(frozen=True)
class CohortStatistics:
    """What a federation learns about its tables.

    Args:
        summaries: by variable, from noisy sums: counts may be negative or fractional.
        noise_sd: standard deviation of the noise in every count.
    """

    summaries: Mapping[str, Summary]
    noise_sd: float


def release(profile: Profile) -> BoundedSum:
    """Return the release: its length, its bound and its name follow from the profile alone.

    >>> from harmonize import profile
    >>> found = release(profile.load("aml_core"))
    >>> found.length, round(found.bound**2)
    (125, 11)
    """
    name = f"cohort statistics, {profile.profile} {profile.digest}"
    return BoundedSum(name, len(statistics.names(profile)), statistics.bound(profile))


def collect(
    table: Table, secure_sum: SecureSum, *, multiplier: float, patient_cap: int, noise_sd: float, index: int = 0
) -> CohortStatistics:
    """Release the statistics once; every site that takes part gets the same.

    Args:
        table: of this site; one row a patient.
        secure_sum: the door.
        multiplier: z of the release: noise is z times its bound.
        patient_cap: public bound of the number of patients, for the lattice.
        noise_sd: standard deviation of the noise that the opened sum holds, as the study's accounting says.
        index: of the release within its stage.
    """
    wanted = release(table.profile)
    records = Records(statistics.rows(table).matrix)
    total = secure_sum(wanted.query(multiplier, patient_cap, index), lambda: wanted.contribution(records))
    noisy = wanted.decode(total, noise_sd)
    counted = np.array([estimate.value for estimate in noisy.values])
    return CohortStatistics(statistics.summaries(counted, table.profile), noise_sd)
