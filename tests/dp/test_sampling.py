"""Poisson sampling: secret coins, the probability that is accounted, and nothing of a shuffled batch."""

import random
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from dp.errors import ConfigError
from dp.sampling import FULL_BATCH, Poisson


def test_full_batch_is_everybody() -> None:
    assert FULL_BATCH.draw(5) is None
    assert FULL_BATCH.probability == 1.0


def test_a_coin_is_sixty_four_bits_below_the_threshold() -> None:
    threshold = Poisson(0.25, lambda n: b"").threshold
    words = np.array([0, threshold - 1, threshold, 2**64 - 1], dtype="<u8")

    assert Poisson(0.25, lambda n: words.tobytes()[:n]).draw(4).tolist() == [0, 1]


@pytest.mark.parametrize("q", [0.1, 1 / 3, 0.7, 2.0**-39, 1 - 2.0**-53])
def test_the_probability_is_never_above_the_accounted_one(q: float) -> None:
    real = Fraction(Poisson(q, lambda n: b"").threshold, 2**64)

    assert Fraction(q) - Fraction(1, 2**64) < real <= Fraction(q)


def test_samples_are_binomial_and_independent() -> None:
    sampler = Poisson(0.3, random.Random(4).randbytes)
    taken = np.zeros((400, 100), dtype=bool)
    for row in taken:
        row[sampler.draw(100)] = True

    sizes = taken.sum(1)
    assert stats.binomtest(int(taken.sum()), taken.size, 0.3).pvalue > 1e-4
    assert sizes.var() == pytest.approx(21.0, rel=0.4)  # a batch of one size would have none
    assert abs(np.corrcoef(taken[:-1].ravel(), taken[1:].ravel())[0, 1]) < 0.03


def test_an_empty_table_takes_no_coins() -> None:
    asked = []
    sampler = Poisson(0.5, lambda n: asked.append(n) or b"")

    assert sampler.draw(0).tolist() == []
    assert asked == [0]


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 1.5, float("nan"), 2.0**-41])
def test_the_range(q: float) -> None:
    with pytest.raises(ConfigError, match="sampling probability"):
        Poisson(q, lambda n: b"")


def test_the_coins_are_not_shown() -> None:
    assert "randbytes" not in repr(Poisson(0.5, random.Random(1).randbytes))
