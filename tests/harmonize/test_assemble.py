"""Every choice between facts, from facts alone."""

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize.errors import MisuseError
from harmonize.events import Event, Fact, Item, PatientRecord, Pointer, State, Variant, Withdrawn
from tests.harmonize.facts import PROFILE, TP53, built, cell, codes, day, fact, made, make_profile, patient
from tests.sweeps import examples

# Days and values whose choice differs for every pick.
SERIES = [(-20, "9"), (-3, "5"), (3, "4"), (3, "2"), (12, "11"), (25, "7")]


@pytest.mark.parametrize(
    ("pick", "value"), [("nearest", 5.0), ("first", 9.0), ("last", 7.0), ("max", 11.0), ("min", 2.0)]
)
def test_which_measurement_counts(pick: str, value: float) -> None:
    table, assembled = made(*(fact(pick, number, at, line=at + 90) for at, number in SERIES))

    assert cell(table, pick) == (value, State.VALUE)
    assert not codes(assembled)


def test_before_rather_than_after_and_the_lowest_of_one_day() -> None:
    table, assembled = made(*(fact("nearest", number, 3) for number in ("6", "4", "8")), fact("nearest", "9", 4))
    assert cell(table, "nearest") == (4.0, State.VALUE)
    assert codes(assembled) == {("multiple-matches", "nearest")}

    assert cell(made(fact("nearest", "6", 3), fact("nearest", "8", -3))[0], "nearest")[0] == 8.0
    # The highest is the highest, however many others there are.
    assert not codes(made(fact("max", "4", 3), fact("max", "6", 3))[1])
    # Equal values in two units are one value.
    assert not codes(made(fact("nearest", "40", 3), fact("nearest", "4", 3, unit="g/dL"))[1])


@pytest.mark.parametrize(
    ("written", "value"),
    [("1.005", 1.0), ("1.015", 1.02), ("1.025", 1.02), ("1.0251", 1.03), ("-0.004", 0.0), ("1000.004", 1000.0)],
)
def test_rounding_is_decimal_and_half_to_even(written: str, value: float) -> None:
    rounded, state = cell(made(fact("nearest", written))[0], "nearest")

    assert (rounded, state) == (value, State.VALUE)
    assert str(rounded) == str(value)  # 0.0, not -0.0


@pytest.mark.parametrize("written", ["1000.006", "-0.006", "1e40"])
def test_numbers_outside_the_hard_range_are_not_used(written: str) -> None:
    table, assembled = made(fact("nearest", written))

    assert cell(table, "nearest") == (None, State.INVALID)
    assert codes(assembled) == {("range-hard", "nearest")}


def test_a_limit_stays_a_limit() -> None:
    for state in (State.BELOW_LIMIT, State.ABOVE_LIMIT):
        assert cell(made(fact("nearest", "5", state=state))[0], "nearest") == (5.0, state)
    # Measured and at a limit on one day: the measurement.
    both = made(fact("nearest", "5", state=State.BELOW_LIMIT), fact("nearest", "5", line=9))[0]
    assert cell(both, "nearest") == (5.0, State.VALUE)


def test_why_a_measurement_is_missing() -> None:
    reasons = [State.UNKNOWN, State.NOT_TESTED, State.NOT_RECORDED]
    table, _ = made(*(fact("nearest", state=state) for state in reasons))
    assert cell(table, "nearest") == (None, State.NOT_TESTED)
    table, assembled = made(fact("nearest", "5", unit="furlong"), *(fact("nearest", state=state) for state in reasons))
    assert cell(table, "nearest") == (None, State.INVALID)
    assert codes(assembled) == {("unit-unknown", "nearest")}
    assert cell(made()[0], "nearest") == (None, State.NOT_RECORDED)
    table, assembled = made(fact("nearest", "5", 31), fact("nearest", state=State.UNKNOWN, at=-31))
    assert cell(table, "nearest") == (None, State.NOT_RECORDED)
    assert assembled.quality.count("outside-window", "nearest") == 2
    with pytest.raises(MisuseError, match="nearest: a source yielded something else than a number"):
        made(fact("nearest", True))


