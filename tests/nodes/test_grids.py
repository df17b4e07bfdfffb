"""The integers of a round: the wide lattice as before, narrow lanes that are proven to fit, and whose noise counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import noise_shares
from dp.queries import Account, Query
from models.errors import NotPerPatient
from nodes.grids import SHARES, grid, inflation, narrow_variance
from secagg import quantize
from secagg.errors import LaneOverflow
from secagg.lanes import WIDTHS
from secagg.manifest import Manifest, Mode, Noise
from secagg.masks import Keystream
from secagg.quantize import LEAST_NOISE
from tests.federation import manifest
from tests.sweeps import examples

QUERY = Query("gradient", 0, 12, 3.0, 16.0, Account.TRAINING, 256)
SILENT = manifest(5, 0, noise=Noise.NONE, minimum_roster=5, roster_changes=0)


def stream(number: int = 1) -> Keystream:
    return Keystream(bytes([number]) * 32)


def test_the_wide_lattice_is_what_dp_says_bit_for_bit() -> None:
    """A study that names neither lanes nor a noise mode uploads the same integers as ever."""
    of = manifest(5, 1)
    values = np.linspace(-7.0, 7.0, 12)
    lattice = noise_shares.lattice(QUERY, 5, honest=4)

    upload = grid(of, QUERY, 5).encode(values, QUERY, stream())

    expected = noise_shares.encode(values, QUERY, lattice) + noise_shares.draw(stream(), 12)
    assert np.array_equal(upload, expected)
    terms = grid(of, QUERY, 5).terms(QUERY)
    assert (terms.steps, terms.honest, terms.share_variance) == (lattice.steps, 4, lattice.share_variance)


def test_updates_have_their_noise_inside_or_none_and_are_refused_a_share() -> None:
    """A study with local noise sums updates as they are; nothing else of it is summed without noise."""
    update, newton = replace(QUERY, kind="update"), replace(QUERY, kind="newton")
    local = manifest(5, 1, noise=Noise.LOCAL)
    values = np.linspace(-7.0, 7.0, 12)

    terms = grid(local, update, 5).terms(update)

    assert (terms.share_variance, terms.honest) == (0, 1)
    exact = grid(local, update, 5).encode(values, update, stream())
    assert np.array_equal(exact, grid(SILENT, update, 5).encode(values, update, stream()))
    assert grid(local, QUERY, 5).terms(QUERY).share_variance > 0
    for of, query in ((manifest(5, 1), update), (manifest(5, 1), newton), (local, newton)):
        with pytest.raises(NotPerPatient, match="no sum over patients"):
            grid(of, query, 5)


@pytest.mark.parametrize("mode", Mode)
def test_local_noise_is_whole_at_every_site(mode: Mode) -> None:
    """The noise of one site alone is z times what one of its patients moves."""
    of = manifest(5, 1, mode=mode, noise=Noise.LOCAL)
    terms = grid(of, QUERY, 5).terms(QUERY)

    alone = (terms.share_variance**0.5) / terms.steps

    assert terms.honest == 1
    assert alone == pytest.approx(QUERY.multiplier, rel=1e-5)
    assert alone >= QUERY.multiplier
    assert inflation(of) == pytest.approx(5**0.5)


def test_without_noise_the_sum_is_exact_to_a_step() -> None:
    of, values = SILENT, np.linspace(-3.0, 3.0, 12)
    rules = grid(of, QUERY, 5)

    upload = rules.encode(values, QUERY, stream())

    assert rules.terms(QUERY).share_variance == rules.terms(QUERY).honest == 0
    np.testing.assert_allclose(rules.decode(np.int64(5) * upload, QUERY), 5 * values, atol=3 * rules.step(QUERY))
    assert rules.step(QUERY) < 1e-9
    assert inflation(of) == 1.0


def test_without_noise_even_the_largest_study_has_a_fine_lattice() -> None:
    of = manifest(255, 0, noise=Noise.NONE, minimum_roster=255, roster_changes=0)
    terms = grid(of, replace(QUERY, patient_cap=2**21), 255).terms(QUERY)

    assert terms.steps >= 2**17
    assert terms.total_bound < 2**47


SIZES: dict[str, Any] = {
    "bits": st.sampled_from([12, 16, 21, 32]),
    "sites": st.integers(4, 40),
    "mode": st.sampled_from(list(Mode)),
    "noise": st.sampled_from([Noise.DISTRIBUTED, Noise.LOCAL]),
    "cap": st.integers(1, 2**14),
    "multiplier": st.floats(0.5, 200.0),
    "length": st.integers(1, 10**6),
}


@settings(max_examples=examples(60), deadline=None)
@given(**SIZES)
def test_a_plan_for_narrow_lanes_fits_every_roster_or_is_refused(
    bits: int, sites: int, mode: Mode, noise: Noise, cap: int, multiplier: float, length: int
) -> None:
    """The sum of every allowed roster fits its lane, with at least the noise that is charged for."""
    of = manifest(sites, 1, mode=mode, noise=noise, lane_bits=bits)
    query = replace(QUERY, multiplier=multiplier, patient_cap=cap, length=length)
    try:
        least = narrow_variance(of, length, cap, multiplier)
    except LaneOverflow:
        return
    assert least >= LEAST_NOISE**2
    for roster in range(of.minimum_roster, sites + 1):
        terms = grid(of, query, roster).terms(query)
        assert terms.total_bound < 2 ** (bits - 1)
        assert terms.honest * terms.share_variance >= least
        moved = terms.steps / 2**24 + (length**0.5) / 2**24
        assert (terms.honest * terms.share_variance) ** 0.5 >= multiplier * moved * (1 - 1e-9)
    assert terms.share_variance <= SHARES[0] ** 2


@pytest.mark.parametrize(("cap", "share"), [(256, 64), (1000, 32), (2000, 24), (2500, 16), (5000, 10)])
def test_the_share_is_the_largest_that_fits(cap: int, share: int) -> None:
    """The next one, and the full roster's sum would wrap; at the end the least that makes 16 steps at the smallest."""
    of, query = manifest(5, 1, lane_bits=16), replace(QUERY, patient_cap=cap)

    assert grid(of, query, 5).terms(query).share_variance == share**2
    if share < SHARES[0]:
        larger = min(each for each in SHARES if each > share)
        fits = {"bits": 16, "length": 12, "sites": 5, "honest": 4, "patient_cap": cap, "multiplier": 16.0}
        with pytest.raises(LaneOverflow):
            quantize.plan(**fits, share_std=larger)  # type: ignore[arg-type]
    with pytest.raises(LaneOverflow, match="smaller patient cap"):
        grid(of, replace(query, patient_cap=8192), 5)


