"""Fixed point and secret rounding against plain integers, and the plan against exact arithmetic."""

import doctest
import hashlib
import re
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import lanes, quantize
from secagg.errors import ConfigError, LaneOverflow, MisuseError
from secagg.masks import Keystream
from secagg.quantize import Quantiser, plan
from tests.sweeps import examples

ONE = 1 << 24
NARROW = [bits for bits in lanes.WIDTHS if bits < 64]


class Bits:
    """A keystream that the test writes itself: one little-endian word per coordinate."""

    def __init__(self, *words: int) -> None:
        self.octets = b"".join(word.to_bytes(4, "little") for word in words)

    def into(self, octets: memoryview) -> None:
        octets[:], self.octets = self.octets[: len(octets)], self.octets[len(octets) :]


def fit(**changes: Any) -> Quantiser:
    """A plan; lanes of 10 bits hold the noise of two sites only."""
    roster = {"sites": 2, "honest": 2, "share_std": 12} if changes.get("bits") == 10 else {}
    fields: dict[str, Any] = {
        "bits": 16,
        "length": 1,
        "sites": 6,
        "honest": 5,
        "patient_cap": 100,
        "multiplier": 10.0,
        "share_std": 8,
    }
    return plan(**fields | roster | changes)


def scaled(value: float, unit: float, of: Quantiser) -> int:
    """x·2²⁴ by the contract: two rounded operations, the clamp, then the nearest whole number."""
    x = Fraction(min(max(value * (of.steps / ONE / unit), -1e300), 1e300)) * ONE
    return max(-of.clamp, min(of.clamp, round(x)))


# ---- rounding
# ---------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=examples(100))
@given(
    bits=st.sampled_from(NARROW),
    values=st.lists(st.floats(-1e3, 1e3) | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
    unit=st.floats(1e-6, 1e6),
    words=st.lists(st.sampled_from([0, ONE - 1, ONE, 2**32 - 1]) | st.integers(0, 2**32 - 1), min_size=9, max_size=9),
    cap=st.sampled_from([1, 2, 7]),
)
def test_encode_is_the_floor_of_x_plus_u(
    *, bits: int, values: list[float], unit: float, words: list[int], cap: int
) -> None:
    of = fit(bits=bits, length=len(values), patient_cap=cap)

    out = of.encode(np.array(values), unit, Bits(*words))

    assert out.dtype == (np.int16 if bits <= 16 else np.int32)
    assert out.tolist() == [
        (scaled(value, unit, of) + word % ONE) >> 24 for value, word in zip(values, words, strict=False)
    ]


@settings(deadline=None, max_examples=examples(60))
@given(st.floats(-2.0, 2.0), st.integers(-3, 3))
def test_rounding_is_unbiased_to_the_last_bit(value: float, by: int) -> None:
    """Exactly f of the 2²⁴ values of u round x up, f = x's fraction in 2⁻²⁴: those from 2²⁴ − f on."""
    of = fit()
    x = scaled(value, 1.0, of)
    floor, fraction = x >> 24, x % ONE
    u = ONE - fraction + by
    if 0 <= u < ONE:
        assert of.encode(np.array([value]), 1.0, Bits(u)).tolist() == [floor + (u >= ONE - fraction)]
    for u, up in ((0, 0), (ONE - 1, fraction > 0)):
        assert of.encode(np.array([value]), 1.0, Bits(u)).tolist() == [floor + up]


def test_the_mean_of_many_is_the_value() -> None:
    of = fit(length=400_000)
    for value in (0.3, -0.7, 1.01):
        out = of.encode(np.full(400_000, value), 1.0, Keystream(b"m" * 32))
        x = value * of.steps / ONE
        assert abs(out.mean() - x) < 5 * 0.5 / 400_000**0.5
        assert np.abs(out - x).max() < 1


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(-700, 700), st.integers(0, ONE - 1))
def test_whole_numbers_stay(whole: int, u: int) -> None:
    of = Quantiser(16, 1, 6, 5, 100, 8, ONE, 700 * ONE, 6 * (700 + 128))
    assert of.encode(np.array([float(whole)]), 1.0, Bits(u)).tolist() == [whole]


