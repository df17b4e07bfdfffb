"""The shareable report: no hidden count can be computed from what it shows, and nothing of the source is in it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harmonize.errors import NotReady, ProfileMismatch
from harmonize.events import Issue, Pointer
from harmonize.profile import load
from harmonize.reporting import disclosure
from harmonize.reporting.disclosure import K, publish, shareable
from harmonize.reporting.quality import Flow, Quality, Tally, VariableQuality

Sides = Mapping[str, Mapping[str, int]]
HOSTILE = "Mustermann, Erika"
PROFILE = load("aml_core")


def table(shape: tuple[int, int], cells: tuple[int, ...]) -> Sides:
    left, _ = shape
    return {
        "usable": {f"u{number}": cell for number, cell in enumerate(cells[:left])},
        "missing": {f"m{number}": cell for number, cell in enumerate(cells[left:])},
    }


def candidates(shape: tuple[int, int], cells: tuple[int, ...], k: int, *, total_known: bool) -> list[set[int]]:
    """Per cell and then per side: every value that fits what is published, by trying all tables."""
    told = publish(table(shape, cells), k)
    fitting: list[set[int]] = [set() for _ in range(len(cells) + 2)]
    for other in _tables(cells, k, total_known=total_known):
        if publish(table(shape, other), k) == told:
            for values, value in zip(fitting, (*other, sum(other[: shape[0]]), sum(other[shape[0] :])), strict=True):
                values.add(value)
    return fitting


def _tables(cells: tuple[int, ...], k: int, *, total_known: bool) -> Iterator[tuple[int, ...]]:
    if total_known:
        for first in itertools.product(range(sum(cells) + 1), repeat=len(cells) - 1):
            if (last := sum(cells) - sum(first)) >= 0:
                yield (*first, last)
    else:
        yield from (each for each in itertools.product(range(2 * k + 2), repeat=len(cells)) if sum(each) >= 2 * k)


@st.composite
def groups(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, ...], int]:
    shape = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1)]))
    k = draw(st.integers(2, 4 if sum(shape) < 4 else 3))
    # Small cells and full remainders are where naive rounding gives away what it hides.
    cell = st.sampled_from([0, 1, k - 1, k, k + 1, 2 * k - 1, 2 * k])
    cells = draw(st.tuples(*[cell] * sum(shape)).filter(lambda cells: 2 * k <= sum(cells) <= 4 * k))
    return shape, cells, k


@settings(deadline=None)
@example(
    group=((1, 3), (0, 2, 2, 5), 3), total_known=False
)  # full remainders: 2 + 2 beside 3 … 5 of 9 … 11 can only be 2 + 2
@example(
    group=((1, 1), (7, 2), 3), total_known=True
)  # 9 patients, 6 … 8 of them usable: 1 or 2, unless both sides are hidden
@given(group=groups(), total_known=st.booleans())
def test_no_hidden_count_is_determined(
    group: tuple[tuple[int, int], tuple[int, ...], int], *, total_known: bool
) -> None:
    shape, cells, k = group
    told = publish(table(shape, cells), k)
    found = candidates(shape, cells, k, total_known=total_known)
    wanted = set(range(k))
    for place, (side, parts) in enumerate(table(shape, cells).items()):
        total = sum(parts.values())
        if total < k:
            # Also a reader who has the exact number of patients from elsewhere learns only that it is small.
            assert found[len(cells) + place] >= wanted
            assert told.parts[side] is None
        for number, (part, count) in enumerate(parts.items(), start=place * shape[0]):
            shown = told.parts[side]
            if shown is None:
                if count < k:
                    assert found[number] >= wanted
            else:
                assert shown[part] in range(k, 99, k)
                assert shown[part] == count - count % k


@given(groups())
def test_no_small_count_is_shown(group: tuple[tuple[int, int], tuple[int, ...], int]) -> None:
    shape, cells, k = group
    told = publish(table(shape, cells), k)
    numbers = [*told.sides.values(), *(n for parts in told.parts.values() for n in (parts or {}).values())]
    assert all(number is None or (number and number % k == 0) for number in numbers)
    assert (told.few != "") == any(sum(parts.values()) < k for parts in table(shape, cells).values())


@given(groups(), st.data())
def test_nobody_is_a_small_count_and_one_more_shows_at_a_multiple_only(
    group: tuple[tuple[int, int], tuple[int, ...], int], data: st.DataObject
) -> None:
    shape, cells, k = group
    place = data.draw(st.integers(0, len(cells) - 1))
    more = tuple(count + (number == place) for number, count in enumerate(cells))
    before, after = table(shape, cells), table(shape, more)
    side = next(name for name in before if before[name] != after[name])

    if more[place] % k and sum(after[side].values()) % k:
        assert publish(after, k) == publish(before, k)


@given(
    usable=st.integers(20, 400),
    out=st.integers(0, 25),
    deaths=st.sampled_from([0, 1, 9, 10, 11]),
    usable_too=st.booleans(),
)
def test_one_more_patient_shows_at_a_multiple_of_ten_only(
    usable: int, out: int, deaths: int, *, usable_too: bool
) -> None:
    def page(usable: int, out: int, deaths: int, invalid: int) -> bytes:
        states = {"value": usable - invalid, "invalid": invalid}
        found = report(usable, {"follow-up-missing": out} if out else {})
        variables = tuple(replace(each, states=states) for each in found.variables)
        return shareable(
            replace(found, flow=replace(found.flow, deaths=deaths), variables=variables), PROFILE
        ).to_json()

    changed = (usable + 1, usable - 9, deaths + 1) if usable_too else (out + 1,)
    if not any(count % K == 0 for count in changed):
        more = (usable + 1, out, deaths + 1, 10) if usable_too else (usable, out + 1, deaths, 10)
        assert page(usable, out, deaths, 10) == page(*more)
    # Whether one value cannot be used, or none, is not told.
    assert page(usable, out, 5, 0) == page(usable, out, 0, 0) == page(usable, out, 5, min(9, usable - 11))


def test_the_brute_force_sees_what_rounding_alone_gives_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # Parts rounded one by one, small ones hidden alone: 3 + 3 + 3 of k = 4 with one full part beside them.
    monkeypatch.setattr(
        disclosure, "_parts", lambda parts, k: {name: n - n % k for name, n in parts.items() if n >= k or not n}
    )
    found = candidates((1, 3), (9, 3, 3, 6), 4, total_known=True)
    naive = min(len(found[cell]) for cell in (1, 2))
    monkeypatch.undo()
    assert naive < len(candidates((1, 3), (9, 3, 3, 6), 4, total_known=True)[1])


def report(usable: int = 291, left_out: Mapping[str, int] | None = None, *issues: Issue) -> Quality:
    tally = Tally()
    for issue in issues:
        tally.add(issue)
    flow = Flow(usable + 12, {"follow-up-missing": 12} if left_out is None else left_out, usable, 140)
    variables = tuple(
        VariableQuality(
            name, HOSTILE, {"value": usable - 23, "not-recorded": 20, "invalid": 3}, {"K/uL": 12, "/uL": 9, HOSTILE: 99}
        )
        for name in PROFILE.names
    )
    return Quality.of(PROFILE, flow, variables, tally)


def test_what_is_shared() -> None:
    issues = [Issue("range-soft", Pointer("Erika.csv", line, "Erika"), "wbc") for line in range(25)]
    issues += [Issue("follow-up-missing", Pointer("Erika.csv", 1))] * 12 + [Issue("structure", Pointer("x", 2))]
    shared = shareable(report(291, None, *issues), PROFILE)

    assert (shared.rows, shared.left_out) == (290, 10)
    assert shared.deaths.sides == {"died": 140, "alive": 150}
    wbc = next(each for each in shared.variables if each.name == "wbc")
    assert wbc.title == PROFILE.variable("wbc").title
    assert wbc.rows.sides == {"usable": 260, "missing": 20}
    assert wbc.rows.parts == {"usable": None, "missing": None}


def test_one_patient_with_ten_facts_is_not_shown() -> None:
    one = Issue("range-soft", Pointer("labs.csv", 7), "wbc")
    assert shareable(report(291, None, *[one] * 10), PROFILE) == shareable(report(291), PROFILE)
    found = report()
    units = tuple(replace(each, units={"10*9/L": 10}, codes={"LEUK": 10}) for each in found.variables)
    assert shareable(replace(found, variables=units), PROFILE) == shareable(found, PROFILE)


def test_nothing_of_the_source_is_shared() -> None:
    issue = Issue("unit-unknown", Pointer("Erika.csv", 4711, "Erika"), "Erika")
    data = shareable(report(291, None, *[issue] * 30), PROFILE).to_json()

    for word in (b"Erika", b"4711", b"csv", b"291", b"303"):
        assert word not in data
    assert json.loads(data)["smallest_count"] == K
    assert b"noisy secure sum" in data


@given(st.integers(20, 400), st.integers(0, 25), st.integers(0, 25))
def test_every_number_is_a_multiple_of_ten_or_hidden(usable: int, first: int, second: int) -> None:
    quality = report(usable, {"follow-up-missing": first, "death-date-missing": second})
    quality = replace(quality, flow=replace(quality.flow, deaths=min(usable, first)))

    def numbers(node: object) -> list[int]:
        if isinstance(node, dict):
            return [number for value in node.values() for number in numbers(value)]
        if isinstance(node, list):
            return [number for value in node for number in numbers(value)]
        return [node] if isinstance(node, int) else []

    assert all(number % K == 0 for number in numbers(json.loads(shareable(quality, PROFILE).to_json())))


def test_a_small_cohort_is_not_shared() -> None:
    with pytest.raises(NotReady, match="fewer than 20 patients"):
        shareable(report(19), PROFILE)


def test_a_report_of_another_profile_is_not_shared() -> None:
    with pytest.raises(ProfileMismatch):
        shareable(replace(report(), digest="0" * 64), PROFILE)
