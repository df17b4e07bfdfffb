"""ISS, R-ISS and R2-ISS of multiple myeloma.

Sources: Greipp et al., J Clin Oncol 2005;23:3412-3420; Palumbo et al., J Clin Oncol 2015;33:2863-2869;
D'Agostino et al., J Clin Oncol 2022;40:3406-3418.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.prognostic.inputs import Ends, Float64, Input, Patients, Worse, at_ends, finding
from models.prognostic.score import Categories, Cut, Result, Row, Score, between

__all__ = ["ISS", "R2_ISS", "R_ISS"]

_DISEASE: Final = "newly diagnosed multiple myeloma"
_DIAGNOSES: Final = ("109989006",)
_STAGES: Final = Categories(("I", "II", "III"), (Cut(2), Cut(3)))
_CODES: Final = {"I": 1, "II": 2, "III": 3}

_B2M: Final = Input("b2m", "mg/L", "beta-2-microglobulin", 0, 1000)
_ALBUMIN: Final = Input("albumin", "g/L", "albumin", 0, 100, Worse.LOWER)
_RECORDED: Final = Input("iss", "", "stage as it was recorded", 1, 3, required=False, codes=_CODES)
_RECORDED_REVISED: Final = Input("riss", "", "revised stage as it was recorded", 1, 3, required=False, codes=_CODES)
_LDH: Final = Input("ldh_ratio", "1", "lactate dehydrogenase, multiple of the upper reference limit", 0, 1000)
_DEL17P: Final = finding("cyto_del17p", "loss in 17p")
_T4_14: Final = finding("cyto_t4_14", "t(4;14)")
_T14_16: Final = finding("cyto_t14_16", "t(14;16)")
_GAIN1Q: Final = finding("cyto_gain1q", "gain in 1q")
_LABORATORY: Final = (_B2M, _ALBUMIN, _RECORDED)
_NOTE: Final = "The stage as it was recorded counts where the values leave the stage open, and only there."


def _by_values(b2m: Float64, albumin: Float64) -> Float64:
    return np.where(b2m >= 5.5, 3.0, np.where((b2m < 3.5) & (albumin >= 35.0), 1.0, 2.0))


def _or_recorded(stage: Ends, patients: Patients, recorded: Input) -> Ends:
    # A record that contradicts the values decides nothing. NaN compares false.
    stated = patients.value(recorded)
    fits = (stage.best <= stated) & (stated <= stage.worst)
    return Ends(*(np.where(fits, stated, each) for each in stage))


def _stage(patients: Patients) -> Ends:
    values = at_ends(_by_values, patients.ends(_B2M), patients.ends(_ALBUMIN))
    return _or_recorded(values, patients, _RECORDED)


def _iss(score: Score, patients: Patients) -> Result:
    return between(score, patients, _stage(patients))


def _revised(stage: Float64, ldh: Float64, del17p: Float64, t4_14: Float64, t14_16: Float64) -> Float64:
    high_risk = (del17p == 1) | (t4_14 == 1) | (t14_16 == 1)
    either = high_risk | (ldh > 1.0)
    return np.where((stage == 3) & either, 3.0, np.where((stage == 1) & ~either, 1.0, 2.0))


def _r_iss(score: Score, patients: Patients) -> Result:
    findings = (patients.ends(each) for each in (_LDH, _DEL17P, _T4_14, _T14_16))
    values = at_ends(_revised, _stage(patients), *findings)
    return between(score, patients, _or_recorded(values, patients, _RECORDED_REVISED))


# Points by D'Agostino 2022; the stage's by stage number.
_OF_STAGE: Final = np.array([0.0, 0.0, 1.0, 1.5])


def _second_revision(stage: Float64, ldh: Float64, del17p: Float64, t4_14: Float64, gain1q: Float64) -> Float64:
    return _OF_STAGE[stage.astype(np.intp)] + (ldh > 1.0) + del17p + t4_14 + 0.5 * gain1q


def _r2_iss(score: Score, patients: Patients) -> Result:
    findings = (patients.ends(each) for each in (_LDH, _DEL17P, _T4_14, _GAIN1Q))
    return between(score, patients, at_ends(_second_revision, _stage(patients), *findings))


ISS: Final = Score(
    name="iss",
    title="International Staging System",
    version="2005",
    citation=(
        "Greipp PR, San Miguel J, Durie BGM, et al. International Staging System for multiple myeloma. "
        "J Clin Oncol 2005;23(15):3412-3420"
    ),
    doi="10.1200/JCO.2005.04.242",
    diseases=_DISEASE,
    diagnoses=_DIAGNOSES,
    inputs=_LABORATORY,
    categories=_STAGES,
    table=(
        Row("stage", "beta-2-microglobulin < 3.5 mg/L and albumin ≥ 35 g/L", "I"),
        Row("stage", "neither I nor III", "II"),
        Row("stage", "beta-2-microglobulin ≥ 5.5 mg/L", "III"),
    ),
    rule=_iss,
    notes=(_NOTE,),
)

R_ISS: Final = Score(
    name="r-iss",
    title="Revised International Staging System",
    version="2015",
    citation=(
        "Palumbo A, Avet-Loiseau H, Oliva S, et al. Revised International Staging System for multiple myeloma: "
        "a report from International Myeloma Working Group. J Clin Oncol 2015;33(26):2863-2869"
    ),
    doi="10.1200/JCO.2015.61.2267",
    diseases=_DISEASE,
    diagnoses=_DIAGNOSES,
    inputs=(*_LABORATORY, _LDH, _DEL17P, _T4_14, _T14_16, _RECORDED_REVISED),
    categories=_STAGES,
    table=(
        Row("high risk", "loss in 17p, t(4;14) or t(14;16)", ""),
        Row("high LDH", "above the upper reference limit (ratio > 1)", ""),
        Row("stage", "ISS I, no high risk, no high LDH", "I"),
        Row("stage", "neither I nor III", "II"),
        Row("stage", "ISS III and high risk or high LDH", "III"),
    ),
    rule=_r_iss,
    notes=(_NOTE,),
)

_R2_CATEGORIES: Final = Categories(
    ("I low", "II low-intermediate", "III intermediate-high", "IV high"),
    (Cut(0, above=False), Cut(1, above=False), Cut(2.5, above=False)),
)
R2_ISS: Final = Score(
    name="r2-iss",
    title="Second Revision of the International Staging System",
    version="2022",
    citation=(
        "D'Agostino M, Cairns DA, Lahuerta JJ, et al. Second Revision of the International Staging System (R2-ISS) "
        "for overall survival in multiple myeloma: a European Myeloma Network report within the HARMONY project. "
        "J Clin Oncol 2022;40(29):3406-3418"
    ),
    doi="10.1200/JCO.21.02614",
    diseases=_DISEASE,
    diagnoses=_DIAGNOSES,
    inputs=(*_LABORATORY, _LDH, _DEL17P, _T4_14, _GAIN1Q),
    categories=_R2_CATEGORIES,
    table=(
        Row("ISS", "II", "1"),
        Row("ISS", "III", "1.5"),
        Row("loss in 17p", "present", "1"),
        Row("LDH", "above the upper reference limit (ratio > 1)", "1"),
        Row("t(4;14)", "present", "1"),
        Row("gain in 1q", "present", "0.5"),
        *_R2_CATEGORIES.rows(),
    ),
    rule=_r2_iss,
    notes=(_NOTE,),
)