@settings(deadline=None, max_examples=examples(60))
@given(
    st.lists(st.tuples(st.floats(-200, 200), st.floats(-200, 200), st.integers(0, ONE - 1)), min_size=1, max_size=20)
)
def test_under_the_same_bits_encoding_is_monotone(triples: list[tuple[float, float, int]]) -> None:
    of = fit(length=len(triples))
    low, high = (np.array([choose(a, b) for a, b, _ in triples]) for choose in (min, max))
    words = [u for _, _, u in triples]
    assert (of.encode(low, 1.0, Bits(*words)) <= of.encode(high, 1.0, Bits(*words))).all()


@pytest.mark.parametrize("bits", NARROW)
@pytest.mark.parametrize("value", [1e300, 1.7e308, 1e9])
def test_the_clamp_and_the_bound_are_tight(bits: int, value: float) -> None:
    """The worst rounding of the worst vector, plus the largest noise, is the planned bound, not one less."""
    of = fit(bits=bits, length=2, patient_cap=3)
    assert of.clamp == 3 * of.steps
    assert of.clamp % ONE

    up = of.encode(np.array([value, -value]), 1.0, Bits(ONE - 1, ONE - 1)).tolist()
    down = of.encode(np.array([value, -value]), 1.0, Bits(0, 0)).tolist()

    most = -(-of.clamp // ONE)
    assert (up, down) == ([most, 1 - most], [most - 1, -most])
    assert of.total_bound == of.sites * (most + 16 * of.share_std) < 1 << (bits - 1)


def test_the_largest_clamp_is_exact_and_the_next_one_refused() -> None:
    """Wide lanes have room for more than float64 rounds exactly."""
    fields = {"bits": 32, "sites": 3, "honest": 3, "share_std": 128, "multiplier": 0.5}
    largest = 2**27 - 1
    cap = largest * ONE // fit(**fields, patient_cap=300_000).steps
    of = fit(**fields, patient_cap=cap)
    with pytest.raises(LaneOverflow, match=f"lanes of 32 bits hold {3 * (largest + 16 * 128)}"):
        fit(**fields, patient_cap=cap + 1)
    assert 3 * (largest + 16 * 128) < 2**31 - 1

    exact = Quantiser(32, 4, 3, 3, 1, 128, ONE, largest * ONE, 3 * (largest + 16 * 128))
    values = np.array([2.0**27, -(2.0**27), largest - 2.0**-24, 2.0**-24 - largest])
    assert exact.encode(values, 1.0, Bits(*[ONE - 1] * 4)).tolist() == [largest, -largest, largest, 1 - largest]
    assert exact.encode(values, 1.0, Bits(0, 0, 0, 0)).tolist() == [largest, -largest, largest - 1, -largest]
    assert of.clamp > (largest - 500) * ONE


def test_one_coordinate_beyond_the_clamp_is_enough() -> None:
    """The proof that nothing reaches the clamp must not be satisfied by an average."""
    of = fit(length=1000, patient_cap=5)
    clamp = of.clamp / ONE
    for x in (clamp * (1 + 2**-30), clamp, clamp * (1 - 2**-30), clamp * 3, clamp * 40):
        values = np.zeros(1000)
        values[777] = x * ONE / of.steps
        expected = [0] * 1000
        expected[777] = scaled(values[777], 1.0, of) >> 24
        assert of.encode(values, 1.0, Bits(*[0] * 1000)).tolist() == expected


@pytest.mark.parametrize("length", [quantize._BLOCK - 1, quantize._BLOCK, quantize._BLOCK + 1, 2 * quantize._BLOCK + 5])
@pytest.mark.parametrize("bits", [16, 21])
def test_blocks_do_not_show(length: int, bits: int) -> None:
    of = fit(length=length, bits=bits, patient_cap=2)
    values = np.random.default_rng(length).uniform(-4, 4, length)
    words = np.frombuffer(Keystream(b"b" * 32)(4 * length), "<u4") & (ONE - 1)

    out = of.encode(values, 1.0, Keystream(b"b" * 32))

    x = np.clip(np.rint(values * (of.steps / ONE) * ONE), -of.clamp, of.clamp).astype(np.int64)
    assert np.array_equal(out, (x + words) >> 24)


def test_the_input_is_left_alone() -> None:
    values = np.array([1e9, 0.5])
    fit(length=2).encode(values, 1.0, Bits(0, 0))
    assert values.tolist() == [1e9, 0.5]


def test_known_answer() -> None:
    """Pinned: one key gives one vector, on every host and in every version."""
    of = fit(length=70_000, sites=10, honest=8, share_std=6, multiplier=7.5, patient_cap=50)
    assert (of.steps, of.clamp, of.total_bound) == (37962241, 1898112050, 2100)
    values = (np.arange(70_000) * 2654435761 % 2**28 - 2**27) * 2.0**-20  # ±128, no function that hosts compute apart

    out = of.encode(values, 3.0, Keystream(bytes(range(32))))

    words = np.frombuffer(Keystream(bytes(range(32)))(4 * 70_000), "<u4").tolist()
    assert out.tolist() == [
        (scaled(value, 3.0, of) + word % ONE) >> 24 for value, word in zip(values.tolist(), words, strict=True)
    ]
    assert out[:12].tolist() == [-96, 75, 54, 32, 10, -11, -32, -54, -75, 96, 74, 53]
    assert hashlib.sha256(out.astype("<i2").tobytes()).hexdigest() == (
        "a668416f3ccc08b38337ad02e46e9a9e0aaf63cc85c40a0a294da2f3ada1f3f7"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, quantize._BLOCK])
