"""IPSS-M, the molecular prognostic score of myelodysplastic syndromes, with its treatment of missing genes.

    score = Σ_j β_j (x_j - mean_j) / ln 2,    rounded to 2 decimals

A patient with the average of every variable has 0; one more is twice the hazard of leukaemia-free survival.

Source: Bernard et al., NEJM Evidence 2022;1(7):EVIDoa2200008 and its reference implementation, the R package
`ipssm` (MIT licence, github.com/papaemmelab/ipssm, functions IPSSMprocess, IPSSMmain, calculateNres2 and
IPSSMannotate), whose handling of missing values this module follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from models.prognostic.inputs import Bool, Float64, Input, Patients, finding
from models.prognostic.ipss_r import BLASTS, CYTOGENETICS, HAEMOGLOBIN, PLATELETS
from models.prognostic.score import NOT_GIVEN, Categories, Cut, Result, Row, Scenario, Score

__all__ = ["IPSS_M", "RESIDUAL_GENES", "WIDEST_RANGE"]


class _Case(IntEnum):
    """Position of an imputed value in `_Term`."""

    BEST = 0
    MEAN = 1
    WORST = 2


@dataclass(frozen=True, slots=True)
class _Term:
    """One variable of the model: its coefficient, and what stands in for a missing value."""

    title: str
    beta: float
    imputed: tuple[float, float, float]

    @property
    def mean(self) -> float:
        return self.imputed[_Case.MEAN]


def _mutation(title: str, beta: float, mean: float) -> _Term:
    return _Term(title, beta, (0.0, mean, 1.0))


# Coefficients and means as in IPSSMmodel, in its order: a sum of floats depends on it in the last digit.
_TERMS: Final[Mapping[str, _Term]] = {
    "hb": _Term("haemoglobin [g/dL], within 2 to 20", -0.171, (20.0, 9.87, 2.0)),
    "plt": _Term("platelets [10*9/L] / 100, at most 2.5", -0.222, (2.5, 1.41, 0.0)),
    "bm_blast": _Term("blasts in the marrow [%] / 5, at most 4", 0.352, (0.0, 0.922, 4.0)),
    "cyto": _Term("cytogenetic class of IPSS-R, 0 to 4", 0.287, (0.0, 1.39, 4.0)),
    "tp53": _mutation("TP53 multi-hit", 1.18, 0.071),
    "flt3": _mutation("FLT3, ITD or TKD", 0.798, 0.0108),
    "kmt2a_ptd": _mutation("KMT2A (MLL) PTD", 0.798, 0.0247),
    "sf3b1_5q": _mutation("SF3B1 with del(5q), neither -7/del(7q) nor complex", 0.504, 0.0166),
    "npm1": _mutation("NPM1", 0.43, 0.0112),
    "runx1": _mutation("RUNX1", 0.423, 0.126),
    "nras": _mutation("NRAS", 0.417, 0.0362),
    "etv6": _mutation("ETV6", 0.391, 0.0216),
    "idh2": _mutation("IDH2", 0.379, 0.0429),
    "cbl": _mutation("CBL", 0.295, 0.0473),
    "ezh2": _mutation("EZH2", 0.27, 0.0588),
    "u2af1": _mutation("U2AF1", 0.247, 0.0866),
    "srsf2": _mutation("SRSF2", 0.239, 0.158),
    "dnmt3a": _mutation("DNMT3A", 0.221, 0.161),
    "asxl1": _mutation("ASXL1", 0.213, 0.252),
    "kras": _mutation("KRAS", 0.202, 0.0271),
    "sf3b1_alpha": _Term(
        "SF3B1 otherwise, without SRSF2, STAG2, BCOR, BCORL1, RUNX1 and NRAS", -0.0794, (1.0, 0.186, 0.0)
    ),
}
_RESIDUAL: Final = _Term("how many residual genes are mutated, at most 2", 0.231, (0.0, 0.388, 2.0))

RESIDUAL_GENES: Final = (
    "bcor", "bcorl1", "cebpa", "etnk1", "gata2", "gnb1", "idh1", "nf1", "phf6", "ppm1d", "prpf8", "ptpn11",
    "setbp1", "stag2", "wt1",
)  # fmt: skip
_PLAIN: Final = (
    "npm1", "runx1", "nras", "etv6", "idh2", "cbl", "ezh2", "u2af1", "srsf2", "dnmt3a", "asxl1", "kras",
)  # fmt: skip
_EXCLUDE_ALPHA: Final = ("srsf2", "stag2", "bcor", "bcorl1", "runx1", "nras")

WIDEST_RANGE: Final = 1.0
"""Points are given if the worst case lies at most this far above the best: the package's `range.max`."""


