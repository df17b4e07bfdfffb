from typing import Any

import numpy as np
import pytest

from models.prognostic import Patients
from models.prognostic.ipss_m import IPSS_M, RESIDUAL_GENES
from models.prognostic.ipss_r import IPSS_R
from tests.models.prognostic.people import NAN, cohort_folder, people

AVERAGE = {"hb": 9.87, "plt": 141.0, "bm_blast": 4.61, "cyto_ipssr_class": 1.0}
# The average of every variable has 0 points: what "no mutation, class 1" differs by, times ln 2.
WILD = (
    -0.287 * 0.39
    - sum(
        beta * mean
        for beta, mean in [
            (1.18, 0.071), (0.798, 0.0108), (0.798, 0.0247), (0.504, 0.0166), (0.43, 0.0112), (0.423, 0.126),
            (0.417, 0.0362), (0.391, 0.0216), (0.379, 0.0429), (0.295, 0.0473), (0.27, 0.0588), (0.247, 0.0866),
            (0.239, 0.158), (0.221, 0.161), (0.213, 0.252), (0.202, 0.0271), (-0.0794, 0.186), (0.231, 0.388),
        ]
    )
) / np.log(2)  # fmt: skip
# One mutation alone, from Bernard 2022 (package `ipssm`).
BETAS = {
    "mut_tp53_multihit": 1.18, "mut_flt3_itd": 0.798, "mut_flt3_tkd": 0.798, "mut_kmt2a_ptd": 0.798, "mut_npm1": 0.43,
    "mut_runx1": 0.423, "mut_nras": 0.417, "mut_etv6": 0.391, "mut_idh2": 0.379, "mut_cbl": 0.295, "mut_ezh2": 0.27,
    "mut_u2af1": 0.247, "mut_srsf2": 0.239, "mut_dnmt3a": 0.221, "mut_asxl1": 0.213, "mut_kras": 0.202,
    "mut_sf3b1": -0.0794, **{f"mut_{gene}": 0.231 for gene in RESIDUAL_GENES},
}  # fmt: skip


def points(**values: float) -> float:
    return float(IPSS_M.of(people(IPSS_M, **(AVERAGE | values))).points[0])


def three(**values: float) -> tuple[float, float, float]:
    result = IPSS_M.of(people(IPSS_M, **(AVERAGE | values)))
    assert result.mean is not None
    return float(result.best.points[0]), float(result.mean.points[0]), float(result.worst.points[0])


def test_nobody_mutated() -> None:
    assert points() == pytest.approx(WILD, abs=0.005)


@pytest.mark.parametrize("name", BETAS)
def test_each_coefficient(name: str) -> None:
    assert points(**{name: 1.0}) == pytest.approx(WILD + BETAS[name] / np.log(2), abs=0.0051)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"hb": 10.87}, -0.171),
        ({"hb": 3.0}, -0.171 * (3 - 9.87)),
        ({"hb": 1.0}, -0.171 * (2 - 9.87)),  # held at 2
        ({"hb": 25.0}, -0.171 * (20 - 9.87)),  # held at 20
        ({"plt": 241.0}, -0.222),
        ({"plt": 250.0}, -0.222 * 1.09),
        ({"plt": 900.0}, -0.222 * 1.09),  # held at 250
        ({"bm_blast": 9.61}, 0.352),
        ({"bm_blast": 30.0}, 0.352 * (4 - 0.922)),  # held at 20
        *[({"cyto_ipssr_class": float(k)}, 0.287 * (k - 1)) for k in range(5)],
        ({"mut_flt3_itd": 1.0, "mut_flt3_tkd": 1.0}, 0.798),  # one term
        ({"mut_bcor": 1.0, "mut_wt1": 1.0}, 0.462),
        ({"mut_bcor": 1.0, "mut_wt1": 1.0, "mut_nf1": 1.0}, 0.462),  # held at two
        ({"mut_sf3b1": 1.0, "cyto_del5q": 1.0}, 0.504),
        ({"mut_sf3b1": 1.0, "cyto_del5q": 1.0, "cyto_minus7": 1.0}, -0.0794),
        ({"mut_sf3b1": 1.0, "cyto_del5q": 1.0, "cyto_del7q": 1.0}, -0.0794),
        ({"mut_sf3b1": 1.0, "cyto_del5q": 1.0, "cyto_complex": 1.0}, -0.0794),
        *[({"mut_sf3b1": 1.0, f"mut_{gene}": 1.0}, BETAS[f"mut_{gene}"])
          for gene in ("srsf2", "stag2", "bcor", "bcorl1", "runx1", "nras")],
    ],
)  # fmt: skip
def test_each_transformation(values: dict[str, float], expected: float) -> None:
    assert points(**values) == pytest.approx(WILD + expected / np.log(2), abs=0.0051)


