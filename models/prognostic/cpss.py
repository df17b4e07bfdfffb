"""CPSS and CPSS-Mol of chronic myelomonocytic leukaemia.

Sources: Such et al., Blood 2013;121:3005-3015; Elena et al., Blood 2016;128:1408-1417; the cytogenetic classes are
those of Such et al., Haematologica 2011;96:375-383.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from models.prognostic.inputs import Ends, Float64, Input, Patients, Worse, at_ends, finding
from models.prognostic.ipss_r import BLASTS, HAEMOGLOBIN
from models.prognostic.score import Categories, Cut, Result, Row, Score, Steps, between

__all__ = ["CPSS", "CPSS_HB", "CPSS_MOL", "CPSS_MOL_HB"]

_SUBTYPE: Final = Input(
    "who2016", "", "subtype by WHO 2016", 0, 2, required=False, codes={"cmml-0": 0, "cmml-1": 1, "cmml-2": 2}
)
_PB_BLASTS: Final = Input("pb_blast", "%", "blasts in the blood", 0, 100)
_WBC: Final = Input("wbc", "10*9/L", "white cells", 0, 1000)
_TRANSFUSION: Final = Input(
    "transfusion_dependent", "", "dependent on transfusion of red cells", 0, 1, codes={"no": 0, "yes": 1}
)
_NORMAL: Final = finding("cyto_normal", "normal karyotype", Worse.LOWER)
_MINUS_Y: Final = finding("cyto_minus_y", "loss of Y", Worse.LOWER)
_NUMBER: Final = Input("cyto_abnormalities", "", "number of abnormalities", 0, 50)
_HIGH: Final = (
    finding("cyto_plus8", "trisomy 8"),
    finding("cyto_minus7", "monosomy 7"),
    finding("cyto_del7q", "loss in 7q"),
    finding("cyto_complex", "complex karyotype"),
)
_GENES: Final = {
    finding("mut_asxl1", "ASXL1 mutated"): 1.0,
    finding("mut_nras", "NRAS mutated"): 1.0,
    finding("mut_setbp1", "SETBP1 mutated"): 1.0,
    finding("mut_runx1", "RUNX1 mutated"): 2.0,
}
_CYTOGENETICS: Final = (_NORMAL, _MINUS_Y, _NUMBER, *_HIGH)

_WHITE_CELLS: Final = Steps(_WBC, (Cut(13),), (0, 1))
_MARROW: Final = Steps(BLASTS, (Cut(5),), (0, 1))
_ANAEMIA: Final = Steps(HAEMOGLOBIN, (Cut(10),), (1, 0))

_CATEGORIES: Final = Categories(("low", "intermediate-1", "intermediate-2", "high"), (Cut(1), Cut(2), Cut(4)))


def _cytogenetic_class(normal: Float64, minus_y: Float64, number: Float64, *high: Float64) -> Float64:
    """0 low, 1 intermediate, 2 high."""
    low = (normal == 1) | (number == 0) | ((minus_y == 1) & (number == 1))
    return np.where(np.any([each == 1 for each in high], axis=0), 2.0, np.where(low, 0.0, 1.0))


def _cytogenetics(patients: Patients) -> Ends:
    return at_ends(_cytogenetic_class, *(patients.ends(each) for each in _CYTOGENETICS))


def _by_blasts(marrow: Float64, blood: Float64) -> Float64:
    return ((marrow >= 10) | (blood >= 5)).astype(np.float64)


def _cmml_2(patients: Patients) -> Ends:
    """The subtype as it was diagnosed (an Auer rod decides, too), else by blasts."""
    counted = at_ends(_by_blasts, patients.ends(BLASTS), patients.ends(_PB_BLASTS))
    diagnosed, subtype = patients.known(_SUBTYPE), patients.value(_SUBTYPE)
    return Ends(*(np.where(diagnosed, (subtype == 2).astype(np.float64), each) for each in counted))


def _sum(*points: Float64) -> Float64:
    return np.asarray(np.sum(points, axis=0), dtype=np.float64)


def _steps(patients: Patients, steps: Steps) -> Ends:
    return at_ends(steps.of, patients.ends(steps.input))


def _transfusion(patients: Patients) -> Ends:
    return patients.ends(_TRANSFUSION)


def _anaemia(patients: Patients) -> Ends:
    return _steps(patients, _ANAEMIA)


_Anaemia = Callable[[Patients], Ends]


def _cpss(anaemia: _Anaemia) -> Callable[[Score, Patients], Result]:
    def rule(score: Score, patients: Patients) -> Result:
        terms = (_cmml_2(patients), _steps(patients, _WHITE_CELLS), _cytogenetics(patients), anaemia(patients))
        return between(score, patients, at_ends(_sum, *terms))

    return rule


def _genetic_group(cytogenetics: Float64, *genes: Float64) -> Float64:
    """0 low, 1 intermediate-1, 2 intermediate-2, 3 high: the genetic score, and 3 for all above."""
    total = cytogenetics
    for points, found in zip(_GENES.values(), genes, strict=True):
        total = total + points * found
    return np.minimum(total, 3.0)


def _cpss_mol(anaemia: _Anaemia) -> Callable[[Score, Patients], Result]:
    def rule(score: Score, patients: Patients) -> Result:
        genetic = at_ends(_genetic_group, _cytogenetics(patients), *(patients.ends(each) for each in _GENES))
        terms = (genetic, _steps(patients, _MARROW), _steps(patients, _WHITE_CELLS), anaemia(patients))
        return between(score, patients, at_ends(_sum, *terms))

    return rule


_CYTOGENETIC_ROWS: Final = (
    Row("cytogenetics", "normal, or loss of Y alone", "0"),
    Row("cytogenetics", "any other", "1"),
    Row("cytogenetics", "trisomy 8, abnormality of chromosome 7, complex", "2"),
)
_DEPENDENT: Final = Row("transfusion of red cells", "dependent", "1")
_CPSS_ROWS: Final = (
    Row("WHO subtype", "CMML-2 (blasts: marrow ≥ 10 % or blood ≥ 5 %)", "1"),
    Row("FAB subtype", "proliferative (white cells ≥ 13 10*9/L)", "1"),
    *_CYTOGENETIC_ROWS,
)
_MOL_ROWS: Final = (
    *(Row(f"genetic: {row.variable}", row.value, row.points) for row in _CYTOGENETIC_ROWS),
    *(Row("genetic: gene", each.title, f"{points:g}") for each, points in _GENES.items()),
    Row("genetic risk group", "genetic points 0, 1, 2, ≥ 3", "0, 1, 2, 3"),
    *_MARROW.rows(),
    *_WHITE_CELLS.rows(),
)
_SEVEN: Final = (
    "Of chromosome 7 only monosomy and loss in 7q are seen; other abnormalities of it count as intermediate."
)
_CPSS_CITATION: Final = (
    "Such E, Germing U, Malcovati L, et al. Development and validation of a prognostic scoring system for patients "
    "with chronic myelomonocytic leukemia. Blood 2013;121(15):3005-3015"
)
_CPSS_DOI: Final = "10.1182/blood-2012-08-452938"
_MOL_CITATION: Final = (
    "Elena C, Gallì A, Such E, et al. Integrating clinical features and genetic lesions in the risk assessment of "
    "patients with chronic myelomonocytic leukemia. Blood 2016;128(10):1408-1417"
)
_MOL_DOI: Final = "10.1182/blood-2016-05-714030"
_DISEASE: Final = "chronic myelomonocytic leukaemia"
_DIAGNOSES: Final = ("127225006",)
_CPSS_INPUTS: Final = (BLASTS, _PB_BLASTS, _WBC, *_CYTOGENETICS)
_MOL_INPUTS: Final = (BLASTS, _WBC, *_CYTOGENETICS, *_GENES)


def _score(name: str, title: str, *, molecular: bool, by_haemoglobin: bool, notes: tuple[str, ...]) -> Score:
    anaemia, extra = (_anaemia, HAEMOGLOBIN) if by_haemoglobin else (_transfusion, _TRANSFUSION)
    rows = _ANAEMIA.rows() if by_haemoglobin else (_DEPENDENT,)
    return Score(
        name=name,
        title=title,
        version="2016" if molecular else "2013",
        citation=_MOL_CITATION if molecular else _CPSS_CITATION,
        doi=_MOL_DOI if molecular else _CPSS_DOI,
        diseases=_DISEASE,
        diagnoses=_DIAGNOSES,
        inputs=(*_MOL_INPUTS, extra) if molecular else (*_CPSS_INPUTS, extra, _SUBTYPE),
        categories=_CATEGORIES,
        table=(*(_MOL_ROWS if molecular else _CPSS_ROWS), *rows, *_CATEGORIES.rows()),
        rule=(_cpss_mol if molecular else _cpss)(anaemia),
        notes=(*notes, _SEVEN),
    )


_TITLE: Final = "CMML-specific Prognostic Scoring System"
CPSS: Final = _score("cpss", _TITLE, molecular=False, by_haemoglobin=False, notes=())
CPSS_HB: Final = _score(
    "cpss-hb",
    f"{_TITLE}, the publication's alternative with haemoglobin",
    molecular=False,
    by_haemoglobin=True,
    notes=("Haemoglobin below 10 g/dL stands for dependence on transfusion.",),
)
CPSS_MOL: Final = _score("cpss-mol", f"{_TITLE}, molecular", molecular=True, by_haemoglobin=False, notes=())
CPSS_MOL_HB: Final = _score(
    "cpss-mol-hb",
    f"{_TITLE}, molecular, with haemoglobin",
    molecular=True,
    by_haemoglobin=True,
    notes=("Not published: haemoglobin below 10 g/dL stands for transfusion, by analogy with the alternative CPSS.",),
)
