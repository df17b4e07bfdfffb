"""IPSS-R and its age-adjusted form IPSS-RA, of myelodysplastic syndromes.

Source: Greenberg et al., Blood 2012;120:2454-2465, and the calculator of the MDS Foundation.
"""

from __future__ import annotations

from typing import Final

from models.prognostic.inputs import Ends, Float64, Input, Patients, Worse, at_ends
from models.prognostic.score import Categories, Cut, Result, Row, Score, Steps, between

__all__ = ["CYTOGENETICS", "IPSS_R", "IPSS_RA"]

_CITATION: Final = (
    "Greenberg PL, Tuechler H, Schanz J, et al. Revised International Prognostic Scoring System for "
    "myelodysplastic syndromes. Blood 2012;120(12):2454-2465"
)
_DOI: Final = "10.1182/blood-2012-03-420489"
_DISEASES: Final = "myelodysplastic syndromes; chronic myelomonocytic leukaemia that is not proliferative"
_DIAGNOSES: Final = ("109995007", "127225006")

CYTOGENETICS: Final = Input("cyto_ipssr_class", "", "cytogenetic class of IPSS-R", 0, 4)
BLASTS: Final = Input("bm_blast", "%", "blasts in the marrow", 0, 100)
HAEMOGLOBIN: Final = Input("hb", "g/dL", "haemoglobin", 0, 30, Worse.LOWER)
PLATELETS: Final = Input("plt", "10*9/L", "platelets", 0, 5000, Worse.LOWER)
_NEUTROPHILS: Final = Input("anc", "10*9/L", "neutrophils", 0, 500, Worse.LOWER)
_AGE: Final = Input("age", "a", "age", 0, 120)

_STEPS: Final = (
    Steps(
        CYTOGENETICS,
        (Cut(1), Cut(2), Cut(3), Cut(4)),
        (0, 1, 2, 3, 4),
        ("very good", "good", "intermediate", "poor", "very poor"),
    ),
    Steps(BLASTS, (Cut(2, above=False), Cut(5), Cut(10, above=False)), (0, 1, 2, 3)),
    Steps(HAEMOGLOBIN, (Cut(8), Cut(10)), (1.5, 1, 0)),
    Steps(PLATELETS, (Cut(50), Cut(100)), (1, 0.5, 0)),
    Steps(_NEUTROPHILS, (Cut(0.8),), (0.5, 0)),
)
_INPUTS: Final = tuple(step.input for step in _STEPS)
_TABLE: Final = tuple(row for step in _STEPS for row in step.rows())
_CATEGORIES: Final = Categories(
    ("very low", "low", "intermediate", "high", "very high"),
    tuple(Cut(at, above=False) for at in (1.5, 3, 4.5, 6)),
)


def _sum(*values: Float64) -> Float64:
    total = _STEPS[0].of(values[0])
    for step, each in zip(_STEPS[1:], values[1:], strict=True):
        total = total + step.of(each)
    return total


def _points(patients: Patients) -> Ends:
    return at_ends(_sum, *(patients.ends(each) for each in _INPUTS))


def _rule(score: Score, patients: Patients) -> Result:
    return between(score, patients, _points(patients))


def _adjusted(points: Float64, age: Float64) -> Float64:
    return points + (age - 70.0) * (0.05 - 0.005 * points)


def _rule_with_age(score: Score, patients: Patients) -> Result:
    return between(score, patients, at_ends(_adjusted, _points(patients), patients.ends(_AGE)))


IPSS_R: Final = Score(
    name="ipss-r",
    title="Revised International Prognostic Scoring System",
    version="2012",
    citation=_CITATION,
    doi=_DOI,
    diseases=_DISEASES,
    diagnoses=_DIAGNOSES,
    inputs=_INPUTS,
    categories=_CATEGORIES,
    table=(*_TABLE, *_CATEGORIES.rows()),
    rule=_rule,
)

IPSS_RA: Final = Score(
    name="ipss-ra",
    title="Age-adjusted Revised International Prognostic Scoring System (survival only)",
    version="2012",
    citation=_CITATION,
    doi=_DOI,
    diseases=_DISEASES,
    diagnoses=_DIAGNOSES,
    inputs=(*_INPUTS, _AGE),
    categories=_CATEGORIES,
    table=(
        *_TABLE,
        Row("age [a]", "added to the sum R of the above", "(age - 70) (0.05 - 0.005 R)"),
        *_CATEGORIES.rows(),
    ),
    rule=_rule_with_age,
    notes=("Published with the exact age. A table has completed years: up to 0.05 points too few, and more above 90.",),
)