@pytest.mark.parametrize(
    ("points_", "category"),
    [
        (-1.51, 0),
        (-1.5, 0),
        (-1.49, 1),
        (-0.5, 1),
        (-0.49, 2),
        (0, 2),
        (0.01, 3),
        (0.5, 3),
        (0.51, 4),
        (1.5, 4),
        (1.51, 5),
    ],
)
def test_categories_at_their_cuts(points_: float, category: int) -> None:
    assert IPSS_M.categories.of(np.array([points_])).tolist() == [category]


def test_the_packages_own_vectors() -> None:
    from csv import DictReader

    folder = cohort_folder().parent / "fhir" / "ipssm"
    with (folder / "IPSSMexample.csv").open(encoding="utf-8-sig") as file:
        rows = {row["ID"]: row for row in DictReader(file)}
    expected = {"pp347": (0.30, 0.31, 0.63), "pp564": (4.55, 4.55, 4.55)}
    labels = {"pp347": "moderate high", "pp564": "very high"}

    for patient, (best, mean, worst) in expected.items():
        result = IPSS_M.of(people(IPSS_M, **_of_example(rows[patient])))
        assert result.mean is not None
        found = (result.best.points[0], result.mean.points[0], result.worst.points[0], result.points[0])
        assert found == pytest.approx((best, mean, worst, mean), abs=1e-9)
        assert result.label(result.category) == [labels[patient]]


def _of_example(row: dict[str, str]) -> dict[str, float]:
    number = {name: NAN if text == "NA" else float(text) for name, text in row.items() if _is_number(text)}
    classes = ["Very Good", "Good", "Intermediate", "Poor", "Very Poor"]
    lost = number["TP53loh"] == 1 or number["TP53maxvaf"] > 0.55 or number["del17_17p"] == 1
    values = {
        "hb": number["HB"], "plt": number["PLT"], "bm_blast": number["BM_BLAST"],
        "cyto_ipssr_class": float(classes.index(row["CYTO_IPSSR"])), "cyto_del5q": number["del5q"],
        "cyto_minus7": number["del7_7q"], "cyto_del7q": number["del7_7q"], "cyto_complex": number["complex"],
        "mut_tp53_multihit": float(row["TP53mut"] == "2 or more" or (row["TP53mut"] == "1" and lost)),
        "mut_flt3_itd": number["FLT3"], "mut_flt3_tkd": number["FLT3"], "mut_kmt2a_ptd": number["MLL_PTD"],
    }  # fmt: skip
    names = {each.name for each in IPSS_M.inputs if each.required} - values.keys()
    return values | {name: number[name.removeprefix("mut_").upper()] for name in names}


def _is_number(text: str) -> bool:
    return text == "NA" or text.replace(".", "").replace("-", "").isdigit()


def test_an_untested_gene_is_imputed_in_three_ways() -> None:
    best, mean, worst = three(mut_runx1=NAN)

    assert best == pytest.approx(WILD, abs=0.005)
    assert mean == pytest.approx(WILD + 0.423 * 0.126 / np.log(2), abs=0.005)
    assert worst == pytest.approx(WILD + 0.423 / np.log(2), abs=0.005)


@pytest.mark.parametrize(
    ("mutated", "untested", "numbers"),
    [
        (0, 15, (0, 0.388, 2)),  # nothing known: the average
        (1, 2, (1, 1 + 0.5 * 2 / 15 * 0.388, 2)),
        (2, 2, (2, 2, 2)),
        (0, 1, (0, 0.388 / 15, 1)),
    ],
)
def test_untested_residual_genes(mutated: int, untested: int, numbers: tuple[float, float, float]) -> None:
    genes = dict.fromkeys(RESIDUAL_GENES, 0.0)
    for gene in RESIDUAL_GENES[:mutated]:
        genes[gene] = 1.0
    for gene in RESIDUAL_GENES[len(RESIDUAL_GENES) - untested :]:
        genes[gene] = NAN
    found = three(**{f"mut_{gene}": value for gene, value in genes.items()})

    assert found == pytest.approx([WILD + 0.231 * each / np.log(2) for each in numbers], abs=0.0051)


