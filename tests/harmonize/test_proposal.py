"""What the sampled cells of an unknown column rule out, whatever its name says."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize.mapping.samples import Sample
from harmonize.mapping.targets import Kind

MDS = profiles.load("mds")
UUIDS = [str(uuid.UUID(int=number**9)) for number in range(1, 9)]
DATES = ["2012-03-04", "2012-12-31", "NA", "2013-01-01"]
NAMES = [f"Erika {number}" for number in range(40)]


def proposed(samples: dict[str, list[str]]) -> dict[str, str]:
    text = mappings.propose(list(samples), MDS, samples)
    return dict(re.findall(r'^# (\w+) = \{ (?:\w+ = "[^"]*", )*?column = "([^"]*)"', text, flags=re.MULTILINE))


@pytest.mark.parametrize("cells", [UUIDS, ["A12", "B7", "C92"]])
def test_no_day_of_diagnosis_without_days(cells: list[str]) -> None:
    assert "index_date" not in proposed({"id": ["1"], "diagnosis_date": cells})


def test_the_next_likely_column_is_proposed_instead() -> None:
    found = proposed({"id": ["1"], "dx": UUIDS, "diagnosis": DATES, "dx date": NAMES, "date of dx": DATES})

    assert found["index_date"] in {"diagnosis", "date of dx"}


def test_a_ruled_out_column_stays_listed() -> None:
    text = mappings.propose(["id", "diagnosis_date"], MDS, {"diagnosis_date": UUIDS})

    assert "# index_date: no column looks like" in text
    assert '#   "diagnosis_date"' in text
    assert UUIDS[0] not in text


@pytest.mark.parametrize(
    ("cells", "unit"),
    [
        (["61", "74", "58"], "a"),
        (["61,5", "74,2"], "a"),
        (["22280", "27000", "NA"], "d"),
        (["732", "888"], "mo"),
        ([], "a"),
        (["NA"], "a"),
        (["4", "7"], "... one of: a, mo, d"),
        (["61 years", "74 years"], "... one of: a, mo, d"),
    ],
)
def test_the_unit_of_an_age_is_that_in_which_it_is_one(cells: list[str], unit: str) -> None:
    text = mappings.propose(["id", "age"], MDS, {"age": cells})

    assert f'# age = {{ column = "age", unit = "{unit}" }}' in text


@pytest.mark.parametrize(
    ("cells", "possible"),
    [
        (UUIDS, set()),
        ([], set(Kind)),
        (["NA", " ", "?"], set(Kind)),
        (["9.5", "<5", "12,1", "1.2e3", "7 g/dL", "bad"], set(Kind) - {Kind.KARYOTYPE}),
        (DATES, set(Kind) - {Kind.LAB, Kind.AGE, Kind.KARYOTYPE}),
        (["04.03.12", "5/6/2012", "4-Mar-2012", "2012-03"], set(Kind) - {Kind.LAB, Kind.AGE, Kind.KARYOTYPE}),
        (["yes", "no"], set(Kind) - {Kind.LAB, Kind.AGE, Kind.DATE, Kind.SURVIVAL}),
        (NAMES, {Kind.KARYOTYPE, Kind.VARIANT}),
        ([*NAMES, *["yes"] * 99], set(Kind) - {Kind.LAB, Kind.AGE, Kind.DATE, Kind.SURVIVAL}),
        (["46,XX[20]", "46,XY,del(5)(q13q33)[8]/46,XY[2]"], set(Kind) - {Kind.LAB, Kind.AGE, Kind.DATE, Kind.SURVIVAL}),
    ],
)
def test_what_cells_leave_possible(cells: list[str], possible: set[Kind]) -> None:
    assert {kind for kind in Kind if not Sample(cells).rules_out(kind)} == possible


@given(st.lists(st.text(max_size=40), max_size=9), st.sampled_from(Kind))
def test_any_cells_are_judged(cells: list[str], kind: Kind) -> None:
    Sample(cells).rules_out(kind)
