import numpy as np
import pytest

from models.prognostic.iss import ISS, R2_ISS, R_ISS
from tests.models.prognostic.people import NAN, people

LOW = {"b2m": 2.0, "albumin": 40.0, "ldh_ratio": 0.8}


@pytest.mark.parametrize(
    ("b2m", "albumin", "stage"),
    [
        (3.49, 35.0, "I"), (3.49, 34.9, "II"), (3.5, 35.0, "II"), (3.5, 20.0, "II"), (5.49, 40.0, "II"),
        (5.5, 40.0, "III"), (5.5, 20.0, "III"), (NAN, 20.0, ""), (NAN, 40.0, ""), (2.0, NAN, ""),
        (4.0, NAN, "II"), (6.0, NAN, "III"), (NAN, NAN, ""),
    ],
)  # fmt: skip
def test_iss(b2m: float, albumin: float, stage: str) -> None:
    result = ISS.of(people(ISS, b2m=b2m, albumin=albumin))

    assert result.label(result.category) == [stage]
    assert result.points.tolist() == [len(stage)] or not stage


@pytest.mark.parametrize(
    ("b2m", "albumin", "recorded", "stage"),
    [
        (NAN, NAN, 2.0, "II"),
        (2.0, NAN, 1.0, "I"),
        (NAN, NAN, 3.0, "III"),
        (2.0, NAN, 3.0, ""),  # contradicts: below 3.5 it cannot be III
        (6.0, 40.0, 1.0, "III"),  # values outrank the record
    ],
)
def test_a_recorded_stage_fills_gaps_only(b2m: float, albumin: float, recorded: float, stage: str) -> None:
    result = ISS.of(people(ISS, b2m=b2m, albumin=albumin, iss=recorded))

    assert result.label(result.category) == [stage]


HIGH = [{"cyto_del17p": 1.0}, {"cyto_t4_14": 1.0}, {"cyto_t14_16": 1.0}, {"ldh_ratio": 1.01}]


@pytest.mark.parametrize("finding", HIGH, ids=[next(iter(each)) for each in HIGH])
def test_r_iss_at_each_finding(finding: dict[str, float]) -> None:
    def stage(**values: float) -> list[str]:
        result = R_ISS.of(people(R_ISS, **(LOW | values)))
        assert result.points.tolist() == [result.category[0] + 1]
        return result.label(result.category)

    assert stage() == stage(ldh_ratio=1.0) == ["I"]
    assert stage(**finding) == ["II"]
    assert stage(b2m=4.0) == stage(b2m=4.0, **finding) == ["II"]
    assert stage(b2m=6.0) == ["II"]
    assert stage(b2m=6.0, **finding) == ["III"]


def test_r_iss_without_fish_is_known_where_it_does_not_matter() -> None:
    unknown = {"cyto_del17p": NAN, "cyto_t4_14": NAN, "cyto_t14_16": NAN}
    patients = people(R_ISS, b2m=[4.0, 2.0, 6.0, 6.0], albumin=40.0, ldh_ratio=[0.8, 0.8, 0.8, 2.0], **unknown)

    result = R_ISS.of(patients)

    assert result.label(result.category) == ["II", "", "", "III"]
    recorded = R_ISS.of(people(R_ISS, **(LOW | unknown), riss=1.0))
    assert recorded.label(recorded.category) == ["I"]


@pytest.mark.parametrize(
    ("values", "points", "group"),
    [
        ({}, 0, "I low"),
        ({"ldh_ratio": 1.0}, 0, "I low"),
        ({"ldh_ratio": 1.01}, 1, "II low-intermediate"),
        ({"cyto_gain1q": 1.0}, 0.5, "II low-intermediate"),
        ({"b2m": 4.0}, 1, "II low-intermediate"),
        ({"cyto_t4_14": 1.0}, 1, "II low-intermediate"),
        ({"b2m": 6.0}, 1.5, "III intermediate-high"),
        ({"cyto_del17p": 1.0, "cyto_gain1q": 1.0}, 1.5, "III intermediate-high"),
        ({"ldh_ratio": 1.2, "b2m": 6.0}, 2.5, "III intermediate-high"),
        ({"ldh_ratio": 1.2, "b2m": 6.0, "cyto_gain1q": 1.0}, 3, "IV high"),
        ({"ldh_ratio": 1.2, "b2m": 6.0, "cyto_gain1q": 1.0, "cyto_t4_14": 1.0, "cyto_del17p": 1.0}, 5, "IV high"),
    ],
)
def test_r2_iss(values: dict[str, float], points: float, group: str) -> None:
    result = R2_ISS.of(people(R2_ISS, **(LOW | values)))

    assert result.points.tolist() == [points]
    assert result.label(result.category) == [group]


def test_r2_iss_with_a_gap_is_bounded() -> None:
    result = R2_ISS.of(people(R2_ISS, **(LOW | {"cyto_gain1q": NAN})))

    assert np.isnan(result.points[0])
    assert (result.best.points[0], result.worst.points[0]) == (0, 0.5)
    assert result.mean is None