def test_vectors_are_bounded_and_pooled_in_any_order() -> None:
    slides = [
        fact("slide", row, line=line) for line, row in enumerate([(0.5, 1.0, 5.0), (0.1, 0.2, 0.3), (-3.0, 0.7, 1e-8)])
    ]
    table, assembled = made(*slides)

    vector, state = cell(table, "slide")
    expected = (
        np.array([(0.5, 1.0, 2.0), (0.1, 0.2, 0.3), (-0.1, 0.7, 1e-8)], dtype=np.float32).astype(float).mean(axis=0)
    )
    np.testing.assert_allclose(vector, expected, rtol=1e-6)
    assert state is State.VALUE
    assert assembled.quality.count("features-clipped") == 2
    for _ in range(5):
        random.shuffle(slides)
        assert made(*slides, slides[0])[0].digest == table.digest


def test_a_vector_with_gaps_is_not_used() -> None:
    for broken in (float("nan"), float("inf"), 1e300):
        table, assembled = made(fact("slide", (0.5, broken, 1.0)))
        assert cell(table, "slide") == (None, State.INVALID)
        assert codes(assembled) == {("features-not-finite", "slide")}
        good = made(fact("slide", (0.5, broken, 1.0)), fact("slide", (0.5, 1.0, 1.0)))[0]
        assert cell(good, "slide") == ([0.5, 1.0, 1.0], State.VALUE)
    assert cell(made(fact("slide", state=State.NOT_TESTED))[0], "slide") == (None, State.NOT_TESTED)
    with pytest.raises(MisuseError, match="slide: a source yielded something else than 3 numbers"):
        made(fact("slide", (0.5, 1.0)))


OUTCOMES: list[tuple[list[Item], tuple[int | None, bool | None], set[str]]] = [
    ([], (1000, False), set()),
    ([fact("relapse", False)], (1000, False), set()),
    ([fact("relapse", day(50)), fact("relapse", day(40))], (40, True), set()),
    ([fact("relapse", day(0))], (0, True), set()),
    ([fact("relapse", day(-1)), fact("relapse", day(70))], (None, None), {"event-before-diagnosis"}),
    ([fact("relapse", day(-1))], (None, None), {"event-before-diagnosis"}),
    ([fact("relapse", day(1001))], (1001, True), set()),
    ([fact("relapse", day(900)), fact(Fact.DEATH_DATE, day(800))], (None, None),
     {"event-after-death", "follow-up-after-death"}),
    ([fact("relapse", day(50)), fact("relapse", False)], (None, None), {"conflicting-values"}),
    ([fact("relapse", state=State.UNKNOWN)], (None, None), set()),
    ([fact("relapse", state=State.UNKNOWN), fact("relapse", day(50))], (50, True), set()),
    ([fact("relapse", day(9001))], (None, None), {"event-implausible"}),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "expected", "issues"), OUTCOMES)
def test_first_events(facts: list[Item], expected: tuple[int | None, bool | None], issues: set[str]) -> None:
    table, assembled = made(*facts)

    assert (table.arrow["relapse_time"][0].as_py(), table.arrow["relapse_event"][0].as_py()) == expected
    assert {code for code, _ in codes(assembled)} == issues
    duration, event = table.matrix().outcomes["relapse"]
    assert np.isnan(duration[0]) == (expected[0] is None)
    assert event.tolist() == [bool(expected[1])]


def test_whoever_has_an_event_is_alive_on_that_day() -> None:
    table, assembled = made(fact("relapse", day(1001), line=9))
    assert table.arrow["time"].to_pylist() == [1001]
    (end,) = [row for row in assembled.provenance.to_pylist() if row["variable"] == "os"]
    assert end["line"] == 9

    # Not on a day that cannot be meant.
    for odd in ([fact("relapse", day(9001))], [fact("relapse", day(1001)), fact("relapse", False)]):
        assert made(*odd)[0].arrow["time"].to_pylist() == [1000]


def test_an_event_is_enough_to_have_been_seen() -> None:
    (record, diagnosis, _) = patient()
    table, assembled = built([record, diagnosis, fact("relapse", day(30), line=9)])

    assert table.arrow["time"].to_pylist() == [30]
    (end,) = [row for row in assembled.provenance.to_pylist() if row["variable"] == "os"]
    assert end["line"] == 9


