"""How much of a sweep, and of chance, `make check` tries; `make test` tries all of it."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

FULL = 100
"""Examples of the profile that is in force unless `make check` says otherwise: hypothesis' own default."""


def thinned(values: Iterable[Any], every: int = 4) -> list[Any]:
    """Mark all but every n-th value of a parametrised sweep as slow; a value may be a `pytest.param`."""
    return [
        pytest.param(*each.values, id=each.id, marks=[*each.marks, *[pytest.mark.slow] * (i % every > 0)])
        for i, each in enumerate(v if hasattr(v, "marks") else pytest.param(v) for v in values)
    ]


def examples(number: int) -> int:
    """Scale a number of random examples by the profile: all of them, or in `make check` a tenth, at least five."""
    return max(min(number, 5), number * settings.default.max_examples // FULL)
