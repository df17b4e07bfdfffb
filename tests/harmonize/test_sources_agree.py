"""The same facts give the same table, whatever system a hospital keeps them in."""

import dataclasses
import datetime as dt
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings

from harmonize.cohort.assemble import pseudonym
from harmonize.events import State
from tests.harmonize import genetic_patients
from tests.harmonize.patients import (
    KEY,
    SYSTEM,
    Person,
    from_bundle,
    from_german,
    from_ndjson,
    from_redcap,
    people,
)
from tests.sweeps import examples


@settings(max_examples=examples(40), deadline=None)
@given(people())
def test_four_sources_give_identical_bytes(persons: list[Person]) -> None:
    reference, report = from_bundle(persons)

    assert report.flow.seen == len(persons)
    for source in (from_ndjson, from_german, from_redcap):
        table, quality = source(persons)
        assert table.arrow.to_pydict() == reference.arrow.to_pydict()
        assert table.to_parquet_bytes() == reference.to_parquet_bytes()
        assert table.digest == reference.digest
        assert quality.flow == report.flow
        assert [v.states for v in quality.variables] == [v.states for v in report.variables]


PERSON = Person(
    identifier="4711",
    sex="male",
    birth=dt.date(1950, 6, 15),
    index=dt.date(2010, 6, 14),
    wbc=Decimal("13.3"),
    wbc_date=dt.date(2010, 6, 10),
    tpi=Decimal("-1.96"),
    death=dt.date(2011, 6, 14),
    follow_up=dt.date(2011, 1, 1),
)


def test_one_patient_by_hand() -> None:
    table, quality = from_german([PERSON])

    assert table.arrow.to_pylist() == [
        {
            "pid": pseudonym(KEY, SYSTEM, "4711"),
            "age": 59.0,  # the 60th birthday was the next day
            "age__m": State.VALUE,
            "sex": 1,
            "sex__m": State.VALUE,
            "wbc": 13.3,
            "wbc__m": State.VALUE,
            "tpi": -1.96,
            "tpi__m": State.VALUE,
            "time": 365,
            "event": True,
        }
    ]
    assert not quality.findings
    assert quality.flow.deaths == 1


def test_the_oldest_share_one_age() -> None:
    ages = [
        from_redcap([dataclasses.replace(PERSON, birth=dt.date(year, 1, 1))])[0].arrow["age"].to_pylist()
        for year in (1912, 1920, 1921)
    ]

    assert ages == [[90.0], [90.0], [89.0]]


def test_every_state_survives() -> None:
    cases = {
        "not-tested": State.NOT_TESTED,
        "unknown": State.UNKNOWN,
        None: State.NOT_RECORDED,
        Decimal("1000.01"): State.INVALID,
        Decimal(1000): State.VALUE,
        Decimal(0): State.VALUE,
    }
    for wbc, state in cases.items():
        table, _ = from_bundle([dataclasses.replace(PERSON, wbc=wbc)])
        assert table.states("wbc").tolist() == [state]
        assert (table.arrow["wbc"][0].as_py() is not None) == state.usable


@pytest.mark.slow
@settings(max_examples=examples(25), deadline=None)
@given(genetic_patients.people())
def test_karyotypes_variants_outcomes_and_vectors_agree(persons: list[genetic_patients.Person]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reference, report = genetic_patients.from_bundle(persons, Path(folder))
        ways = (
            genetic_patients.from_ndjson,
            genetic_patients.from_bulk,
            genetic_patients.from_wide,
            genetic_patients.from_long,
        )
        for way in ways:
            with tempfile.TemporaryDirectory() as own:
                table, quality = way(persons, Path(own))
            assert table.arrow.to_pydict() == reference.arrow.to_pydict()
            assert table.to_parquet_bytes() == reference.to_parquet_bytes()
            assert table.digest == reference.digest
            assert quality.flow == report.flow
            assert [v.states for v in quality.variables] == [v.states for v in report.variables]