EVENTS = st.tuples(st.sampled_from(["relapse", "graft"]), st.integers(-50, 30_000).map(day) | st.just(False))
ENDS = st.tuples(st.sampled_from([Fact.LAST_FOLLOW_UP, Fact.DEATH_DATE]), st.integers(-5, 12_000).map(day))


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(EVENTS | ENDS, max_size=5))
def test_no_event_is_later_than_overall_survival(found: list[tuple[str, Any]]) -> None:
    table, _ = made(*(fact(name, value) for name, value in found))

    for row in table.arrow.to_pylist():
        for name in ("relapse", "graft"):
            assert row[f"{name}_time"] is None or 0 <= row[f"{name}_time"] <= row["time"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2024-03-01T10:00:00+02:00", "2024-03-01T09:30:00Z"),
        ("2024-03-01T09:30:00Z", "2024-03-01T09:30:00.5Z"),
        ("2024-03-01T09:30:00Z", "2024-03-01T09:30:00+00:00"),
        ("2024-03-01", "2024-03-02"),
        ("2024-03-01T09:30:00Z", "3"),
    ],
)
def test_versions_are_compared_as_instants(older: str, newer: str) -> None:
    (record, diagnosis, seen) = patient()
    assert isinstance(record, PatientRecord)
    records = [
        replace(record, fingerprint=version, version=version, where=Pointer("f", line))
        for line, version in ((11, older), (12, newer))
    ]
    for order in (records, records[::-1]):
        found = [diagnosis, seen, fact("nearest", "4", line=11), fact("nearest", "5", line=12)]
        table, assembled = built([*order, *found])
        if (older.endswith("09:30:00Z") and not newer.endswith(".5Z")) or len(older) == 10:
            # At one instant, or not comparable: nothing says which holds.
            assert assembled.quality.flow.left_out == {"patient-contradiction": 1}
        else:
            assert cell(table, "nearest") == (5.0, State.VALUE)
            assert codes(assembled) == {("patient-superseded", "")}


def test_an_outcome_that_nobody_mentions_is_reported() -> None:
    _, assembled = made(fact("relapse", day(50)))

    assert assembled.quality.count("outcome-not-in-source", "graft") == 1
    assert assembled.quality.count("outcome-not-in-source", "relapse") == 0


def test_a_stated_age_far_from_the_date_of_birth_is_reported() -> None:
    born = fact(Fact.BIRTH_DATE, day(-60 * 366))
    for years, reported in (("59", False), ("58", True), ("60.9", False), ("62", True), ("40", True)):
        table, assembled = made(born, fact("age", years))
        assert cell(table, "age") == (60.0, State.VALUE)
        assert (("age-disagrees", "age") in codes(assembled)) == reported


def test_withdrawn_facts_do_not_count() -> None:
    facts = [fact("nearest", "5", line=8), fact("nearest", "3", line=9), fact("tp53", True, line=9)]
    table, _ = made(*facts, Withdrawn(Pointer("f", 9)))

    assert cell(table, "nearest") == (5.0, State.VALUE)
    assert cell(table, "tp53") == (None, State.NOT_RECORDED)


def test_every_cell_leads_to_its_place() -> None:
    _, assembled = built(
        [
            *patient("a"),
            *patient("b", line=7),
            Event("a", "nearest", Decimal(5), Pointer("labs.csv", 12, "Hb"), "g/L", day(2)),
            Event("a", "nearest", Decimal(6), Pointer("labs.csv", 13, "Hb"), "g/L", day(9)),
            Event("b", Fact.KARYOTYPE, "46,XX[20]", Pointer("k.csv", 4, "iscn"), time=day(0)),
            Event("b", "relapse", day(9), Pointer("k.csv", 4, "relapse")),
        ]
    )
    rows = assembled.provenance.to_pylist()
    found = {(row["variable"], row["file"], row["line"], row["field"], row["state"]) for row in rows}

    assert [row["pid"] for row in rows] == sorted(row["pid"] for row in rows)
    assert ("nearest", "labs.csv", 12, "Hb", State.VALUE) in found
    assert ("cyto_del5q", "k.csv", 4, "iscn", State.TESTED_NEGATIVE) in found
    assert ("karyotype", "k.csv", 4, "iscn", State.VALUE) in found
    assert ("relapse", "k.csv", 4, "relapse", State.VALUE) in found
    assert {("os", "f", 1, "", 0), ("os", "f", 7, "", 0), ("index_date", "f", 1, "", 0)} <= found
    assert not [row for row in rows if row["line"] == 13]


def test_a_fact_that_the_profile_does_not_know_is_a_bug() -> None:
    with pytest.raises(MisuseError, match="a source yielded banana, which the profile does not know"):
        made(fact("banana", "1"))