def test_ten_bits_hold_no_noise_at_all() -> None:
    with pytest.raises(LaneOverflow, match=r"lanes of 10 bits hold 511\. Use wider lanes"):
        grid(manifest(5, 1, lane_bits=10), QUERY, 5)


@pytest.mark.parametrize("bits", [width for width in WIDTHS if width not in (10, 64)])
def test_narrow_lanes_round_by_chance_and_without_bias(bits: int) -> None:
    of = manifest(4, 1, lane_bits=bits)
    query = replace(QUERY, length=4000, patient_cap=2, multiplier=2.0)
    rules, values = grid(of, query, 4), np.full(4000, 0.3)

    uploads = [rules.encode(values, query, stream(k)) for k in range(4)]
    total = sum(upload.astype(np.int64) for upload in uploads)

    noise = rules.step(query) * (4 * rules.terms(query).share_variance) ** 0.5
    assert not np.array_equal(uploads[0], uploads[1])
    assert rules.decode(total, query).mean() == pytest.approx(1.2, abs=5 * noise / 4000**0.5)
    assert rules.decode(total, query).std() == pytest.approx(noise, rel=0.1)


def test_what_a_sum_holds_beside_the_counted_noise() -> None:
    """The bound for intervals: mode A is worst at the smallest roster, mode B when everybody survives."""

    def of(**changes: Any) -> Manifest:
        return manifest(5, 1, **changes)

    assert inflation(of()) == pytest.approx((4 / 3) ** 0.5)
    assert inflation(of(mode=Mode.B)) == pytest.approx((5 / 3) ** 0.5)
    assert (4 / 3) ** 0.5 < inflation(of(lane_bits=16)) < 1.02 * (4 / 3) ** 0.5
