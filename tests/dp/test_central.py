"""The pooled yardstick is the federation's own arithmetic."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from dp.central import CentralSum, UnprotectedSum
from dp.errors import ConfigError
from dp.noise_shares import decode, draw, encode, lattice

from .conftest import MakeQuery


def test_pooled_sum_equals_a_federation_bit_for_bit(query: MakeQuery) -> None:
    """Sites that encode and draw alone, and a curator with all of it: the same bits come out."""
    q = query(length=40, patient_cap=50)
    found = lattice(q, 6, honest=5)
    rng = random.Random(3)
    # values on the lattice, so that rounding per site and rounding once agree
    sites = [np.array([rng.randrange(-1000, 1000) for _ in range(40)]) for _ in range(6)]
    streams = random.Random(4)
    total = sum(sites) + sum(draw(streams.randbytes, 40) for _ in range(6))
    pooled = decode(sum(sites), q, found)
    assert np.array_equal(encode(pooled, q, found), sum(sites))

    central = CentralSum(random.Random(4).randbytes, 6, 1, shares=6)

    assert np.array_equal(central(q, lambda: pooled), decode(total, q, found))
    assert central.events == [q.event()]


@pytest.mark.parametrize(("roster", "collusion", "shares", "ratio"), [(2, 0, None, 1.0), (6, 1, 6, (6 / 5) ** 0.5)])
def test_the_noise_is_what_it_says(query: MakeQuery, roster: int, collusion: int, shares: Any, ratio: float) -> None:
    q = query(length=50_000)
    out = CentralSum(random.Random(1).randbytes, roster, collusion, shares)(q, lambda: np.zeros(50_000))

    assert out.std() == pytest.approx(17.3 * 3.0 * ratio, rel=0.015)
    assert abs(out.mean()) < 5 * 17.3 * 3 / 50_000**0.5


def test_pooled_data_may_exceed_one_sites_clamp(query: MakeQuery) -> None:
    q = query(length=1, patient_cap=10, multiplier=0.5)
    out = CentralSum(random.Random(1).randbytes, 6, 1)(q, lambda: np.array([10 * 5 * 3.0]))

    assert out[0] > 120


def test_fewer_shares_than_accounted_are_refused() -> None:
    with pytest.raises(ConfigError):
        CentralSum(random.Random(1).randbytes, 6, 1, shares=4)


def test_the_entropy_is_not_printed() -> None:
    assert "randbytes" not in repr(CentralSum(random.Random(1).randbytes))


def test_unprotected_sum_says_so(query: MakeQuery) -> None:
    values = np.array([1.5, 2.5])
    out = UnprotectedSum()(query(length=2), lambda: values)

    assert out.tolist() == [1.5, 2.5]
    assert out is not values
    assert "NOT differentially private" in (UnprotectedSum.__doc__ or "")


@pytest.mark.slow
def test_the_package_is_light() -> None:
    """A site that only reads its ledger loads neither torch nor dp_accounting."""
    code = (
        "import dp, dp.ledger, dp.central, dp.rows, dp.calibration, sys;"
        "print({'torch', 'opacus', 'dp_accounting'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "set()"
