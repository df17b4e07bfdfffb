"""The lattice's promise: what leaves is at least as noisy as the query says, on every host alike."""

import hashlib
from math import isqrt
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import noise_shares
from dp.errors import ConfigError, MisuseError
from dp.events import ACCOUNT_OF
from dp.noise_shares import SHARE_BOUND, SHARE_VARIANCE, decode, draw, encode, lattice
from dp.queries import Keystream, Query
from dp.rows import clipped_rows
from tests.sweeps import examples

from .conftest import MakeQuery


def test_constants() -> None:
    assert SHARE_VARIANCE == 4096 * (1024**5 - 1) // 1023
    assert SHARE_BOUND == 1024 * (32**5 - 1) // 31


@settings(max_examples=examples(150), deadline=None)
@given(
    length=st.integers(1, 2**20),
    sensitivity=st.floats(1e-6, 1e6),
    multiplier=st.floats(0.5, 1e4),
    cap=st.integers(1, 20_000),
    roster=st.integers(3, 24),
    honest=st.integers(2, 24),
)
def test_the_realised_multiplier_is_at_least_the_declared_one(
    *, length: int, sensitivity: float, multiplier: float, cap: int, roster: int, honest: int
) -> None:
    query = Query("gradient", 0, length, sensitivity, multiplier, ACCOUNT_OF["gradient"], cap)
    try:
        found = lattice(query, roster, honest=honest)
    except ConfigError:
        return

    def realised(steps: int) -> Any:
        gamma = cap * mpmath.mpf(2) ** -53
        # float64 summation, and the two roundings on the way to the lattice
        moved = steps * (1 + 2 * cap * gamma + 4 * cap * mpmath.mpf(2) ** -53) + mpmath.sqrt(length)
        return mpmath.sqrt(mpmath.mpf(SHARE_VARIANCE) * honest) / moved

    with mpmath.workdps(60):
        assert realised(found.steps) >= multiplier
        # and not wasteful: two steps more would break it (but for the allowance of clamped cohorts)
        assert realised(found.steps + 2) * (1 - mpmath.mpf("1e-4")) < multiplier
    assert found.multiplier(query) >= multiplier
    assert found.honest == honest
    assert found.clamp == cap * found.steps
    assert found.total_bound == roster * (found.clamp + SHARE_BOUND) < 2**47


def test_a_bigger_roster_means_finer_steps_not_more_noise(query: MakeQuery) -> None:
    six, eight = lattice(query(), 6, honest=5), lattice(query(), 8, honest=7)

    assert eight.steps > six.steps
    for found, honest in ((six, 5), (eight, 7)):
        assert found.noise_std(query(), honest) == pytest.approx(17.3 * 3.0, rel=1e-6)


def test_known_lattice(query: MakeQuery) -> None:
    """Pinned: sites of two versions must agree to the last step."""
    found = lattice(query(length=7500), 6, honest=5)

    assert (found.steps, found.total_bound) == (8678139, 266994441744)
    # by hand: floor((σ_i √5 / 17.3 − √7500) / (1 + …))
    assert found.steps == int((isqrt(SHARE_VARIANCE * 5) / 17.3 - 7500**0.5) / (1 + 2 * 5001 * 5175 / 2**53))


@pytest.mark.parametrize(("roster", "honest"), [(2, 1), (1, 1), (6, 1), (6, 7), (0, 0)])
def test_two_honest_sites_at_least(query: MakeQuery, roster: int, honest: int) -> None:
    with pytest.raises(ConfigError, match="honest"):
        lattice(query(), roster, honest=honest)


def test_shares_that_may_drop_out_are_not_counted_on(query: MakeQuery) -> None:
    """Six sites, one colluding: all of them must be in the sum, or any five of them."""
    everybody, survivors = lattice(query(), 6, honest=5), lattice(query(), 6, honest=4)

    for found in (everybody, survivors):
        assert found.noise_std(query(), found.honest) == pytest.approx(17.3 * 3.0, rel=1e-6)
    assert survivors.noise_std(query(), 6) > everybody.noise_std(query(), 6)
    assert survivors.total_bound == 6 * (survivors.clamp + SHARE_BOUND)