def _gene(symbol: str) -> Input:
    return finding(f"mut_{symbol}", f"{symbol.upper()} mutated")


_GENES: Final = {symbol: _gene(symbol) for symbol in (*_PLAIN, "sf3b1", *RESIDUAL_GENES)}
_MULTIHIT: Final = finding("mut_tp53_multihit", "TP53 multi-hit: two mutations, or one and loss of the other allele")
_TP53: Final = finding("mut_tp53", "TP53 mutated", required=False)
_ITD: Final = finding("mut_flt3_itd", "FLT3 internal tandem duplication")
_TKD: Final = finding("mut_flt3_tkd", "FLT3 mutated in the tyrosine kinase domain")
_FLT3: Final = finding("mut_flt3", "FLT3 mutated", required=False)
_PTD: Final = finding("mut_kmt2a_ptd", "KMT2A (MLL) partial tandem duplication")
_DEL5Q: Final = finding("cyto_del5q", "loss in 5q")
_MINUS7: Final = finding("cyto_minus7", "monosomy 7")
_DEL7Q: Final = finding("cyto_del7q", "loss in 7q")
_COMPLEX: Final = finding("cyto_complex", "complex karyotype")
_INPUTS: Final = (
    HAEMOGLOBIN, PLATELETS, BLASTS, CYTOGENETICS, _MULTIHIT, _ITD, _TKD, _PTD, *_GENES.values(),
    _DEL5Q, _MINUS7, _DEL7Q, _COMPLEX, _TP53, _FLT3,
)  # fmt: skip


def _truth(yes: Bool, no: Bool) -> Float64:
    """1 where certainly true, 0 where certainly false, NaN where nobody knows."""
    return np.where(yes, 1.0, np.where(no, 0.0, np.nan))


def _any(*findings: Float64) -> Float64:
    """Three-valued or."""
    yes = np.any([each == 1 for each in findings], axis=0)
    no = np.all([each == 0 for each in findings], axis=0)
    return _truth(yes, no)


def _variables(value: Callable[[Input], Float64]) -> dict[str, Float64]:
    """Variables of the model from inputs, NaN where undecided: `IPSSMprocess`."""
    gene = {symbol: value(each) for symbol, each in _GENES.items()}
    del5q, complex_ = value(_DEL5Q), value(_COMPLEX)
    of_7 = _any(value(_MINUS7), value(_DEL7Q))
    sf3b1 = gene["sf3b1"]
    with_5q = _truth(
        (sf3b1 == 1) & (del5q == 1) & (of_7 == 0) & (complex_ == 0),
        (sf3b1 == 0) | (del5q == 0) | (of_7 == 1) | (complex_ == 1),
    )
    others = [gene[symbol] for symbol in _EXCLUDE_ALPHA]
    alpha = _truth(
        (sf3b1 == 1) & (with_5q == 0) & np.all([each == 0 for each in others], axis=0),
        (sf3b1 == 0) | (with_5q == 1) | np.any([each == 1 for each in others], axis=0),
    )
    multihit, flt3 = value(_MULTIHIT), _any(value(_ITD), value(_TKD))
    return {
        "hb": np.clip(value(HAEMOGLOBIN), 2.0, 20.0),
        "plt": np.minimum(value(PLATELETS), 250.0) / 100.0,
        "bm_blast": np.minimum(value(BLASTS), 20.0) / 5.0,
        "cyto": value(CYTOGENETICS),
        # A gene without any mutation has none of a kind.
        "tp53": np.where(np.isnan(multihit) & (value(_TP53) == 0), 0.0, multihit),
        "flt3": np.where(np.isnan(flt3) & (value(_FLT3) == 0), 0.0, flt3),
        "kmt2a_ptd": value(_PTD),
        "sf3b1_5q": with_5q,
        "sf3b1_alpha": alpha,
        **{symbol: gene[symbol] for symbol in _PLAIN},
    }