@pytest.mark.parametrize(
    ("values", "certain"),
    [
        ({"mut_sf3b1": NAN, "cyto_del5q": 0.0, "mut_runx1": 1.0}, True),  # neither term is possible
        ({"mut_sf3b1": 1.0, "mut_srsf2": 1.0, "mut_stag2": NAN, "mut_bcor": 1.0, "mut_wt1": 1.0}, True),
        ({"mut_sf3b1": NAN}, False),
        ({"mut_flt3_itd": 1.0, "mut_flt3_tkd": NAN}, True),
        ({"mut_flt3_itd": 0.0, "mut_flt3_tkd": NAN}, False),
        ({"mut_flt3_itd": NAN, "mut_flt3_tkd": NAN, "mut_flt3": 0.0}, True),
        ({"mut_tp53_multihit": NAN, "mut_tp53": 0.0}, True),
        ({"mut_tp53_multihit": NAN, "mut_tp53": 1.0}, False),
    ],
)
def test_what_is_certain_in_spite_of_a_gap(values: dict[str, float], certain: bool) -> None:
    best, mean, worst = three(**values)

    assert (best == mean == worst) is certain


def test_the_score_is_given_where_the_range_is_narrow_and_the_category_where_it_is_stable() -> None:
    narrow = IPSS_M.of(people(IPSS_M, **AVERAGE, mut_runx1=NAN))
    just = IPSS_M.of(people(IPSS_M, **AVERAGE, mut_npm1=NAN, mut_bcor=NAN))  # 0.95
    over = IPSS_M.of(people(IPSS_M, **AVERAGE, mut_kmt2a_ptd=NAN))  # 1.15
    wide = IPSS_M.of(people(IPSS_M, **AVERAGE, mut_tp53_multihit=NAN))
    stable = IPSS_M.of(people(IPSS_M, hb=5.0, plt=10.0, bm_blast=19.0, cyto_ipssr_class=4.0, mut_tp53_multihit=NAN))

    assert narrow.mean is not None
    assert narrow.points[0] == narrow.mean.points[0]
    assert not np.isnan(just.points[0])
    assert np.isnan(over.points[0])
    assert np.isnan(wide.points[0])
    assert wide.label(wide.category) == [""]
    assert np.isnan(stable.points[0])
    assert stable.label(stable.category) == ["very high"]


def _published() -> Any:
    import pandas as pd

    rows = pd.read_csv(cohort_folder() / "ipssm_published_scores.csv")
    classes = ["Very Good", "Good", "Intermediate", "Poor", "Very Poor"]
    lost = (rows["TP53maxvaf"] > 0.55) | (rows["del17_17p"] == 1) | (rows["TP53loh"] == 1)
    mutated = rows["TP53mut"].astype(str)
    values = {
        "hb": rows["HB"], "plt": rows["PLT"], "bm_blast": rows["BM_BLAST"],
        "cyto_ipssr_class": rows["CYTO_IPSSR"].map(classes.index), "cyto_del5q": rows["del5q"],
        "cyto_minus7": rows["del7_7q"], "cyto_del7q": rows["del7_7q"], "cyto_complex": rows["complex"],
        "mut_tp53_multihit": (mutated == "2 or more") | ((mutated == "1") & lost),
        "mut_flt3_itd": rows["FLT3"], "mut_flt3_tkd": rows["FLT3"], "mut_kmt2a_ptd": rows["MLL_PTD"],
    }  # fmt: skip
    names = {each.name for each in IPSS_M.inputs if each.required} - values.keys()
    values |= {name: rows[name.removeprefix("mut_").upper()] for name in names}
    return rows, people(IPSS_M, **{name: column.astype(float).tolist() for name, column in values.items()})


def test_the_published_cohort_row_by_row() -> None:
    rows, patients = _published()

    result = IPSS_M.of(patients)

    assert len(rows) == 2648
    assert result.label(result.category) == [each.lower() for each in rows["IPSSM"]]
    assert (rows["HB"] < 4).sum() == 3  # whom the package would hold at 4
    assert np.abs(result.points - rows["IPSSM_SCORE"].to_numpy()).max() < 1e-9


def test_a_published_patient_with_gaps_stays_between_his_scenarios() -> None:
    rows, patients = _published()
    rng = np.random.default_rng(0)
    genes = [each.name for each in IPSS_M.inputs if each.name.startswith("mut_") and each.required]
    complete = dict(patients.values)
    gaps = {name: np.where(rng.random(len(rows)) < 0.1, NAN, complete[name]) for name in genes}

    result = IPSS_M.of(Patients(complete | gaps))
    whole = IPSS_M.of(patients)

    assert result.mean is not None
    assert np.all(result.best.points <= whole.points)
    assert np.all(whole.points <= result.worst.points)
    assert np.all((result.best.points <= result.mean.points) & (result.mean.points <= result.worst.points))


def test_the_class_of_ipss_r_is_the_same_input() -> None:
    assert {each.name for each in IPSS_R.inputs} & {each.name for each in IPSS_M.inputs} == {
        "cyto_ipssr_class", "bm_blast", "hb", "plt",
    }  # fmt: skip
