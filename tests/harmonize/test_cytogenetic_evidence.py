"""What a karyotype is evidence of, and what it is not."""

from typing import Any

import pytest

from harmonize import profile as profiles
from harmonize.events import Fact, State
from tests.harmonize.facts import cell, codes, fact, made

MM = profiles.load("mm")
MDS = profiles.load("mds")


@pytest.mark.parametrize(
    ("sex", "expected"),
    [
        ("male", {"cyto_minus_y": (1.0, State.VALUE)}),
        ("female", {"cyto_minus_y": (0.0, State.TESTED_NEGATIVE)}),
        (None, {"cyto_minus_y": (None, State.UNKNOWN)}),
    ],
)
def test_sex_tells_what_a_bare_45_x_has_lost(sex: str | None, expected: dict[str, Any]) -> None:
    stated = [] if sex is None else [fact("sex", sex)]
    table, _ = made(fact(Fact.KARYOTYPE, "45,X[20]"), *stated, profile=MDS)
    assert {name: cell(table, name) for name in expected} == expected
    assert cell(table, "cyto_ipssr_class")[0] == {"male": 0, "female": 2, None: None}[sex]


@pytest.mark.parametrize("name", ["t11_14", "t4_14", "del17p", "del13q", "gain1q", "del1p", "hyperdiploid"])
def test_in_myeloma_a_normal_karyotype_is_no_evidence_of_absence(name: str) -> None:
    table, _ = made(fact(Fact.KARYOTYPE, "46,XX[20]"), profile=MM)
    assert cell(table, f"cyto_{name}") == (None, State.NOT_TESTED)
    assert cell(table, "cyto_normal") == (1.0, State.VALUE)


def test_in_myeloma_a_clone_is() -> None:
    table, _ = made(fact(Fact.KARYOTYPE, "46,XX,t(11;14)(q13;q32)[5]/46,XX[15]"), profile=MM)
    assert cell(table, "cyto_t11_14") == (1.0, State.VALUE)
    assert cell(table, "cyto_del17p") == (0.0, State.TESTED_NEGATIVE)


def test_in_myeloma_fish_beside_a_normal_karyotype_counts() -> None:
    table, _ = made(fact(Fact.KARYOTYPE, "46,XX[20]"), fact("cyto_del17p", False), profile=MM)
    assert cell(table, "cyto_del17p") == (0.0, State.TESTED_NEGATIVE)


def test_an_incomplete_karyotype_takes_nothing_from_a_complete_one_of_its_day() -> None:
    table, assembled = made(
        fact(Fact.KARYOTYPE, "complex"),
        fact(Fact.KARYOTYPE, "45,XX,del(5)(q13q33),-7,+8,-18[9]", line=3),
        profile=MDS,
    )
    assert cell(table, "cyto_del5q") == (1.0, State.VALUE)
    assert cell(table, "cyto_ipssr_class") == (4.0, State.VALUE)
    assert cell(table, "cyto_del20q") == (0.0, State.TESTED_NEGATIVE)
    assert not {code for code, _ in codes(assembled)} & {"conflicting-values"}


@pytest.mark.parametrize(
    ("text", "normal", "plus8"),
    [
        ("46,XY[2]", (None, State.UNKNOWN), (None, State.UNKNOWN)),  # too few to exclude anything
        ("46,XY[10]", (1.0, State.VALUE), (0.0, State.TESTED_NEGATIVE)),
        ("47,XY,+8[3]/46,XY[2]", (0.0, State.TESTED_NEGATIVE), (1.0, State.VALUE)),
    ],
)
def test_a_few_normal_metaphases_are_no_evidence_of_absence(text: str, normal: object, plus8: object) -> None:
    table, _ = made(fact(Fact.KARYOTYPE, text), profile=MDS)
    assert (cell(table, "cyto_normal"), cell(table, "cyto_plus8")) == (normal, plus8)
