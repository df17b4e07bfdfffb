import doctest
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import strategies as st

from dp import events, queries
from dp.errors import MisuseError, UnknownEvent
from dp.events import Account, GaussianEvent
from dp.queries import KINDS, Query, norm, public_bytes
from dp.releases import Histogram

from .conftest import MakeQuery

CHANGES = [
    {"kind": "breslow"},
    {"index": 1},
    {"length": 8},
    {"sensitivity": math.nextafter(3.0, 4)},
    {"multiplier": math.nextafter(17.3, 18)},
    {"patient_cap": 5001},
    {"public": b"gri"},
    {"sampling_probability": 0.5},
    {"kind": "concordance"},
]


def test_the_digest_covers_every_field(query: MakeQuery) -> None:
    digests = {query().digest()} | {query(**change).digest() for change in CHANGES}

    assert len(digests) == len(CHANGES) + 1
    assert query().digest() == query().digest()


def test_the_digest_is_pinned(query: MakeQuery) -> None:
    # Another value here is another protocol: sites of two versions would not sum.
    assert query().digest().hex() == "2e08e3c755921e7c8b3fe76f8632b5de22c01e0b6e78241e22421bdc18afb734"


def test_numpy_scalars_are_the_numbers_they_hold(query: MakeQuery) -> None:
    import numpy as np

    assert query(length=np.int64(7), sensitivity=np.float64(3)).digest() == query().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "cox"},
        {"index": -1},
        {"length": 0},
        {"length": 2**24 + 1},
        {"sensitivity": 0.0},
        {"sensitivity": math.nan},
        {"sensitivity": math.inf},
        {"multiplier": -1.0},
        {"multiplier": 0.0},
        {"patient_cap": 0},
        {"patient_cap": 2**22},
        {"account": Account.HOLDOUT},
        {"sampling_probability": 0.0},
        {"sampling_probability": 1.5},
        {"sampling_probability": math.nan},
    ],
)
def test_a_query_outside_its_range_is_refused(query: MakeQuery, change: dict[str, Any]) -> None:
    with pytest.raises(MisuseError):
        query(**({"kind": "gradient"} | change))


def test_each_kind_is_charged_to_the_patients_it_reads() -> None:
    assert {kind for kind in KINDS if events.ACCOUNT_OF[kind] is Account.TRAINING} == {
        "gradient",
        "breslow",
        "score-histogram-members",
        "sum",
        "count",
        "histogram",
        "marginals",
        "quantiles",
        "kaplan-meier",
        "mixture",
        "update",
        "newton",
    }
    for kind in KINDS:
        wrong = {Account.TRAINING: Account.HOLDOUT, Account.HOLDOUT: Account.TRAINING}[events.ACCOUNT_OF[kind]]
        with pytest.raises(UnknownEvent, match="nowhere else"):
            GaussianEvent(kind, 1.0, wrong)


def test_an_event_costs_what_it_says(query: MakeQuery) -> None:
    event = query(multiplier=4.0).event()

    assert event.mu == 0.25
    assert event.units == 2**60
    assert GaussianEvent("gradient", 3.0, Account.TRAINING).units == 2**64 // 9 + 1  # up, never down


def test_event_json_round_trip(query: MakeQuery) -> None:
    event = query(multiplier=0.1 + 0.2).event()

    assert events.from_json(event.to_json()) == event


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"kind": "gradient", "multiplier": "2.0"},
        {"kind": "gradient", "multiplier": "2.0", "account": "training", "module_name": "os"},
        {"kind": "gradient", "multiplier": 2.0, "account": "training"},
        {"kind": "gradient", "multiplier": "2.00", "account": "training"},
        {"kind": "gradient", "multiplier": "nan", "account": "training"},
        {"kind": "gradient", "multiplier": "inf", "account": "training"},
        {"kind": "gradient", "multiplier": "-2.0", "account": "training"},
        {"kind": "gradient", "multiplier": "two", "account": "training"},
        {"kind": "gradient", "multiplier": "2.0", "account": "petty cash"},
        {"kind": "gradient", "multiplier": "2.0", "account": "holdout"},
        {"kind": "os.system", "multiplier": "2.0", "account": "training"},
    ],
)
def test_foreign_event_json_is_refused(data: st.DataObject) -> None:
    with pytest.raises(UnknownEvent):
        events.from_json(data)


def test_queries_are_hashable_and_frozen(query: MakeQuery) -> None:
    assert hash(query()) == hash(query())
    with pytest.raises(AttributeError):
        query().length = 3
    assert isinstance(query(), Query)


def test_a_sampled_query_costs_a_sampled_event(query: MakeQuery) -> None:
    assert query(multiplier=2.0, sampling_probability=0.25).event() == events.event(
        "gradient", 2.0, sampling_probability=0.25
    )


@pytest.mark.parametrize("square", [1, 2, 3, 6, 1.25, 1.0625, Fraction(17, 16), 136, 2**40 + 1])
def test_a_norm_never_rounds_down(square: float | Fraction) -> None:
    root = norm(square)

    assert Fraction(root) ** 2 >= Fraction(square)
    assert Fraction(math.nextafter(root, 0)) ** 2 < Fraction(square)


def test_public_bytes_tell_every_constant_apart() -> None:
    constants: list[dict[str, object]] = [
        {"edges": (0.1, 0.2)},
        {"edges": (0.1, math.nextafter(0.2, 1))},
        {"edges": ((0.1,), 0.2)},
        {"edges": (1, 2)},
        {"edges": (1.0, 2.0)},
        {"edges": "0.1"},
        {"other": (0.1, 0.2)},
        {},
    ]

    assert len({public_bytes("Histogram", c) for c in constants}) == len(constants)
    assert public_bytes("Histogram", {"a": 1, "b": 2}) == public_bytes("Histogram", {"b": 2, "a": 1})
    assert public_bytes("Histogram", {}) != public_bytes("Quantiles", {})
    with pytest.raises(MisuseError, match="Histogram"):
        public_bytes("Histogram", {"table": object()})


def test_a_release_of_a_kind_that_is_not_on_the_list_has_no_query() -> None:
    with pytest.raises(MisuseError, match="not on the list"):
        Histogram("x", (0.0,), kind="cox").query(1.0, 100)


def test_doctests() -> None:
    assert doctest.testmod(queries).failed == 0
