import numpy as np
import pytest

from models.prognostic import Score
from models.prognostic.cpss import CPSS, CPSS_HB, CPSS_MOL, CPSS_MOL_HB
from tests.models.prognostic.people import NAN, cohort_folder, people

BEST = {"bm_blast": 2.0, "wbc": 8.0, "cyto_normal": 1.0, "cyto_abnormalities": 0.0}
PLAIN = BEST | {"pb_blast": 0.0, "transfusion_dependent": 0.0}
MOL = BEST | {"transfusion_dependent": 0.0}
ABNORMAL = {"cyto_normal": 0.0, "cyto_abnormalities": 1.0}
CYTOGENETICS = [
    (BEST, 0),
    (ABNORMAL, 1),
    (ABNORMAL | {"cyto_minus_y": 1.0}, 0),
    ({"cyto_normal": 0.0, "cyto_abnormalities": 2.0, "cyto_minus_y": 1.0}, 1),
    *[(ABNORMAL | {f"cyto_{name}": 1.0}, 2) for name in ("plus8", "minus7", "del7q", "complex")],
    ({"cyto_normal": NAN, "cyto_abnormalities": 0.0}, 0),
    ({"cyto_normal": 1.0, "cyto_abnormalities": NAN}, 0),
]


def points(score: Score, base: dict[str, float], **values: float) -> float:
    return float(score.of(people(score, **(base | values))).points[0])


@pytest.mark.parametrize(("values", "expected"), CYTOGENETICS)
def test_cytogenetic_classes(values: dict[str, float], expected: float) -> None:
    assert points(CPSS, PLAIN, **values) == expected
    assert points(CPSS_MOL, MOL, **values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 0),
        ({"bm_blast": 9.9}, 0), ({"bm_blast": 10.0}, 1), ({"pb_blast": 4.9}, 0), ({"pb_blast": 5.0}, 1),
        ({"who2016": 2.0}, 1), ({"who2016": 1.0, "bm_blast": 12.0}, 0), ({"who2016": 0.0}, 0),
        ({"wbc": 12.9}, 0), ({"wbc": 13.0}, 1),
        ({"transfusion_dependent": 1.0}, 1),
        ({"bm_blast": 15.0, "wbc": 20.0, "transfusion_dependent": 1.0, "cyto_plus8": 1.0}, 5),
    ],
)  # fmt: skip
def test_cpss_at_every_cut(values: dict[str, float], expected: float) -> None:
    assert points(CPSS, PLAIN, **values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 0),
        ({"mut_asxl1": 1.0}, 1), ({"mut_nras": 1.0}, 1), ({"mut_setbp1": 1.0}, 1), ({"mut_runx1": 1.0}, 2),
        ({"mut_runx1": 1.0, "mut_asxl1": 1.0}, 3),
        ({"mut_runx1": 1.0, "mut_asxl1": 1.0, "mut_nras": 1.0, "cyto_plus8": 1.0}, 3),  # at most three
        ({"bm_blast": 4.9}, 0), ({"bm_blast": 5.0}, 1), ({"wbc": 13.0}, 1), ({"transfusion_dependent": 1.0}, 1),
        ({"mut_runx1": 1.0, "mut_nras": 1.0, "bm_blast": 8.0, "wbc": 30.0, "transfusion_dependent": 1.0}, 6),
    ],
)  # fmt: skip
def test_cpss_mol_at_every_cut(values: dict[str, float], expected: float) -> None:
    assert points(CPSS_MOL, MOL, **values) == expected


def test_groups_at_their_cuts() -> None:
    assert CPSS.categories.of(np.array([0, 1, 2, 3, 4, 5], float)).tolist() == [0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("score", [CPSS_HB, CPSS_MOL_HB], ids=lambda score: score.name)
def test_haemoglobin_in_place_of_transfusion(score: Score) -> None:
    base = {name: value for name, value in PLAIN.items() if name in {each.name for each in score.inputs}}

    assert points(score, base, hb=10.0) == 0
    assert points(score, base, hb=9.9) == 1
    assert points(score, base, hb=12.0, bm_blast=6.0) == (1 if score is CPSS_MOL_HB else 0)


def test_untested_genes_leave_the_score_open_unless_the_group_is_full() -> None:
    open_ = CPSS_MOL.of(people(CPSS_MOL, **(MOL | {"mut_asxl1": NAN})))
    full = CPSS_MOL.of(people(CPSS_MOL, **(MOL | {"mut_asxl1": NAN, "mut_runx1": 1.0, "mut_nras": 1.0})))

    assert (open_.best.points[0], open_.worst.points[0]) == (0, 1)
    assert open_.label(open_.category) == [""]
    assert full.points.tolist() == [3]


def test_groups_of_the_published_cohort_order_survival() -> None:
    import pandas as pd

    rows = pd.read_parquet(cohort_folder() / "patients.parquet")
    rows = rows[rows["disease"] == "CMML"]
    rows = rows[rows["karyotype_text"].notna() & rows["cyto_ipssr"].notna()]
    lost = [
        name for name in rows if name.startswith("cyto_") and name not in ("cyto_ipssr", "cyto_complex", "cyto_chr17")
    ]
    number = rows[lost].fillna(0).sum(axis=1)
    findings = {"plus8": "plus8", "minus7": "del7", "del7q": "del7q", "complex": "complex", "minus_y": "delY"}
    values = {f"cyto_{ours}": rows[f"cyto_{theirs}"].tolist() for ours, theirs in findings.items()}
    values |= {f"mut_{gene.lower()}": rows[f"mut_{gene}"].tolist() for gene in ("ASXL1", "NRAS", "SETBP1", "RUNX1")}
    values |= {"cyto_abnormalities": number.tolist(), "cyto_normal": (number == 0).astype(float).tolist()}
    values |= {"bm_blast": rows["clin_bm_blast"].tolist(), "wbc": rows["clin_wbc"].tolist()}

    result = CPSS_MOL_HB.of(people(CPSS_MOL_HB, **values, hb=rows["clin_hb"].tolist()))

    sizes = np.bincount(result.category[result.category >= 0], minlength=4)
    deaths = [float(rows["out_os_event"][result.category == group].mean()) for group in range(4)]
    assert sizes.min() >= 40
    assert sizes.sum() > 200
    assert deaths == sorted(deaths)