def _residual(value: Callable[[Input], Float64]) -> tuple[Float64, Float64, Float64]:
    """min(number mutated of the residual genes, 2) in the best, mean and worst case: `calculateNres2`."""
    genes = np.stack([value(_GENES[symbol]) for symbol in RESIDUAL_GENES], axis=1)
    untested = np.sum(np.isnan(genes), axis=1).astype(np.float64)
    mutated = np.nansum(genes, axis=1)
    share = untested / len(RESIDUAL_GENES)
    mean = np.minimum(mutated, 2.0) + np.maximum((2.0 - mutated) / 2.0 * share * _RESIDUAL.mean, 0.0)
    return np.minimum(mutated, 2.0), mean, np.minimum(mutated + untested, 2.0)


def _points(variables: Mapping[str, Float64], residual: Float64, case: _Case) -> Float64:
    total = np.zeros_like(residual)
    for name, term in _TERMS.items():
        x = np.where(np.isnan(variables[name]), term.imputed[case], variables[name])
        total = total + (x - term.mean) * term.beta / np.log(2.0)
    total = total + (residual - _RESIDUAL.mean) * _RESIDUAL.beta / np.log(2.0)
    return np.asarray(np.round(total, 2) + 0.0)  # no minus zero


def _rule(score: Score, patients: Patients) -> Result:
    variables = _variables(patients.value)
    cases = [
        _points(variables, residual, case) for residual, case in zip(_residual(patients.value), _Case, strict=True)
    ]
    best, mean, worst = (Scenario(points, score.categories.of(points)) for points in cases)
    narrow = worst.points - best.points <= WIDEST_RANGE + 1e-9
    same = best.category == worst.category
    return Result(
        labels=score.categories.labels,
        points=np.where(narrow, mean.points, np.nan),
        category=np.where(narrow | same, mean.category, NOT_GIVEN).astype(np.int8),
        best=best,
        worst=worst,
        mean=mean,
        inputs=tuple(each.name for each in score.inputs),
        missing=patients.missing(score.inputs),
        excluded=np.zeros(len(patients), dtype=np.bool_),
    )


_CATEGORIES: Final = Categories(
    ("very low", "low", "moderate low", "moderate high", "high", "very high"),
    tuple(Cut(at, above=False) for at in (-1.5, -0.5, 0, 0.5, 1.5)),
)

IPSS_M: Final = Score(
    name="ipss-m",
    title="Molecular International Prognostic Scoring System",
    version="2022",
    citation=(
        "Bernard E, Tuechler H, Greenberg PL, et al. Molecular International Prognostic Scoring System for "
        "myelodysplastic syndromes. NEJM Evid 2022;1(7):EVIDoa2200008"
    ),
    doi="10.1056/EVIDoa2200008",
    diseases="myelodysplastic syndromes; chronic myelomonocytic leukaemia that is not proliferative",
    diagnoses=("109995007", "127225006"),
    inputs=_INPUTS,
    categories=_CATEGORIES,
    table=(
        *(Row(each.title, f"{each.beta:g} (x - {each.mean:g})", "/ ln 2") for each in (*_TERMS.values(), _RESIDUAL)),
        Row("residual genes", ", ".join(symbol.upper() for symbol in RESIDUAL_GENES), ""),
        *_CATEGORIES.rows(),
    ),
    rule=_rule,
    notes=(
        "Missing values are filled in three ways: best, mean, worst. The mean is the score if worst - best ≤ 1.",
        "The category is given then, and where best and worst have the same.",
        "A value below or above a limit of detection counts as the limit.",
        "Haemoglobin is held within 2 to 20: the package holds it at 4, the published scores of the cohort do not.",
    ),
)
