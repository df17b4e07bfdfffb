"""What holds for every score: inputs are the profile's, rules are monotone, gaps are bounded, tables are complete."""

import re
from pathlib import Path

import numpy as np
import pytest

from harmonize.profile import LabVariable, load
from models.errors import MisuseError
from models.prognostic import NOT_GIVEN, SCORES, Input, Patients, Score
from models.prognostic.inputs import Ends, Worse, finding
from models.prognostic.ipss_m import IPSS_M
from models.prognostic.ipss_r import IPSS_R
from models.prognostic.score import Categories, Cut, Steps, between
from tests.models.prognostic.people import NAN, drawn, people

N = 400
EACH = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
PROFILES = {
    "ipss": ("mds", "cmml"),
    "eln": ("aml",),
    "cpss": ("cmml",),
    "iss": ("mm",),
    "r": ("mm",),
    "r2": ("mm",),
}


def complete(score: Score, rng: np.random.Generator) -> Patients:
    """Without what stands in for other inputs: it could contradict them."""
    values = {each.name: drawn(each, N, rng) for each in score.inputs}
    optional = {each.name: np.full(N, NAN) for each in score.inputs if not each.required}
    return Patients(values | optional)


@EACH
def test_inputs_are_variables_of_the_shipped_profiles_in_their_units(score: Score) -> None:
    for name in PROFILES[score.name.split("-", maxsplit=1)[0]]:
        profile = load(name)
        variables = {variable.name: variable for variable in profile.scalars}
        for each in score.inputs:
            if not each.required and each.name not in variables:
                continue
            found = variables[each.name]
            assert not isinstance(found, LabVariable) or found.unit == each.unit
            assert each.codes is None or name == "mds" or dict(found.values) == dict(each.codes)  # type: ignore[union-attr]
        assert set(score.diagnoses) & set(profile.diagnosis.codes["snomed"])


@EACH
@pytest.mark.parametrize("seed", range(3))
def test_a_complete_patient_has_one_score(score: Score, seed: int) -> None:
    patients = complete(score, np.random.default_rng(seed))

    result = score.of(patients)

    meant = ~result.excluded
    assert np.array_equal(result.best.points[meant], result.points[meant])
    assert np.array_equal(result.worst.points[meant], result.points[meant])
    assert np.array_equal(result.category, score.categories.of(result.points))
    assert np.all(result.category[meant] != NOT_GIVEN)
    assert np.all(result.category[~meant] == NOT_GIVEN)
    assert np.all(np.isnan(result.points[~meant]))


@EACH
@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_gap_hides_lies_between_best_and_worst(score: Score, seed: int) -> None:
    rng = np.random.default_rng(seed)
    patients = complete(score, rng)
    rate = rng.random(N)[:, None] * 0.5
    gaps = rng.random((N, len(score.inputs))) < rate
    seen = {
        each.name: np.where(gap, NAN, patients.values[each.name])
        for each, gap in zip(score.inputs, gaps.T, strict=True)
    }

    partial, whole = score.of(Patients(seen)), score.of(patients)

    meant = ~partial.excluded & ~whole.excluded
    assert np.all(partial.best.points[meant] <= whole.points[meant] + 1e-9)
    assert np.all(whole.points[meant] <= partial.worst.points[meant] + 1e-9)
    if score is not IPSS_M:  # it gives the mean of a narrow range
        given = meant & ~np.isnan(partial.points)
        assert np.allclose(partial.points[given], whole.points[given])
        known = meant & (partial.category != NOT_GIVEN)
        assert np.array_equal(partial.category[known], whole.category[known])
    assert np.array_equal(partial.missing, np.isnan(np.stack(list(seen.values()), axis=1)))


@EACH
def test_no_input_lowers_the_risk_when_it_gets_worse(score: Score) -> None:
    rng = np.random.default_rng(11)
    patients = complete(score, rng)
    before = score.of(patients)
    # SF3B1 has a good and a bad kind in IPSS-M; these findings only tell the two apart.
    telling = {"mut_sf3b1", "cyto_del5q", "cyto_minus7", "cyto_del7q", "cyto_complex"}
    mixed = telling if score is IPSS_M else set()
    for each in score.inputs:
        if not each.required or each.name in mixed:
            continue
        other = drawn(each, N, rng)
        own = patients.values[each.name]
        worse = np.maximum(own, other) if each.worse is Worse.HIGHER else np.minimum(own, other)
        after = score.of(Patients({**patients.values, each.name: worse}))
        meant = ~before.excluded
        assert np.all(after.points[meant] >= before.points[meant] - 1e-9), each.name


