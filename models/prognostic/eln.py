"""ELN 2022, the genetic risk classification of acute myeloid leukaemia at diagnosis.

Source: Döhner et al., Blood 2022;140:1345-1377, Table 6. Not for acute promyelocytic leukaemia, t(15;17).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.prognostic.inputs import Bool, Float64, Input, Patients, Worse, at_ends, finding
from models.prognostic.score import Categories, Cut, Result, Row, Score, between

__all__ = ["ADVERSE_GENES", "ELN_2022", "TP53_FRACTION"]

ADVERSE_GENES: Final = ("asxl1", "bcor", "ezh2", "runx1", "sf3b1", "srsf2", "stag2", "u2af1", "zrsr2")
"""Myelodysplasia-related genes; adverse unless a favourable subtype or t(9;11) is there."""

TP53_FRACTION: Final = 0.1
"""A TP53 mutation counts from this allele fraction on."""

_FAVOURABLE, _INTERMEDIATE, _ADVERSE = 0.0, 1.0, 2.0

_T15_17: Final = finding("cyto_t15_17", "t(15;17), PML::RARA: the classification is not meant for it", required=False)
_T8_21: Final = finding("cyto_t8_21", "t(8;21), RUNX1::RUNX1T1", Worse.LOWER)
_INV16: Final = finding("cyto_inv16", "inv(16) or t(16;16), CBFB::MYH11", Worse.LOWER)
_NPM1: Final = finding("mut_npm1", "NPM1 mutated", Worse.LOWER)
_BZIP: Final = finding("mut_cebpa_bzip", "CEBPA mutated in frame in the bZIP domain", Worse.LOWER)
_T9_11: Final = finding("cyto_t9_11", "t(9;11), KMT2A::MLLT3", Worse.LOWER)
_ITD: Final = finding("mut_flt3_itd", "FLT3 internal tandem duplication")
_KMT2A: Final = finding("cyto_kmt2a_r", "t(v;11q23.3), KMT2A rearranged")
_COMPLEX: Final = finding("cyto_complex", "complex karyotype: three or more abnormalities")
_CYTOGENETIC: Final = (
    finding("cyto_t6_9", "t(6;9), DEK::NUP214"),
    finding("cyto_t9_22", "t(9;22), BCR::ABL1"),
    finding("cyto_mecom_r", "inv(3), t(3;3) or t(3q26.2;v), MECOM rearranged"),
    finding("cyto_minus5", "monosomy 5"),
    finding("cyto_del5q", "loss in 5q"),
    finding("cyto_minus7", "monosomy 7"),
    finding("cyto_del17p", "loss in 17p or monosomy 17"),
    finding("cyto_monosomal", "monosomal karyotype"),
)
_TP53: Final = finding("mut_tp53", "TP53 mutated")
_TP53_VAF: Final = Input("mut_tp53_vaf", "0 to 1", "allele fraction of the TP53 mutation", 0.0, 1.0)
_GENES: Final = tuple(finding(f"mut_{symbol}", f"{symbol.upper()} mutated") for symbol in ADVERSE_GENES)
_INPUTS: Final = (
    _T8_21, _INV16, _NPM1, _ITD, _BZIP, _T9_11, _KMT2A, *_CYTOGENETIC, _COMPLEX, _TP53, _TP53_VAF, *_GENES, _T15_17,
)  # fmt: skip


def _class(*values: Float64) -> Float64:
    """The first line that fits decides; see `ELN_2022.notes` for what the table leaves open."""
    case: Mapping[str, Float64] = {each.name: value for each, value in zip(_INPUTS, values, strict=True)}

    def any_of(*inputs: Input) -> Bool:
        return np.asarray(np.any([case[each.name] == 1 for each in inputs], axis=0), dtype=np.bool_)

    core_binding_factor, t9_11 = any_of(_T8_21, _INV16), any_of(_T9_11)
    tp53 = any_of(_TP53) & (case[_TP53_VAF.name] >= TP53_FRACTION)
    favourable_gene = (any_of(_NPM1) & ~any_of(_ITD)) | any_of(_BZIP)
    return np.select(
        [
            core_binding_factor,
            any_of(*_CYTOGENETIC) | (any_of(_KMT2A, _COMPLEX) & ~t9_11),
            tp53 & ~t9_11,
            favourable_gene,
            t9_11,
            any_of(*_GENES),
        ],
        [_FAVOURABLE, _ADVERSE, _ADVERSE, _FAVOURABLE, _INTERMEDIATE, _ADVERSE],
        default=_INTERMEDIATE,
    )


def _rule(score: Score, patients: Patients) -> Result:
    classes = at_ends(_class, *(patients.ends(each) for each in _INPUTS))
    return between(score, patients, classes, excluded=patients.value(_T15_17) == 1)


ELN_2022: Final = Score(
    name="eln-2022",
    title="European LeukemiaNet risk classification by genetics at initial diagnosis",
    version="2022",
    citation=(
        "Döhner H, Wei AH, Appelbaum FR, et al. Diagnosis and management of AML in adults: 2022 recommendations from "
        "an international expert panel on behalf of the ELN. Blood 2022;140(12):1345-1377, Table 6"
    ),
    doi="10.1182/blood.2022016867",
    diseases="acute myeloid leukaemia, except acute promyelocytic leukaemia",
    diagnoses=("91861009",),
    inputs=_INPUTS,
    categories=Categories(("favourable", "intermediate", "adverse"), (Cut(1), Cut(2))),
    table=(
        Row("favourable", "t(8;21); inv(16) or t(16;16)", "0"),
        Row("favourable", "NPM1 mutated without FLT3-ITD; CEBPA mutated in frame in the bZIP domain", "0"),
        Row("intermediate", "NPM1 mutated with FLT3-ITD; NPM1 wild type with FLT3-ITD; t(9;11)", "1"),
        Row("intermediate", "whatever is neither favourable nor adverse", "1"),
        Row("adverse", "t(6;9); KMT2A rearranged other than t(9;11); t(9;22); MECOM rearranged", "2"),
        Row("adverse", "-5 or del(5q); -7; -17 or loss in 17p; complex or monosomal karyotype", "2"),
        Row("adverse", f"any of {', '.join(symbol.upper() for symbol in ADVERSE_GENES)} mutated", "2"),
        Row("adverse", f"TP53 mutated, allele fraction ≥ {TP53_FRACTION:.0%}", "2"),
    ),
    rule=_rule,
    notes=(
        "t(8;21) and inv(16) are favourable whatever else is there.",
        "Adverse cytogenetics outrank NPM1 and CEBPA; t(9;11) outranks a complex karyotype and every adverse gene.",
        "TP53 outranks NPM1 and CEBPA; the other adverse genes do not.",
        "NPM1 with FLT3-ITD and an adverse gene is adverse.",
        "t(8;16) and hyperdiploid complex karyotypes without structural abnormality are not seen: no variable says so.",
    ),
)
