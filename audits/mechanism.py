"""Does the trainer add the noise it claims? Residuals of a run on data without patients.

The audit hands known contributions (zeros, or synthetic vectors) to the *real* path, in one process, takes
the noisy sums that come out, subtracts what it put in, and tests what is left: it must be independent
Gaussian noise of the promised size in every coordinate and every round. Production offers no hook for this: a
path that could show a sum before its noise would be a second way out of a hospital.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import stats

from audits.errors import MisuseError
from audits.interval import Interval
from dp.queries import Float64, Query

__all__ = [
    "Conformance",
    "PathRun",
    "Test",
    "TrainingPath",
    "conformance",
    "detectable_deficit",
    "null_contributions",
    "rounds_needed",
]

FAMILY_ALPHA = 1e-3
"""Family-wise error of all tests of one run together (Bonferroni, in equal shares per test)."""

TESTS = 8


@dataclass(frozen=True)
class PathRun:
    """Several rounds through the real path.

    Attributes:
        query: query of the rounds, as it would be charged (they may differ in `index` only).
        sums: float64[rounds, d], decoded noisy sums in the unit of the query.
        roster: |R|, sites that added a share.
        honest: h, the shares that `query.multiplier` counts on.
        step: one step of the lattice in the unit of the query. Narrow lanes have steps that the shape shows.
    """

    query: Query
    sums: Float64
    roster: int
    honest: int
    step: float = 0.0

    @property
    def noise_std(self) -> float:
        """Std that the whole noise in each coordinate must have: zC·√(|R|/h)."""
        return self.query.multiplier * self.query.sensitivity * math.sqrt(self.roster / self.honest)


class TrainingPath(Protocol):
    """The path of a training step, from clipped contributions to noisy sums, without patients.

    The shell supplies it (an in-process federation of the production code); tests supply small ones.
    """

    @property
    def sites(self) -> int:
        """Number of sites that the path expects contributions for."""
        ...

    @property
    def length(self) -> int:
        """Coordinates d of one contribution."""
        ...

    def run(self, contributions: Float64) -> PathRun:
        """Send `contributions` float64[rounds, sites, d] through the path, one round after the other."""
        ...


def null_contributions(path: TrainingPath, rounds: int) -> Float64:
    """Return zeros of shape [rounds, sites, d]: the data set on which nothing hides missing noise."""
    return np.zeros((rounds, path.sites, path.length))


@dataclass(frozen=True)
class Test:
    """One test of the family: its smallest p-value over the places it looked at.

    Attributes:
        name: what was tested.
        places: how many p-values it contributed to the family.
        p: the smallest of them.
        where: the place of the smallest p-value, in words.
        rejected: p is below the test's share of the family-wise level, divided by its places.
    """

    name: str
    places: int
    p: float
    where: str
    rejected: bool


@dataclass(frozen=True)
class Conformance:
    """Outcome of the self-check; contains no patient and may leave the site.

    Attributes:
        rounds: rounds run.
        length: coordinates per round.
        family_alpha: error probability of all tests together.
        tests: every test with its smallest p-value.
        claimed_multiplier: multiplier of the query, what the ledger charged.
        multiplier: interval for the multiplier that honest sites really provide, each bound at family_alpha.
        detectable_deficit: smallest relative lack of noise that the total would show with 99 % probability.
    """

    rounds: int
    length: int
    family_alpha: float
    tests: tuple[Test, ...]
    claimed_multiplier: float
    multiplier: Interval
    detectable_deficit: float

    @property
    def conforms(self) -> bool:
        """No test of the family rejects."""
        return not any(test.rejected for test in self.tests)


def _chi2_p(squares: Float64, freedom: int) -> Float64:
    """Two-sided p-values of sums of `freedom` squared standard normals."""
    upper, lower = stats.chi2.sf(squares, freedom), stats.chi2.cdf(squares, freedom)
    return np.asarray(np.minimum(1.0, 2.0 * np.minimum(upper, lower)), dtype=np.float64)


def _normal_p(z: Float64) -> Float64:
    return np.asarray(2.0 * stats.norm.sf(np.abs(z)), dtype=np.float64)


def _shape_p(residuals: Float64, step: float) -> float:
    # Whole steps are spread over their width first: what is tested is the law, not that a lattice is one. The generator
    # is public and the same in every audit; the noise that is tested is not.
    spread = np.random.Generator(np.random.PCG64(0)).uniform(-step / 2.0, step / 2.0, residuals.size)
    return float(stats.kstest(residuals + spread, "norm").pvalue)


def _pair_z(residuals: Float64) -> tuple[Float64, list[str]]:
    """Correlation of every pair of rounds: the same noise twice shows at any distance."""
    rounds, length = residuals.shape
    left, right = np.triu_indices(rounds, k=1)
    # Both sides are unit normals under the claim, so the mean product has variance 1/d.
    z = (residuals @ residuals.T)[left, right] / math.sqrt(length)
    return z, [f"rounds {a} and {b}" for a, b in zip(left.tolist(), right.tolist(), strict=True)]


def conformance(run: PathRun, contributions: Float64, *, blocks: tuple[int, ...] | None = None) -> Conformance:
    """Test the noise of a run against its claim.

    Family: total χ²; χ² per block of coordinates and per round; mean; lag-1 autocorrelation over rounds and
    over coordinates; correlation of every pair of rounds; Kolmogorov-Smirnov distance to the normal law. Each
    of these eight has an equal share of 0.001, divided by the places it looks at (weighted Bonferroni), so
    that many pairs of rounds do not blunt the total. The tests are two-sided: too much noise is not a leak,
    but it is not what was promised either.

    Args:
        run: what the path returned.
        contributions: float64[rounds, sites, d], what it was given.
        blocks: sizes of the coordinate blocks (e.g. one per layer); sum d. Default: up to 16 equal ones.

    Raises:
        MisuseError: shapes do not fit, fewer than 2 rounds, or a non-finite sum.
    """
    if run.sums.ndim != 2 or contributions.ndim != 3 or run.sums.shape != contributions.sum(axis=1).shape:
        raise MisuseError(f"sums {run.sums.shape} do not fit contributions {contributions.shape}")
    rounds, length = run.sums.shape
    if rounds < 2 or length < 2:
        raise MisuseError("the self-check needs at least 2 rounds of at least 2 coordinates")
    if not np.isfinite(run.sums).all():
        raise MisuseError("a sum of the self-check is not finite")
    residuals = (run.sums - contributions.sum(axis=1)) / run.noise_std
    sizes = blocks or tuple(part.size for part in np.array_split(np.arange(length), min(16, length)))
    if sum(sizes) != length or min(sizes) < 1:
        raise MisuseError(f"blocks of {sum(sizes)} coordinates for a vector of {length}")

    squares = np.square(residuals)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    per_block = np.add.reduceat(squares.sum(axis=0), starts[:-1])
    total = float(squares.sum())
    cells = rounds * length
    pairs, pair_names = _pair_z(residuals)
    lag_rounds = float((residuals[1:] * residuals[:-1]).sum()) / math.sqrt((rounds - 1) * length)
    lag_coordinates = float((residuals[:, 1:] * residuals[:, :-1]).sum()) / math.sqrt(rounds * (length - 1))

    found: list[tuple[str, Float64, list[str]]] = [
        ("size of the noise, total", _chi2_p(np.array([total]), cells), ["all rounds"]),
        (
            "size of the noise, per block",
            np.concatenate([_chi2_p(per_block[i : i + 1], rounds * size) for i, size in enumerate(sizes)]),
            [f"coordinates {a}-{b - 1}" for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)],
        ),
        (
            "size of the noise, per round",
            _chi2_p(squares.sum(axis=1), length),
            [f"round {index}" for index in range(rounds)],
        ),
        ("mean", _normal_p(np.array([residuals.sum() / math.sqrt(cells)])), ["all rounds"]),
        ("lag-1 autocorrelation over rounds", _normal_p(np.array([lag_rounds])), ["all rounds"]),
        (
            "lag-1 autocorrelation over coordinates",
            _normal_p(np.array([lag_coordinates])),
            ["all coordinates"],
        ),
        ("same noise in two rounds", _normal_p(pairs), pair_names),
        ("normal shape", np.array([_shape_p(residuals.ravel(), run.step / run.noise_std)]), ["all rounds"]),
    ]
    share = FAMILY_ALPHA / TESTS
    tests = tuple(
        Test(name, p.size, float(p.min()), names[int(p.argmin())], bool(p.min() < share / p.size))
        for name, p, names in found
    )
    claimed = run.query.multiplier
    ratio = total / cells
    multiplier = Interval(
        claimed * math.sqrt(total / float(stats.chi2.isf(FAMILY_ALPHA, cells))),
        claimed * math.sqrt(ratio),
        claimed * math.sqrt(total / float(stats.chi2.ppf(FAMILY_ALPHA, cells))),
        FAMILY_ALPHA,
        "chi-squared of the residuals",
    )
    return Conformance(rounds, length, FAMILY_ALPHA, tests, claimed, multiplier, detectable_deficit(cells))


def detectable_deficit(cells: int) -> float:
    """Smallest relative lack of noise that the test of the total rejects with 99 % probability.

    A run with noise (1 − x)σ has the total (1 − x)²·χ²; it is caught when that falls below the critical
    value.

    >>> round(detectable_deficit(10_000), 3)
    0.043

    Args:
        cells: rounds × coordinates, ≥ 2.
    """
    critical = float(stats.chi2.ppf(FAMILY_ALPHA / TESTS / 2.0, cells))
    return 1.0 - math.sqrt(critical / float(stats.chi2.isf(0.01, cells)))


def rounds_needed(length: int, deficit: float) -> int:
    """Rounds of a null run after which a relative lack of noise of `deficit` would be seen.

    Args:
        length: coordinates per round.
        deficit: in (0, 1), e.g. the policy's `noise_deficit_detectable_max`.

    Raises:
        MisuseError: a value out of range.
    """
    if length < 2 or not 0.0 < deficit < 1.0:
        raise MisuseError(f"no run of {length} coordinates shows a deficit of {deficit!r}")
    rounds = 2
    while detectable_deficit(rounds * length) > deficit:
        rounds += max(1, rounds // 20)
    return rounds