@EACH
def test_every_category_is_reached_and_named(score: Score) -> None:
    rng = np.random.default_rng(2)
    seen: set[int] = set()
    for _ in range(40):
        values = {each.name: drawn(each, N, rng) for each in score.inputs}
        rare = {each.name: np.zeros(N) for each in score.inputs if each.name.startswith(("mut_", "cyto_"))}
        for chosen in rng.permutation(sorted(rare))[: rng.integers(0, 4)]:
            rare[chosen] = values[chosen]
        result = score.of(Patients(values | rare))
        seen |= set(result.category.tolist())

    assert seen - {NOT_GIVEN} == set(range(len(score.categories.labels)))
    assert result.label(np.array([NOT_GIVEN, 0], dtype=np.int8)) == ["", score.categories.labels[0]]


def test_what_is_known_becomes_two_ends() -> None:
    marker = Input("b", "mg/L", "marker", 0, 100)
    patients = Patients(
        {"b": np.array([3.5, NAN, 5.0, 5.0])},
        below={"b": np.array([False, False, True, False])},
        above={"b": np.array([False, False, False, True])},
    )

    best, worst = patients.ends(marker)

    assert best.tolist() == [3.5, 0, 0, np.nextafter(5, 6)]
    assert worst.tolist() == [3.5, 100, np.nextafter(5, 4), 100]
    protective = patients.ends(Input("b", "mg/L", "marker", 0, 100, Worse.LOWER))
    assert protective.best.tolist() == worst.tolist()
    assert protective.worst.tolist() == best.tolist()
    assert patients.known(marker).tolist() == [True, False, True, True]


def test_a_limit_of_detection_is_not_the_number() -> None:
    values = {**people(IPSS_R, cyto_ipssr_class=1, bm_blast=1, hb=12, plt=50, anc=2).values}

    exact = IPSS_R.of(Patients(values))
    below = IPSS_R.of(Patients(values, below={"plt": np.array([True])}))
    above = IPSS_R.of(Patients(values, above={"plt": np.array([True])}))

    assert exact.points.tolist() == [1.5]
    assert below.points.tolist() == [2.0]
    assert np.isnan(above.points[0])  # 0, 0.5 or more platelets than 100
    assert (above.best.points[0], above.worst.points[0]) == (1.0, 1.5)
    assert above.label(above.category) == ["very low"]


@pytest.mark.parametrize(
    "values",
    [{"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.zeros((2, 2))}, {"a": np.array([np.inf])}, {}],
    ids=["lengths", "table", "infinite", "nothing"],
)
def test_values_that_are_no_patients_are_refused(values: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    with pytest.raises(MisuseError):
        Patients(values)


def test_a_required_input_that_nobody_handed_over_is_named() -> None:
    values = dict(people(IPSS_R, cyto_ipssr_class=1, bm_blast=1, hb=12, plt=50, anc=2).values)
    del values["anc"]

    with pytest.raises(MisuseError, match="anc"):
        IPSS_R.of(Patients(values))
    assert np.isnan(Patients(values).value(finding("anc", "", required=False))).all()


def test_a_rule_that_is_not_monotone_is_found_out() -> None:
    patients = people(IPSS_R, cyto_ipssr_class=1, bm_blast=1, hb=12, plt=50, anc=2)

    with pytest.raises(MisuseError, match="monotone"):
        between(IPSS_R, patients, Ends(np.array([2.0]), np.array([1.0])))


def test_a_cut_belongs_above_or_below() -> None:
    marker = Input("b", "mg/L", "marker", 0, 100)
    steps = Steps(marker, (Cut(2, above=False), Cut(5)), (0, 1, 2))

    assert steps.of(np.array([2, 2.1, 4.9, 5])).tolist() == [0, 1, 1, 2]
    assert [row.value for row in steps.rows()] == ["≤ 2", "> 2, < 5", "≥ 5"]
    groups = Categories(("a", "b"), (Cut(1.5, above=False),))
    assert groups.of(np.array([1.5, 1.6, NAN])).tolist() == [0, 1, NOT_GIVEN]


@EACH
def test_the_reference_page_holds_the_table_that_is_computed(score: Score) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "scores.md").read_text(encoding="utf-8") + "\n## "
    start = page.index(f"## `{score.name}`")
    section = page[start : page.index("\n## ", start + 1)]

    assert score.doi in section
    for row in score.table:
        assert f"| {row.variable} | {row.value} | {row.points} |" in section
    named = set(re.findall(r"`([a-z0-9_]+)`", section))
    assert {each.name for each in score.inputs} <= named
    for note in score.notes:
        assert f"- {note}" in section
