"""Streams for tests: reproducible, and one that the test writes itself."""

import random
from typing import Protocol

import pytest

from dp.events import ACCOUNT_OF
from dp.queries import Keystream, Query
from tests.dp.books import Book, granted


class MakeQuery(Protocol):
    def __call__(self, **changes: object) -> Query: ...


@pytest.fixture
def keystream() -> Keystream:
    return random.Random(20260101).randbytes


@pytest.fixture
def query() -> MakeQuery:
    def make(**changes: object) -> Query:
        fields: dict[str, object] = {
            "kind": "gradient",
            "index": 0,
            "length": 7,
            "sensitivity": 3.0,
            "multiplier": 17.3,
            "patient_cap": 5000,
            "public": b"grid",
        } | changes
        fields.setdefault("account", ACCOUNT_OF.get(str(fields["kind"])))
        return Query(**fields)  # type: ignore[arg-type]  # a test's shorthand

    return make


@pytest.fixture
def book() -> Book:
    return granted()
