"""The closed list of events, and that reading a ledger can import nothing."""

import json
import math
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import UnknownEvent
from dp.events import ACCOUNT_OF, KINDS, Account, Event, GaussianEvent, NarrowEvent, PoissonEvent, event, from_json

TRAINING = Account.TRAINING
GAUSSIAN = GaussianEvent("gradient", 17.3, TRAINING)
POISSON = PoissonEvent("gradient", 3.0, 0.1, TRAINING)
NARROW = NarrowEvent("gradient", 17.3, 784, 7500, TRAINING)

multipliers = st.floats(2.0**-99, 2.0**99)
kinds = st.sampled_from(KINDS)
events = st.one_of(
    st.builds(lambda kind, z: GaussianEvent(kind, z, ACCOUNT_OF[kind]), kinds, multipliers),
    st.builds(
        lambda kind, z, q: PoissonEvent(kind, z, q, ACCOUNT_OF[kind]), kinds, multipliers, st.floats(1e-20, 0.999999)
    ),
    st.builds(
        lambda kind, z, v, d: NarrowEvent(kind, z, v, d, ACCOUNT_OF[kind]),
        kinds,
        multipliers,
        st.integers(64, 2**40),
        st.integers(1, 2**24),
    ),
)


@given(event=events)
def test_an_event_comes_back_from_json_as_it_went(event: Event) -> None:
    text = json.dumps(event.to_json(), sort_keys=True)

    assert from_json(json.loads(text)) == event
    assert json.dumps(from_json(json.loads(text)).to_json(), sort_keys=True) == text
    assert hash(from_json(json.loads(text))) == hash(event)


def test_the_spelling_is_pinned() -> None:
    """Ledgers hold it and chains hash it: it may never change."""
    assert GAUSSIAN.to_json() == {"account": "training", "kind": "gradient", "multiplier": "17.3"}
    assert POISSON.to_json() == {
        "account": "training",
        "kind": "gradient",
        "multiplier": "3.0",
        "sampling_probability": "0.1",
    }
    assert NARROW.to_json() == {
        "account": "training",
        "kind": "gradient",
        "length": "7500",
        "multiplier": "17.3",
        "variance": "784",
    }


def test_from_named_tuple_import_trap() -> None:
    """dp_accounting's `from_named_tuple` imports the module that the data names; ours knows three sets of fields."""
    bait = "antigravity"
    data = {"module_name": bait, "class_name": "GaussianDpEvent", "noise_multiplier": "1.0"}
    before = set(sys.modules)

    for attempt in (data, {**GAUSSIAN.to_json(), "module_name": bait}, {**GAUSSIAN.to_json(), "kind": bait}, [data]):
        with pytest.raises(UnknownEvent):
            from_json(attempt)

    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "damage",
    [
        {"multiplier": "17.30"},
        {"multiplier": " 17.3"},
        {"multiplier": "1_7.3"},
        {"multiplier": "nan"},
        {"multiplier": "inf"},
        {"multiplier": "-17.3"},
        {"multiplier": "0.0"},
        {"multiplier": 17.3},
        {"account": "holdout"},
        {"account": "research"},
        {"account": None},
        {"kind": "cox"},
        {"kind": ["gradient"]},
        {"sampling_probability": "1.0"},
        {"sampling_probability": "0.0"},
        {"sampling_probability": "nan"},
        {"variance": "784"},
        {"length": "7", "variance": "63"},
        {"length": "0", "variance": "784"},
        {"length": "+7", "variance": "784"},
        {"length": "07", "variance": "784"},
        {"length": "7", "variance": "784.0"},
        {"length": "9" * 5000, "variance": "784"},
        {"length": "7", "variance": "784", "sampling_probability": "0.1"},
    ],
)
def test_what_is_no_event_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(UnknownEvent):
        from_json({**GAUSSIAN.to_json(), **damage})


@pytest.mark.parametrize("data", [None, "gradient", [], {}, {"kind": "gradient"}, GAUSSIAN])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(UnknownEvent):
        from_json(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(GAUSSIAN, multiplier=math.nan),
        lambda: replace(GAUSSIAN, account=Account.HOLDOUT),
        lambda: replace(POISSON, sampling_probability=1.0),
        lambda: replace(POISSON, sampling_probability=0.0),
        lambda: replace(POISSON, sampling_probability=math.nan),
        lambda: replace(POISSON, multiplier=2.0**-100),
        lambda: replace(NARROW, variance=63),
        lambda: replace(NARROW, variance=784.0),
        lambda: replace(NARROW, length=0),
        lambda: replace(NARROW, length=True),
        lambda: replace(NARROW, length=2**24 + 1),
        lambda: event("cox", 1.0),
        lambda: event("gradient", 1.0, sampling_probability=1.5),
    ],
)
def test_no_event_outside_its_range_exists(make: Any) -> None:
    with pytest.raises(UnknownEvent):
        make()


def test_the_event_of_a_release_follows_its_sampling_probability() -> None:
    assert event("gradient", 17.3) == GAUSSIAN
    assert event("gradient", 3.0, sampling_probability=0.1) == POISSON
    assert event("auc", 3.0).account is Account.HOLDOUT


def test_each_kind_has_one_account() -> None:
    """Evaluation and non-members read the holdout; everything else reads the training patients."""
    holdout = {kind for kind, account in ACCOUNT_OF.items() if account is Account.HOLDOUT}
    assert holdout == {
        "auc",
        "brier",
        "calibration",
        "concordance",
        "likelihood",
        "score-histogram-nonmembers",
        "survival-holdout",
    }
    assert len(KINDS) == len(set(KINDS)) == 19