@pytest.mark.parametrize("rest", [0.0, 1e300])
def test_what_is_not_finite_is_refused(bad: float, place: int, rest: float) -> None:
    values = np.full(quantize._BLOCK + 1, rest)
    values[place] = bad
    with pytest.raises(MisuseError, match="not finite"):
        fit(length=len(values)).encode(values, 1.0, Keystream(b"n" * 32))


def test_shapes_types_and_units_are_checked() -> None:
    of = fit(length=2)
    for values in (np.zeros(3), np.zeros((2, 1)), np.zeros(2, dtype=np.float32)):
        with pytest.raises(MisuseError, match="expected float64"):
            of.encode(values, 1.0, Bits(0, 0))
    for total in (np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int32)):
        with pytest.raises(MisuseError, match="expected int64"):
            of.decode(total, 1.0)
    for unit in (0.0, -1.0, np.nan, np.inf, 1e-320):
        with pytest.raises(MisuseError, match="no unit"):
            of.encode(np.zeros(2), unit, Bits(0, 0))
        with pytest.raises(MisuseError, match="no unit"):
            of.decode(np.zeros(2, dtype=np.int64), unit)


# ---- decoding and the way of a whole round
# ---------------------------------------------------------------------------------------------------


def test_decode_is_one_ieee_operation_and_the_inverse() -> None:
    of = fit(length=1)
    for unit in np.random.default_rng(1).uniform(0.1, 10, 50).tolist():
        assert of.decode(np.array([777]), unit)[0] == 777 / (of.steps / ONE / unit)
    assert of.noise_std(0.1, 4) == pytest.approx(2 * 8 * 0.1 * ONE / of.steps)


@pytest.mark.parametrize("sign", [1, -1])
def test_decode_refuses_what_no_roster_can_sum(sign: int) -> None:
    of = fit(length=2)
    of.decode(np.array([0, sign * of.total_bound]), 1.0)
    with pytest.raises(MisuseError, match="outside the proven bound"):
        of.decode(np.array([0, sign * (of.total_bound + 1)]), 1.0)


@pytest.mark.parametrize("bits", NARROW)
def test_a_round_of_sites_sums_in_lanes(bits: int) -> None:
    of = fit(bits=bits, length=500, patient_cap=3)
    chance = np.random.default_rng(bits)
    sites = [chance.uniform(-3, 3, 500) for _ in range(of.sites)]
    most = 16 * of.share_std
    noises = [chance.integers(-most, most + 1, 500, dtype=np.int16) for _ in range(of.sites)]
    vectors = [of.encode(v, 1.0, Keystream(bytes([i]) * 32)) + noises[i] for i, v in enumerate(sites)]

    total = lanes.unpack(sum(lanes.pack(vector, bits) for vector in vectors), 500, bits)

    assert total.tolist() == np.sum([vector.astype(np.int64) for vector in vectors], axis=0).tolist()
    lsb = ONE / of.steps
    clamped = [np.clip(v, -3, 3) for v in sites]
    assert np.abs(of.decode(total, 1.0) - sum(clamped) - sum(noises) * lsb).max() < of.sites * lsb


