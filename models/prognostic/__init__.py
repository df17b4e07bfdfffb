"""Published prognostic scores, computed as published: numpy only, all patients at once.

| Module | Scores |
|---|---|
| `ipss_r` | IPSS-R, IPSS-RA |
| `ipss_m` | IPSS-M |
| `eln` | ELN 2022 |
| `cpss` | CPSS, CPSS-Mol, and each with haemoglobin in place of transfusion dependence |
| `iss` | ISS, R-ISS, R2-ISS |

`inputs` says what is known of a patient, `score` what a score is and gives.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.prognostic.cpss import CPSS, CPSS_HB, CPSS_MOL, CPSS_MOL_HB
from models.prognostic.eln import ELN_2022
from models.prognostic.inputs import Input, Patients
from models.prognostic.ipss_m import IPSS_M
from models.prognostic.ipss_r import IPSS_R, IPSS_RA
from models.prognostic.iss import ISS, R2_ISS, R_ISS
from models.prognostic.score import NOT_GIVEN, Result, Scenario, Score

__all__ = ["NOT_GIVEN", "SCORES", "Input", "Patients", "Result", "Scenario", "Score"]

SCORES: Final[Mapping[str, Score]] = MappingProxyType(
    {
        each.name: each
        for each in (IPSS_R, IPSS_RA, IPSS_M, ELN_2022, CPSS, CPSS_HB, CPSS_MOL, CPSS_MOL_HB, ISS, R_ISS, R2_ISS)
    }
)
"""Every score by its name."""
