"""What the opt-in statistics task may sum: bounded for any table, public in shape and bound."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize.errors import MisuseError
from harmonize.events import State
from harmonize.profile import CodeVariable, load
from harmonize.statistics import bound, names, rows, summaries
from harmonize.table import Table
from tests.harmonize.facts import PROFILE as RICH
from tests.harmonize.facts import make_profile
from tests.sweeps import examples

PROFILE = make_profile(outcomes=[])
REASONS = [state for state in State if not state.usable]


def plain(people: list[dict[str, tuple[Any, State]]], profile: Any = PROFILE) -> Table:
    columns: dict[str, list[Any]] = {
        "pid": [f"P{number:05}" for number in range(len(people))],
        "time": [1] * len(people),
        "event": [True] * len(people),
    }
    for name in profile.names:
        columns[name] = [person[name][0] for person in people]
        columns[f"{name}__m"] = [person[name][1] for person in people]
    return Table.from_columns(columns, profile)


@st.composite
def person(draw: st.DrawFn) -> dict[str, tuple[Any, State]]:
    found: dict[str, tuple[Any, State]] = {}
    for variable in PROFILE.scalars:
        if draw(st.booleans()):
            found[variable.name] = None, draw(st.sampled_from(REASONS))
        elif isinstance(variable, CodeVariable):
            found[variable.name] = draw(st.sampled_from(sorted(variable.values.values()))), State.VALUE
        else:
            low, high = float(variable.hard[0]), float(variable.hard[1])
            found[variable.name] = draw(st.floats(low, high) | st.sampled_from([low, high])), State.VALUE
    return found


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(person(), max_size=4), person())
def test_one_more_patient_changes_the_sum_by_at_most_the_bound(
    people: list[dict[str, tuple[Any, State]]], newcomer: dict[str, tuple[Any, State]]
) -> None:
    before, after = rows(plain(people)), rows(plain([*people, newcomer]))
    change = after.matrix.sum(axis=0) - before.matrix.sum(axis=0)

    assert np.linalg.norm(change) <= after.l2 * (1 + 1e-12)
    assert np.abs(change).max() <= after.linf * (1 + 1e-12)
    assert np.linalg.norm(after.matrix[-1]) <= after.l2
    assert np.abs(after.matrix).max() <= after.linf
    assert before.l2 == after.l2 == bound(PROFILE)
    assert before.names == after.names == names(PROFILE)
    np.testing.assert_array_equal(after.matrix[: len(people)], before.matrix)  # a row is one patient's alone


def test_the_bound_is_reached() -> None:
    # At the end of every range: n, z and a bin are 1.
    edge = {
        variable.name: (1, State.VALUE)
        if isinstance(variable, CodeVariable)
        else (float(variable.scale.clip[1]), State.VALUE)
        for variable in PROFILE.scalars
    }

    assert np.linalg.norm(rows(plain([edge])).matrix[0]) == pytest.approx(bound(PROFILE), rel=1e-12)


def test_shape_and_bound_depend_on_the_profile_alone() -> None:
    empty = rows(plain([]))

    assert empty.matrix.shape == (0, len(names(PROFILE)))
    assert len(set(names(PROFILE))) == len(names(PROFILE))
    assert len(set(names(RICH))) == len(names(RICH))
    assert bound(load("aml_core")) == math.sqrt(11)
    with pytest.raises(ValueError, match="read-only"):
        rows(plain([])).matrix[:] = 1.0


def test_a_sum_is_read_back() -> None:
    counts = np.random.default_rng(5).lognormal(2.5, 1.0, 4000).clip(0, 500)
    people = [
        {
            "age": (60.0, State.VALUE) if number % 4 else (None, State.UNKNOWN),
            "sex": (number % 2, State.VALUE),
            "wbc": (float(count), State.VALUE),
            "tpi": (None, State.NOT_RECORDED),
        }
        for number, count in enumerate(counts)
    ]
    found = summaries(rows(plain(people)).matrix.sum(axis=0), PROFILE)

    assert found["age"].n == 3000
    assert found["age"].mean == pytest.approx(60, rel=1e-9)
    assert found["age"].missing["unknown"] == 1000
    assert found["sex"].counts == {"female": 2000, "male": 2000}
    assert found["wbc"].mean == pytest.approx(np.expm1(np.log1p(counts).mean()), rel=1e-9)
    assert found["wbc"].spread == pytest.approx(np.log1p(counts).std(), rel=0.03)
    for read, true in zip(found["wbc"].quantiles, np.quantile(counts, (0.05, 0.25, 0.5, 0.75, 0.95)), strict=True):
        assert math.log1p(read) == pytest.approx(math.log1p(true), abs=math.log1p(500) / 32)
    assert (found["tpi"].n, found["tpi"].quantiles) == (0, ())
    assert math.isnan(found["tpi"].mean)


def test_noise_breaks_no_reading() -> None:
    noise = np.random.default_rng(6).normal(0, 28, len(names(PROFILE)))
    found = summaries(noise, PROFILE)

    assert all(-9 < found[name].mean < 601 or math.isnan(found[name].mean) for name in ("age", "wbc", "tpi"))
    with pytest.raises(MisuseError, match=r"the sum has shape \(3,\), the profile has"):
        summaries(np.zeros(3), PROFILE)