# ---- the plan
# ---------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=examples(60))
@given(
    bits=st.sampled_from(NARROW),
    length=st.integers(1, 2**24),
    sites=st.integers(1, 100),
    away=st.integers(0, 20),
    cap=st.integers(1, 5000),
    multiplier=st.floats(0.3, 1e4),
    std=st.integers(3, 128),
)
def test_the_realised_multiplier_is_at_least_the_planned_one(
    *, bits: int, length: int, sites: int, away: int, cap: int, multiplier: float, std: int
) -> None:
    honest = max(1, sites - away)
    try:
        of = plan(
            bits=bits,
            length=length,
            sites=sites,
            honest=honest,
            patient_cap=cap,
            multiplier=multiplier,
            share_std=std,
        )
    except ConfigError:
        return

    def realised(steps: int, *, allowance: bool) -> Any:
        # float64 summation of cap vectors and two roundings; allowance: cohorts above the cap, too
        more = (
            2 * (cap + 1) * (cap + 1 + 2 * mpmath.ceil(mpmath.sqrt(length))) if allowance else 2 * cap * cap + 4 * cap
        )
        moved = steps * (1 + more * mpmath.mpf(2) ** -53) + mpmath.sqrt(length)
        return mpmath.sqrt(honest) * std * ONE / moved

    with mpmath.workdps(60):
        assert realised(of.steps, allowance=False) >= realised(of.steps, allowance=True) >= multiplier
        assert realised(of.steps + 1, allowance=True) < multiplier * (1 + mpmath.mpf(2) ** -50)
    assert of.multiplier >= multiplier * (1 - 2**-50)
    assert honest * std**2 >= 256
    assert of.clamp == cap * of.steps <= (2**27 - 1) * ONE
    assert of.total_bound == sites * (-(-of.clamp // ONE) + 16 * std) < 2 ** (bits - 1)


@settings(deadline=None, max_examples=examples(60))
@given(st.sampled_from(NARROW), st.integers(2, 60), st.integers(3, 40), st.floats(0.5, 100))
def test_the_lane_is_used_to_its_end_and_no_further(bits: int, sites: int, std: int, multiplier: float) -> None:
    """The cap that the refusal names fits, and what is above it does not."""
    if sites * std**2 < 256:
        return
    fields = {"bits": bits, "sites": sites, "honest": sites, "share_std": std, "multiplier": multiplier}
    try:
        fit(**fields, patient_cap=2**21)
    except LaneOverflow as refusal:
        ways = re.search(
            r"Use wider lanes; or a smaller patient cap \(here (\d+)\); .*epsilon.*fewer sites", str(refusal)
        )
        assert ways
        named = int(ways[1])
        if named:
            fit(**fields, patient_cap=named)
        # A smaller cap makes the steps finer by less than a thousandth, so the named one may be that much too small.
        with pytest.raises(LaneOverflow):
            fit(**fields, patient_cap=named + 2 + named // 500)
    else:
        assert bits == 32


def test_the_refusal_gives_the_numbers() -> None:
    with pytest.raises(
        LaneOverflow,
        match=r"10 sites with at most 400 patients each, at 0\.9809 LSB per patient and noise of 6 LSB per site, may "
        r"sum to 4890; lanes of 12 bits hold 2047",
    ):
        plan(bits=12, length=10**6, sites=10, honest=8, patient_cap=400, multiplier=17.3, share_std=6)


def test_noise_that_the_accounting_does_not_cover_is_refused() -> None:
    assert fit(honest=4, share_std=8).share_std == 8
    with pytest.raises(ConfigError, match=r"3 honest sites .* 8 LSB each make 13\.9 LSB; narrow lanes need 16"):
        fit(honest=3, share_std=8)
    with pytest.raises(MisuseError, match="at least 3"):
        fit(sites=100, honest=100, share_std=2)


def test_a_multiplier_that_leaves_nothing_of_the_sum_is_refused() -> None:
    with pytest.raises(ConfigError, match="release fewer coordinates"):
        fit(multiplier=1e9, length=10**6)


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 64},
        {"bits": 20},
        {"length": 0},
        {"patient_cap": 0},
        {"patient_cap": 2**21 + 1},
        {"honest": 7},
        {"honest": 0},
        {"multiplier": 0.0},
        {"multiplier": -1.0},
        {"multiplier": np.nan},
        {"multiplier": np.inf},
    ],
)
def test_arguments_outside_their_range_are_refused(changes: Any) -> None:
    with pytest.raises(MisuseError, match=r"no plan|no narrow lanes"):
        fit(**changes)


def test_doctests() -> None:
    assert doctest.testmod(quantize, optionflags=doctest.ELLIPSIS).failed == 0
