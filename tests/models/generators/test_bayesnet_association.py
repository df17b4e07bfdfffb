"""Log-linear families: the pairs that were counted, nothing beyond, and parents that are worth their numbers."""

from itertools import combinations

import numpy as np
import pytest

from models.data import Float64
from models.generators.bayesnet.association import Associations
from models.generators.bayesnet.entropy import entropy, fitted

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def counted(codes: Ints, levels: tuple[int, ...], *more: tuple[int, ...], prior: float = 1e-6) -> Associations:
    tables = {}
    for columns in [*combinations(range(len(levels)), 2), *more]:
        tables[columns] = np.zeros([levels[c] for c in columns])
        np.add.at(tables[columns], tuple(codes[:, c] for c in columns), 1)
    shares = tuple(np.full(width, 1.0 / width) for width in levels)
    return Associations(tables, shares, prior)


def cohort(n: int) -> tuple[Ints, tuple[int, ...]]:
    """a is followed by b and c; d is their exclusive or; e is alone."""
    rng = np.random.default_rng(5)
    a = rng.integers(0, 3, n)
    b = (rng.random(n) < 0.2 + 0.3 * a).astype(np.int64)
    c = (rng.random(n) < 0.7 - 0.2 * a).astype(np.int64)
    e = rng.integers(0, 2, n)
    return np.stack([a, b, c, b ^ c, e], axis=1), (3, 2, 2, 2, 2)


def extended(known: Associations, child: int, parents: tuple[int, ...], **more: float) -> tuple[int, ...]:
    limits = {"most": 3, "candidates": 4, "cells": 500, "penalty": 1.0} | more
    before = tuple(c for c in range(5) if c != child)
    return known.extended(child, parents, before, **limits)  # type: ignore[arg-type]


def test_a_family_has_the_pairs_that_were_counted() -> None:
    codes, levels = cohort(5000)
    known = counted(codes, levels)
    table = known.joint((0, 1, 2, 3), ())
    for pair in combinations(range(4), 2):
        rest = tuple(axis for axis in range(4) if axis not in pair)
        assert np.abs(table.sum(axis=rest) - known.counts[pair] / 5000).sum() < 1e-3


def test_a_table_counted_together_is_kept_and_pairs_alone_cannot_say_it() -> None:
    codes, levels = cohort(5000)
    known = counted(codes, levels, (1, 2, 3))
    truth = known.counts[1, 2, 3] / 5000
    assert np.abs(known.joint((0, 1, 2, 3), (1, 2, 3)).sum(axis=0) - truth).sum() < 1e-3
    assert np.abs(known.joint((1, 2, 3), ()) - truth).sum() > 0.1


def test_parents_are_those_that_say_something() -> None:
    known = counted(*cohort(5000))
    assert extended(known, 0, ()) == (1, 2, 3)
    assert extended(known, 1, ()) == (0,)  # given a, c says nothing more
    assert extended(known, 4, ()) == ()
    assert len(extended(known, 0, (), most=1)) == 1
    assert len(extended(known, 0, (), cells=11)) == 1  # 3 · 2 · 2 are 12
    assert len(extended(known, 0, (), candidates=1)) == 3
    assert extended(known, 0, (), penalty=1e4) == ()


def test_nobody_counted_falls_back_on_the_shares() -> None:
    levels = (3, 2, 2, 2, 2)
    known = counted(np.zeros((0, 5), dtype=np.int64), levels)
    assert np.allclose(known.joint((0, 1), ()), 1 / 6)
    assert extended(known, 1, ()) == ()


def test_fitting_two_tables_of_two_axes() -> None:
    one, other = np.array([[0.3, 0.2], [0.1, 0.4]]), np.array([[0.25, 0.15], [0.35, 0.25]])
    found: Float64 = fitted((2, 2, 2), {(0, 1): one, (1, 2): other})
    # Given the middle axis the outer ones have nothing to do with each other.
    expected = one[:, :, None] * other[None] / other.sum(axis=1)[None, :, None]
    assert np.allclose(found, expected, atol=1e-9)
    assert entropy(found) == pytest.approx(-(expected * np.log(expected)).sum())