def test_a_sum_that_may_leave_the_tag_range_names_the_ways_out(query: MakeQuery) -> None:
    with pytest.raises(ConfigError, match=r"lower patient_cap, lower epsilon .* fewer sites"):
        lattice(query(multiplier=0.05, patient_cap=100_000), 16, honest=14)


def test_noise_too_large_for_the_length(query: MakeQuery) -> None:
    with pytest.raises(ConfigError, match="fewer coordinates"):
        lattice(query(multiplier=1e8, length=10_000), 6, honest=5)


def test_rounding_is_to_the_nearest_step_and_back(query: MakeQuery, keystream: Keystream) -> None:
    q = query(length=1000)
    found = lattice(q, 6, honest=5)
    values = np.frombuffer(keystream(8000), "<i8") * 2.0**-55  # ±256

    error = decode(encode(values, q, found), q, found) - values

    assert np.abs(error).max() <= 3.0 / found.steps * 0.5000001


def test_encode_clamps_to_the_public_cap(query: MakeQuery) -> None:
    q = query(length=4)
    found = lattice(q, 6, honest=5)
    out = encode(np.array([1e300, -1e300, 1.7e308, 0.0]), q, found)

    assert out.tolist() == [found.clamp, -found.clamp, found.clamp, 0]


@pytest.mark.parametrize("length", [1, 32_767, 32_768, 32_769, 70_001])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e300])
def test_encode_is_clip_then_rint_whatever_the_blocks(query: MakeQuery, length: int, scale: float) -> None:
    q = query(length=length, patient_cap=50)
    found = lattice(q, 6, honest=5)
    values = np.random.default_rng(length).standard_normal(length) * scale
    values[length // 2] = found.clamp * 3.0 / found.steps * 1.5  # one beyond the clamp, among small ones
    values[-1] = 2.5 * 3.0 / found.steps

    with np.errstate(over="ignore"):
        expected = np.rint(np.clip(values * (found.steps / 3.0), -found.clamp, found.clamp)).astype(np.int64)

    kept = values.copy()
    assert encode(values, q, found).tolist() == expected.tolist()
    assert values.tolist() == kept.tolist()


@pytest.mark.parametrize("place", [0, 40_000])
@pytest.mark.parametrize("rest", [0.0, 1e300])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found_wherever_it_is(query: MakeQuery, place: int, rest: float, bad: float) -> None:
    q = query(length=40_001)
    values = np.full(40_001, rest)
    values[place] = bad
    with pytest.raises(MisuseError, match="not finite"):
        encode(values, q, lattice(q, 6, honest=5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_encode_refuses_what_clipping_should_have_removed(query: MakeQuery, bad: float) -> None:
    q = query(length=2)
    with pytest.raises(MisuseError, match="not finite"):
        encode(np.array([bad, 0.0]), q, lattice(q, 6, honest=5))


def test_shapes_and_types_are_checked(query: MakeQuery) -> None:
    q = query(length=2)
    found = lattice(q, 6, honest=5)
    for values in (np.zeros(3), np.zeros((2, 1)), np.zeros(2, dtype=np.float32)):
        with pytest.raises(MisuseError, match="expected float64"):
            encode(values, q, found)
    for total in (np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int32)):
        with pytest.raises(MisuseError, match="expected int64"):
            decode(total, q, found)


@pytest.mark.parametrize("value", [2**62, -(2**62), -(2**63)])
def test_decode_refuses_what_no_roster_can_sum(query: MakeQuery, value: Any) -> None:
    q = query(length=2)
    with pytest.raises(MisuseError, match="outside the proven bound"):
        decode(np.array([0, value]), q, lattice(q, 6, honest=5))


def test_decode_is_two_ieee_operations(query: MakeQuery) -> None:
    q = query(length=1, sensitivity=0.1)
    found = lattice(q, 6, honest=5)

    assert decode(np.array([123_456_789_012]), q, found)[0] == 123_456_789_012 * 0.1 / found.steps


def test_sums_commute_with_the_lattice(query: MakeQuery, keystream: Keystream) -> None:
    """Σ encode(x_i) decodes to Σ x_i within half a step per site: no wrap, no drift."""
    q = query(length=300)
    found = lattice(q, 6, honest=5)
    sites = [np.frombuffer(keystream(2400), "<i8") * 2.0**-55 for _ in range(6)]
    total = sum(encode(site, q, found) for site in sites)

    assert np.abs(decode(total, q, found) - sum(sites)).max() <= 6 * 0.5000001 * 3.0 / found.steps


def test_every_share_has_the_fixed_variance(keystream: Keystream) -> None:
    shares = np.array([draw(keystream, 20_000) for _ in range(6)])
    total = shares.sum(axis=0) / (6 * SHARE_VARIANCE) ** 0.5

    assert abs(total.var() - 1) < 4 * (2 / total.size) ** 0.5


def test_the_noise_of_a_full_roster(query: MakeQuery, keystream: Keystream) -> None:
    q = query(length=50_000)
    found = lattice(q, 6, honest=5)
    total = sum(draw(keystream, q.length) for _ in range(6))
    std = decode(total, q, found).std()

    assert std == pytest.approx(found.noise_std(q, 6), rel=0.015)
    assert found.noise_std(q, 6) == pytest.approx(17.3 * 3.0 * (6 / 5) ** 0.5, rel=1e-4)


@settings(max_examples=examples(100), deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 40), d=st.integers(1, 30), bound=st.floats(1e-3, 1e3))
def test_lattice_sensitivity_of_neighbouring_hospitals(seed: int, n: int, d: int, bound: float) -> None:
    """From the rows of a hospital to its integers, one patient moves at most what is accounted."""
    rng = np.random.default_rng(seed)
    q = Query("gradient", 0, d, bound, 2.0, ACCOUNT_OF["gradient"], 50)
    found = lattice(q, 4, honest=3)
    rows = rng.standard_normal((n, d)) * bound * 10.0 ** rng.integers(-3, 4)
    change = encode(clipped_rows(rows, bound), q, found) - encode(clipped_rows(rows[1:], bound), q, found)
    accounted = found.steps * noise_shares._inflation(q) + d**0.5

    assert sum(int(c) ** 2 for c in change) <= accounted**2


def test_a_hospital_above_its_cap_is_clamped_not_refused(query: MakeQuery) -> None:
    q = query(length=2, patient_cap=3)
    found = lattice(q, 4, honest=3)
    out = encode(clipped_rows(np.full((10, 2), 5.0), 3.0), q, found)

    assert out.tolist() == [found.clamp] * 2


def test_known_share() -> None:
    """Pinned: one stream of bytes gives one share, on every host and in every version."""
    stream = hashlib.shake_256(b"haemfed known answer").digest(20_000)
    position = 0

    def keystream(n: int) -> bytes:
        nonlocal position
        position += n
        return stream[position - n : position]

    share = draw(keystream, 1000)

    assert share[:4].tolist() == [-57719334, -28309143, -7637318, -109540010]
    assert hashlib.sha256(share.astype("<i8").tobytes()).hexdigest() == (
        "2fccdc39dfdab287f55d21f7a70de95364afccebecf276e019bf07fbafba96ff"
    )


@settings(max_examples=examples(60), deadline=None)
@given(
    length=st.integers(1, 2**16), multiplier=st.floats(0.5, 1e3), cap=st.integers(1, 5000), roster=st.integers(1, 24)
)
def test_local_noise_is_one_share_counted_alone(*, length: int, multiplier: float, cap: int, roster: int) -> None:
    query = Query("gradient", 0, length, 3.0, multiplier, ACCOUNT_OF["gradient"], cap)
    try:
        found = noise_shares.local_lattice(query, roster)
    except ConfigError:
        return
    assert (found.honest, found.share_variance) == (1, SHARE_VARIANCE)
    assert found.multiplier(query) >= multiplier
    assert found.noise_std(query, 1) >= 3.0 * multiplier
    assert found.total_bound == roster * (cap * found.steps + SHARE_BOUND) < 2**47


@given(cap=st.integers(1, 2**21), roster=st.integers(1, 255))
def test_a_lattice_without_noise_is_the_finest_that_fits(cap: int, roster: int) -> None:
    query = Query("gradient", 0, 3, 3.0, 1.0, ACCOUNT_OF["gradient"], cap)
    found = noise_shares.exact_lattice(query, roster)

    assert (found.honest, found.share_variance) == (0, 0)
    assert found.steps >= 2**18 - 2**10
    assert found.total_bound == roster * cap * found.steps < 2**47 <= roster * cap * (found.steps + 1)
    assert found.multiplier(query) == found.noise_std(query, roster) == 0.0