def test_the_last_time_seen_counts_and_leads_to_its_place() -> None:
    seen = [fact(Fact.LAST_FOLLOW_UP, day(number), line=line) for line, number in ((5, 1200), (6, 1300), (7, 40))]
    table, assembled = made(*seen)

    assert table.arrow["time"].to_pylist() == [1300]
    (end,) = [row for row in assembled.provenance.to_pylist() if row["variable"] == "os"]
    assert end["line"] == 6


def test_facts_of_nobody_are_reported_once_a_reference() -> None:
    strays = [fact("nearest", "5", line=9, who="q"), fact("nearest", "5", line=8, who="q"), fact("tp53", "1", who="r")]
    _, assembled = made(*strays)

    (finding,) = [finding for finding in assembled.quality.findings if finding.code == "patient-unresolved"]
    assert (finding.count, finding.places) == (2, ("f:2", "f:8"))


def test_an_empty_source_gives_an_empty_table() -> None:
    for items in ([], [PatientRecord(("p",), "s", "p", "", "", Pointer("f", 1))]):
        table, assembled = built(items)
        assert len(table) == 0
        assert assembled.provenance.num_rows == 0
        assert table.matrix().features["slide"][0].shape == (0, 3)


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    lines = iter(range(10, 10_000))
    found: list[Item] = []
    for who in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3)):
        found += patient(who, line=next(lines))
        for _ in range(draw(st.integers(0, 12))):
            at = draw(st.none() | st.integers(-95, 95))
            numbers = st.integers(0, 1_100_000).map(lambda number: Decimal(number) / 1000)
            name, value = draw(
                st.tuples(st.sampled_from(["nearest", "first", "last", "max", "min"]), numbers)
                | st.tuples(st.just(str(Fact.KARYOTYPE)), st.sampled_from(["46,XX[20]", "47,XY,+8[9]", "nil", "?"]))
                | st.tuples(st.just("slide"), st.tuples(*[st.floats(-1, 3, width=32)] * 3))
                | st.tuples(st.sampled_from(["tp53", "cyto_del5q", "relapse"]), st.booleans().filter(lambda b: not b))
                | st.tuples(st.just(str(Fact.VARIANT)), st.sampled_from([Variant(TP53), Variant(TP53, present=False)]))
                | st.tuples(st.just("relapse"), st.integers(-5, 1200).map(day))
            )
            state = (
                draw(st.sampled_from([State.VALUE, State.VALUE, State.BELOW_LIMIT])) if name in PICKS else State.VALUE
            )
            unit = draw(st.sampled_from(["g/L", "g/dL", "mg/L"]))
            found.append(fact(name, value, at, line=next(lines), who=who, unit=unit, state=state))
    return found


PICKS = {"nearest", "first", "last", "max", "min"}


@settings(max_examples=examples(60), deadline=None)
@given(items(), st.randoms(use_true_random=False))
def test_the_order_of_the_source_never_matters(found: list[Item], chance: random.Random) -> None:
    table, assembled = built(found)
    shuffled = list(found)
    chance.shuffle(shuffled)
    again, other = built(shuffled)

    assert again.to_parquet_bytes() == table.to_parquet_bytes()
    assert other.quality.flow == assembled.quality.flow
    assert codes(other) == codes(assembled)
    assert other.provenance.to_pylist() == assembled.provenance.to_pylist()


@settings(max_examples=examples(40), deadline=None)
@given(items())
def test_a_patients_row_depends_on_that_patient_alone(found: list[Item]) -> None:
    whole = {row["pid"]: row for row in built(found)[0].arrow.to_pylist()}
    for who in "abc":
        alone = [
            item
            for item in found
            if (isinstance(item, Event) and item.patient == who)
            or (isinstance(item, PatientRecord) and item.identifier == who)
        ]
        for row in built(alone)[0].arrow.to_pylist():
            assert row == whole[row["pid"]]


def test_memory_grows_with_facts_not_with_their_objects() -> None:
    from harmonize.cohort.gather import VALUE, Store

    store = Store(PROFILE.names, {"nearest"})
    for number in range(1000):  # each fact is gone before the next, and its place in memory is used again
        store.add([fact("nearest", str(number % 7), number % 3, line=number)])
    store.sort()
    assert store.measurements.nbytes == 36_000
    assert len(store._values) == 7
    assert [store.value(number) for number in store.measurements[:, VALUE]] == [number % 7 for number in range(1000)]


def test_profiles_without_findings_need_none() -> None:
    bare = make_profile(outcomes=[])
    table, _ = made(profile=bare)
    assert table.matrix().outcomes == {}
