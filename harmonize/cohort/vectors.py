"""Vectors of a patient from linked feature files: bounded, pooled over slides or regions, free of their order."""

__all__ = ["pooled"]

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harmonize.cohort.choose import Cell, Notes, worst
from harmonize.cohort.gather import Found, Vector
from harmonize.errors import MisuseError
from harmonize.events import State
from harmonize.profile import FeatureVariable


def pooled(variable: FeatureVariable, found: Sequence[Found], notes: Notes) -> tuple[Vector | None, Cell]:
    """The mean over a patient's vectors, every number first set to the profile's bounds.

    | vector | |
    |---|---|
    | a number beyond `clip` | set to the bound, features-clipped |
    | NaN or infinite numbers in it | not used, features-not-finite |
    | twice the same | counts once |

    Args:
        variable: its `length` and `clip`.
        found: one fact a slide or region.
        notes: where issues go.

    Returns:
        float32[length] inside the bounds, or None; and the cell with its state (whose value says nothing).

    Raises:
        MisuseError: a source yielded a vector of another length.
    """
    missing: dict[State, Found] = {}
    used: list[Found] = []
    rows: list[NDArray[np.float64]] = []
    low, high = float(variable.clip[0]), float(variable.clip[1])
    for fact in found:
        if not fact.state.usable:
            missing.setdefault(fact.state, fact)
            continue
        if not isinstance(fact.value, np.ndarray) or len(fact.value) != variable.length:
            raise MisuseError(f"{variable.name}: a source yielded something else than {variable.length} numbers")
        row = fact.value.astype(np.float64)
        if not np.all(np.isfinite(row)):
            notes.issue("features-not-finite", fact, variable.name)
            missing.setdefault(State.INVALID, fact)
            continue
        if row.min() < low or row.max() > high:
            notes.issue("features-clipped", fact, variable.name)
        rows.append(np.clip(row, low, high) + 0.0)
        used.append(fact)
    if not rows:
        return None, worst(missing)
    # Sorted and without duplicates: a sum of doubles depends on the order of its terms.
    stack = np.unique(np.stack(rows), axis=0)
    first = min(used, key=lambda fact: fact.place)
    return stack.mean(axis=0).astype(np.float32), Cell(0.0, State.VALUE, first)
