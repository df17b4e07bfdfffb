import numpy as np
import pytest

from models.prognostic.ipss_r import IPSS_R, IPSS_RA
from tests.models.prognostic.people import NAN, cohort_folder, people

# Greenberg 2012, Table 3, at every cut: a value on each side of it and the cut itself.
BEST = {"cyto_ipssr_class": 0.0, "bm_blast": 0.0, "hb": 15.0, "plt": 300.0, "anc": 4.0}
CUTS = [
    *[("cyto_ipssr_class", float(k), float(k)) for k in range(5)],
    ("bm_blast", 0, 0), ("bm_blast", 2, 0), ("bm_blast", 2.01, 1), ("bm_blast", 4.99, 1), ("bm_blast", 5, 2),
    ("bm_blast", 10, 2), ("bm_blast", 10.01, 3), ("bm_blast", 19, 3),
    ("hb", 10, 0), ("hb", 9.99, 1), ("hb", 8, 1), ("hb", 7.99, 1.5),
    ("plt", 100, 0), ("plt", 99.9, 0.5), ("plt", 50, 0.5), ("plt", 49.9, 1),
    ("anc", 0.8, 0), ("anc", 0.79, 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "points"), CUTS)
def test_every_cut_of_the_table(name: str, value: float, points: float) -> None:
    assert IPSS_R.of(people(IPSS_R, **(BEST | {name: value}))).points.tolist() == [points]


@pytest.mark.parametrize(
    ("points", "category"),
    [
        (1.5, 0),
        (2.0, 1),
        (3.0, 1),
        (3.5, 2),
        (4.5, 2),
        (5.0, 3),
        (6.0, 3),
        (6.5, 4),
        (10, 4),
        (0, 0),
        (1.51, 1),
        (3.01, 2),
        (4.51, 3),
        (6.01, 4),
    ],
)
def test_categories_at_their_cuts(points: float, category: int) -> None:
    assert IPSS_R.categories.of(np.array([points])).tolist() == [category]


def test_the_whole_range() -> None:
    worst = {"cyto_ipssr_class": 4.0, "bm_blast": 15.0, "hb": 7.0, "plt": 20.0, "anc": 0.1}

    assert IPSS_R.of(people(IPSS_R, **BEST)).points.tolist() == [0]
    assert IPSS_R.of(people(IPSS_R, **worst)).points.tolist() == [10]


def test_a_missing_count_leaves_points_open_and_may_leave_the_category() -> None:
    low = people(IPSS_R, **(BEST | {"anc": NAN}))
    edge = people(IPSS_R, **(BEST | {"hb": 7.0, "anc": NAN}))

    certain, open_ = IPSS_R.of(low), IPSS_R.of(edge)

    assert np.isnan(certain.points[0])
    assert certain.label(certain.category) == ["very low"]
    assert (open_.best.points[0], open_.worst.points[0]) == (1.5, 2.0)
    assert open_.label(open_.category) == [""]
    assert [name for name, gap in zip(open_.inputs, open_.missing[0], strict=True) if gap] == ["anc"]


@pytest.mark.parametrize(
    ("age", "points"),
    # 3 + (age - 70) · (0.05 - 0.005 · 3), by hand
    [(70, 3.0), (80, 3.35), (60, 2.65), (40, 1.95)],
)
def test_age_moves_the_points_by_the_published_formula(age: float, points: float) -> None:
    patients = people(IPSS_RA, **(BEST | {"cyto_ipssr_class": 3.0, "age": age}))

    assert IPSS_RA.of(patients).points == pytest.approx([points], abs=1e-12)


def test_an_unknown_age_is_between_birth_and_120_years() -> None:
    result = IPSS_RA.of(people(IPSS_RA, **BEST, age=NAN))

    assert result.best.points == pytest.approx([-70 * 0.05])
    assert result.worst.points == pytest.approx([50 * 0.05])


def test_nothing_known_is_anything() -> None:
    result = IPSS_R.of(people(IPSS_R, **dict.fromkeys(BEST, NAN)))

    assert (result.best.points[0], result.worst.points[0]) == (0, 10)


def test_ten_points_know_no_age() -> None:
    worst = {"cyto_ipssr_class": 4.0, "bm_blast": 15.0, "hb": 7.0, "plt": 20.0, "anc": 0.1}

    assert IPSS_RA.of(people(IPSS_RA, **worst, age=[30.0, 95.0])).points.tolist() == [10, 10]


def test_both_scores_of_the_published_cohort() -> None:
    import pandas as pd

    rows = pd.read_csv(cohort_folder() / "ipssm_published_scores.csv")
    classes = ["Very Good", "Good", "Intermediate", "Poor", "Very Poor"]
    columns = {"bm_blast": "BM_BLAST", "hb": "HB", "plt": "PLT", "anc": "ANC"}
    values = {name: rows[column].tolist() for name, column in columns.items()}
    values["cyto_ipssr_class"] = [float(classes.index(each)) for each in rows["CYTO_IPSSR"]]

    plain = IPSS_R.of(people(IPSS_R, **values))
    aged = IPSS_RA.of(people(IPSS_RA, **values, age=rows["AGE"].tolist()))

    assert len(rows) == 2648
    assert np.array_equal(plain.points, rows["IPSSR_SCORE"])
    assert np.abs(aged.points - rows["IPSSRA_SCORE"]).max() < 1e-9
    for result, column in ((plain, "IPSSR"), (aged, "IPSSRA")):
        published = [each.lower() for each in rows[column].replace("Int", "Intermediate")]
        assert result.label(result.category) == published


def test_the_points_of_every_patient_with_a_published_score() -> None:
    import pandas as pd

    rows = pd.read_parquet(cohort_folder() / "patients.parquet")
    rows = rows[rows["score_ipssr"].notna()]
    columns = {"bm_blast": "clin_bm_blast", "hb": "clin_hb", "plt": "clin_plt", "anc": "clin_anc"}
    values = {name: rows[column].tolist() for name, column in columns.items()}

    result = IPSS_R.of(people(IPSS_R, **values, cyto_ipssr_class=rows["cyto_ipssr"].tolist()))

    assert len(rows) == 2649
    assert np.array_equal(result.points, rows["score_ipssr"])
