"""Lattice, noise and releases: the noise covers what one patient moves, and everybody draws his own."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats


def query(**changes: Any) -> Any:
    from dp.queries import Account, Query

    fields: dict[str, Any] = {
        "kind": "gradient",
        "index": 0,
        "length": 64,
        "sensitivity": 3.0,
        "multiplier": 16.0,
        "account": Account.TRAINING,
        "patient_cap": 500,
    }
    return Query(**fields | changes)


def manifest(sites: int = 7, collusion: int = 2, mode: str = "A", noise: str = "distributed", bits: int = 64) -> Any:
    from secagg.manifest import Manifest, Member, Mode, Noise

    mode_ = Mode(mode)
    least = max((sites + collusion) // 2 + 1, 2 * sites // 3 + 1 if mode_ is Mode.B else 0)
    members = tuple(Member(i, f"site-{i}", bytes([i]) * 32) for i in range(1, sites + 1))
    return Manifest(bytes(32), bytes(32), members, collusion, least, 4, 100, mode_, lane_bits=bits, noise=Noise(noise))


def rosters(of: Any) -> range:
    return range(of.minimum_roster, len(of.members) + 1)


def neighbours_on_the_lattice_move_within_what_the_noise_covers() -> None:
    """The worst rounding there is: every coordinate moves by t and rounds by t + 1, so by L·C + √d in all."""
    from dp.noise_shares import encode, lattice

    for length, multiplier in ((64, 16.0), (2500, 4096.0)):
        asked = query(length=length, multiplier=multiplier)
        for honest in (2, 5):
            grid = lattice(asked, 7, honest=honest)
            step = asked.sensitivity / grid.steps
            jump = math.floor(grid.steps / math.sqrt(length))
            before = np.full(length, 10.5 * (1 - 2.0**-50)) * step
            after = before + (jump + 2.0**-40) * step
            assert Fraction(float(np.square(after - before).sum())) <= Fraction(asked.sensitivity) ** 2 * (1 + 2**-20)
            moved = encode(after, asked, grid) - encode(before, asked, grid)
            covered = Fraction(grid.share_variance * honest) / Fraction(multiplier) ** 2
            assert sum(int(m) ** 2 for m in moved) <= covered


def a_hospital_above_its_cap_is_clamped() -> None:
    """A coordinate of one site is bounded by the public cap, so a sum of all never leaves its range."""
    from dp.noise_shares import encode, lattice

    asked = query(patient_cap=3)
    grid = lattice(asked, 7, honest=5)
    for size in (0.5, 3.0, 3.1, 1e9, 1e200):
        values = np.full(64, size * asked.sensitivity)
        values[::2] *= -1
        assert np.abs(encode(values, asked, grid)).max() <= grid.clamp


def a_sum_of_all_sites_has_a_bound_and_whatever_passes_it_is_refused() -> None:
    """Largest clamped sum and largest noise of everybody fit; the realised multiplier is not below what is asked."""
    from dp.discrete_gaussian import SHARE_BOUND
    from dp.errors import MisuseError
    from dp.noise_shares import decode, lattice

    for cap, multiplier in ((3, 16.0), (2**21, 4096.0)):
        asked = query(patient_cap=cap, multiplier=multiplier)
        grid = lattice(asked, 7, honest=5)
        assert 7 * (grid.clamp + SHARE_BOUND) <= grid.total_bound < 2**47
        for sign in (-1, 1):
            total = np.zeros(64, dtype=np.int64)
            total[5] = sign * grid.total_bound
            decode(total, asked, grid)
            total[5] += sign
            with pytest.raises(MisuseError):
                decode(total, asked, grid)
        # n clipped vectors in floats, in any order, and two roundings of their sum: (n + 1)² + 2(n + 1)√d of 2⁻⁵².
        floats = 1 + Fraction((cap + 1) ** 2 + 2 * (cap + 1) * 8, 2**52)
        noise = Fraction(math.isqrt(grid.share_variance * 5 << 128), 2**64)
        moved = grid.steps * floats + 8
        assert multiplier * moved <= noise * (1 + Fraction(1, 2**50))
        assert multiplier <= grid.multiplier(asked) <= noise / moved * (1 + Fraction(1, 2**40))


def the_shares_nobody_can_do_without_make_the_whole_noise() -> None:
    """Whoever opens a sum with c friends inside it still faces z times what a patient moves, in every mode and roster.

    Mode A opens with all of a roster, mode B with any t of it: the opened sum holds at least that many shares, less c.
    """
    from nodes.grids import grid

    for mode, noise in (("A", "distributed"), ("B", "distributed"), ("A", "local"), ("B", "local")):
        for sites, collusion in ((4, 1), (7, 2), (10, 3)):
            of = manifest(sites, collusion, mode, noise)
            for roster in rosters(of):
                asked = query()
                terms = grid(of, asked, roster).terms(asked)
                opened = roster if mode == "A" else of.threshold
                left = 1 if noise == "local" else opened - collusion
                moved = Fraction(terms.steps) + Fraction(math.isqrt(64 << 40), 2**20)
                assert left * terms.share_variance >= (Fraction(asked.multiplier) * moved) ** 2, (mode, sites, roster)


def narrow_lanes_charge_for_the_least_noise_any_roster_gives() -> None:
    from nodes.grids import grid, narrow_variance

    for mode in ("A", "B"):
        of = manifest(7, 1, mode, bits=21)
        asked = query(patient_cap=64)
        charged = narrow_variance(of, 64, 64, asked.multiplier)
        for roster in rosters(of):
            terms = grid(of, asked, roster).terms(asked)
            opened = roster if mode == "A" else of.threshold
            assert charged <= (opened - 1) * terms.share_variance
            moved = Fraction(terms.steps, 2**24) + Fraction(math.isqrt(64 << 40), 2**20) / 2**24
            assert (opened - 1) * terms.share_variance >= (Fraction(asked.multiplier) * moved) ** 2


def rounding_in_narrow_lanes_is_by_chance_and_unbiased() -> None:
    """A coordinate between two steps goes up as often as it is far: else equal patients round alike and show."""
    from nodes.grids import grid
    from secagg.masks import Keystream

    asked = query(length=4000, patient_cap=64, multiplier=1.0)
    lanes = grid(manifest(7, 1, bits=21), asked, 7)
    step = lanes.step(asked)

    def masked(steps: float, secret: bytes) -> Any:
        drawn = lanes.encode(np.full(4000, steps * step), asked, Keystream(secret))
        return np.asarray(drawn, dtype=np.int64)

    for part in (0.25, 0.5, 0.9):
        # The same secret bytes give the same noise: the difference is the rounding alone.
        up = [masked(10 + part, secret) - masked(10 + 2.0**-20, secret) for secret in (b"a" * 32, b"b" * 32)]
        for each in up:
            assert set(each.tolist()) == {0, 1}
            assert stats.binomtest(int(each.sum()), 4000, part).pvalue > 1e-5
        assert stats.chi2_contingency(np.histogram2d(*up, bins=2)[0]).pvalue > 1e-5


def a_share_is_a_discrete_gaussian_down_to_its_last_digit() -> None:
    """Size as declared, low digits uniform and independent of the high ones, coordinates independent."""
    from dp.discrete_gaussian import BASE, SHARE_VARIANCE
    from dp.noise_shares import draw

    share = draw(random.Random(7).randbytes, 20_000)
    ratio = float(np.mean(np.square(share.astype(np.float64)))) / SHARE_VARIANCE
    assert abs(ratio - 1) < 5 * math.sqrt(2 / share.size)
    low = np.mod(share, BASE)
    assert stats.chisquare(np.bincount(low, minlength=BASE)).pvalue > 1e-6
    for other in (np.abs(share) // BASE**2 % BASE, np.abs(share) // BASE**3 % BASE):
        together = np.histogram2d(low, other, bins=[8, 8])[0]
        assert stats.chi2_contingency(together).pvalue > 1e-6
    centred = share / share.std()
    assert abs(float(np.mean(centred[1:] * centred[:-1]))) < 5 / math.sqrt(share.size)
    assert stats.kstest(centred, "norm").pvalue > 1e-6


def _attacked(name: str, pairs: int = 400) -> None:
    from tests.dp.adversary import attack
    from tests.dp.subjects import subjects

    (subject,) = [each for each in subjects() if each.name == name]
    finding = attack(subject, pairs, seed=1, stop_at_first=True)
    assert not finding.violations, finding.example


def no_neighbour_moves_a_concordance() -> None:
    _attacked("concordance, Harrell")


def no_neighbour_moves_marginals() -> None:
    _attacked("marginals")


def no_neighbour_moves_a_histogram() -> None:
    _attacked("histogram")


def no_neighbour_moves_a_bounded_sum() -> None:
    _attacked("bounded sum", 1500)


def no_neighbour_moves_breslow_sums() -> None:
    _attacked("breslow, absurd baseline")


def no_neighbour_moves_mixture_statistics() -> None:
    _attacked("mixture")


def no_neighbour_moves_a_survival_curve() -> None:
    _attacked("kaplan-meier")


def no_neighbour_moves_a_likelihood() -> None:
    _attacked("log-likelihood, sensible baseline")


def every_release_pays_at_its_sensitivity() -> None:
    """The query that is charged carries the proven bound, whatever the release: never less."""
    from dp.queries import Neighbours
    from dp.releases import BoundedSum, Histogram, Marginals
    from models.concordance import SENSITIVITY

    for release, bound in (
        (Marginals.all_ways(("a", "b", "c"), (2, 2, 3), 2), math.sqrt(3)),
        (Histogram("h", (0.0, 1.0)), 1.0),
        (BoundedSum("s", 2, 5.0), 5.0),
    ):
        assert release.query(4.0, 100).sensitivity >= bound * (1 - 1e-15)
        assert release.sensitivity(Neighbours.REPLACE_ONE) >= release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE)
    assert Fraction(SENSITIVITY) ** 2 >= Fraction(5, 4)


CHECKS = (
    neighbours_on_the_lattice_move_within_what_the_noise_covers,
    a_hospital_above_its_cap_is_clamped,
    a_sum_of_all_sites_has_a_bound_and_whatever_passes_it_is_refused,
    the_shares_nobody_can_do_without_make_the_whole_noise,
    narrow_lanes_charge_for_the_least_noise_any_roster_gives,
    rounding_in_narrow_lanes_is_by_chance_and_unbiased,
    a_share_is_a_discrete_gaussian_down_to_its_last_digit,
    no_neighbour_moves_a_concordance,
    no_neighbour_moves_marginals,
    no_neighbour_moves_a_histogram,
    no_neighbour_moves_a_bounded_sum,
    no_neighbour_moves_breslow_sums,
    no_neighbour_moves_mixture_statistics,
    no_neighbour_moves_a_survival_curve,
    no_neighbour_moves_a_likelihood,
    every_release_pays_at_its_sensitivity,
)
