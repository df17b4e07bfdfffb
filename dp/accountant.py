"""ε of a history of releases, by the filter's own closed form and by two accountants that must agree.

| number             | from                              | what it is for                                   |
|--------------------|-----------------------------------|--------------------------------------------------|
| ``epsilon``        | Σμ², `dp.gdp` (own closed form)   | the headline; valid for adaptively chosen studies |
| ``pld``            | dp_accounting, PLDAccountant      | cross-check, within 1 % of the headline           |
| ``rdp``            | dp_accounting, RdpAccountant      | cross-check from above: 1 … 1.12 × pld (+ 0.01)   |

RDP is an upper bound whose looseness for Gaussian noise grows from 8 % at ε = 4 to 12.4 % at
ε = 0.08, hence the absolute 0.01. The neighbouring relation is add-or-remove-one patient; the same
release is 2μ-GDP for replace-one neighbours. Opacus' `GaussianAccountant` is not a bound (its
central-limit ε lies below the truth for subsampled steps) and is not used.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, fsum, sqrt
from typing import Final

import dp_accounting

from dp import gdp
from dp.errors import AccountantsDisagree, MisuseError
from dp.events import UNIT_BITS, GaussianEvent

History = Iterable[tuple[GaussianEvent, int]]
"""Events with the number of their uploads; order does not matter."""

PLD_TOLERANCE: Final = 0.01
RDP_LOOSENESS: Final = 1.12
ABSOLUTE_TOLERANCE: Final = 0.01

# TV(discrete, rounded Gaussian) ≤ this / σ² for σ ≥ 10: E|Z² − 1| / 48 = φ(1)/12 = 0.02016 and higher orders.
TV_CONSTANT: Final = 0.0202

_TAIL: Final = 2.0**-100
"""Per draw: cut support (2⁻¹⁸⁰), five levels of convolution (1e-34 each), sums of shares (nil)."""

_PLD_INTERVAL: Final = 1e-4


@dataclass(frozen=True)
class Statement:
    """What may be said about one account.

    Args:
        mu: total Gaussian-DP parameter, add-or-remove-one patient.
        delta: δ of every ε here, lattice slack included.
        epsilon: headline, from the μ² filter.
        pld: by privacy loss distributions, had all releases been fixed in advance.
        rdp: by Rényi DP; an upper bound.
        replace_one: headline for replace-one neighbours.
        uploads: number of releases.
    """

    mu: float
    delta: float
    epsilon: float
    pld: float
    rdp: float
    replace_one: float
    uploads: int


@dataclass(frozen=True)
class CoalitionRow:
    """ε against the coordinator and `colluding` sites that pool their keys and noise shares."""

    colluding: int
    mu: float
    epsilon: float


def total_mu(history: History) -> float:
    """Return √Σμ² with every μ² rounded up to a multiple of 2⁻⁶⁴; never below the exact value.

    Raises:
        MisuseError: a negative number of uploads.
    """
    units = 0
    for event, uploads in history:
        if uploads < 0:
            raise MisuseError("a history cannot hold a negative number of uploads")
        units += event.units * uploads
    return sqrt(units / 2.0**UNIT_BITS) * (1 + 2.0**-50)


def statement(history: History, delta: float, *, slack: float = 0.0) -> Statement:
    """Return ε of a history by all accountants.

    Args:
        history: what was (or will be) uploaded, one account.
        delta: 0 < δ < 1.
        slack: part of δ that the noise lattice takes, from `lattice_slack`.

    Raises:
        AccountantsDisagree: an accountant is outside its window: release nothing, the software or a
            library is wrong.
        MisuseError: slack ≥ delta.
    """
    releases = [(event, uploads) for event, uploads in history if uploads]
    if not 0 <= slack < delta:
        raise MisuseError("the lattice slack takes the whole of delta")
    rest = delta - slack
    mu = total_mu(releases)
    if not releases:
        return Statement(0.0, delta, 0.0, 0.0, 0.0, 0.0, 0)
    epsilon = gdp.epsilon(mu, rest)
    pld = _pld(releases, rest, epsilon)
    rdp = _rdp(releases, rest)
    check_agreement(epsilon, pld, rdp)
    return Statement(mu, delta, epsilon, pld, rdp, gdp.epsilon(2 * mu, rest), sum(uploads for _, uploads in releases))


def check_agreement(epsilon: float, pld: float, rdp: float) -> None:
    """Raise unless three accountants agree as well as their theory says.

    Raises:
        AccountantsDisagree: names the numbers.
    """
    if abs(pld - epsilon) > PLD_TOLERANCE * epsilon + 1e-4:
        raise AccountantsDisagree(f"closed form says epsilon = {epsilon:.6g}, PLD says {pld:.6g}")
    if not pld - 1e-4 <= rdp <= RDP_LOOSENESS * pld + ABSOLUTE_TOLERANCE:
        raise AccountantsDisagree(f"PLD says epsilon = {pld:.6g}, RDP says {rdp:.6g}: not an upper bound near it")


def coalition(mu: float, delta: float, *, roster_size: int, collusion: int) -> tuple[CoalitionRow, ...]:
    """Return ε against 0, 1, … |R| − 1 colluding sites.

    Each site's share has variance (zC)²/(|R| − c). Against k colluders |R| − k shares remain, so μ
    becomes μ·√((|R| − c)/(|R| − k)): row c is the headline, row 0 what outsiders face, the last row
    what everyone else together faces: one site's own noise, μ·√(|R| − c). Use the largest roster of
    the study: there a single share is smallest.

    Args:
        mu: total μ at the headline.
        delta: 0 < δ < 1.
        roster_size: |R| of the largest roster.
        collusion: c of the study.

    Raises:
        MisuseError: fewer than two honest sites.
    """
    honest = roster_size - collusion
    if collusion < 0 or honest < 2:
        raise MisuseError("a roster has at least two honest sites")
    mus = [mu * sqrt(honest / (roster_size - k)) for k in range(roster_size)]
    return tuple(CoalitionRow(k, value, gdp.epsilon(value, delta)) for k, value in enumerate(mus))


def several_hospitals(mu: float, delta: float, hospitals: int) -> float:
    """Return ε of a patient whose record is in `hospitals` hospitals at once: k·μ.

    Neither hospital's ledger can know, so a report prints it as an assumption.
    """
    if hospitals < 1:
        raise MisuseError("a patient is known to at least one hospital")
    return gdp.epsilon(hospitals * mu, delta)


def lattice_slack(epsilon: float, releases: Iterable[tuple[int, int, float]]) -> float:
    """Return the δ that the Gaussian analysis leaves out for noise on a lattice.

    Honest noise is a sum of discrete Gaussians. A *rounded* Gaussian would be post-processing of the
    continuous one, so the difference is at most (1 + e^ε) times the total variation between the two,
    added over coordinates and uploads.

    Args:
        epsilon: headline ε.
        releases: (length d, uploads, variance of the honest noise in lattice steps², ≥ 100) per kind.

    Returns:
        δ; 1e-12 … 1e-9 in practice.

    Raises:
        MisuseError: a variance below 100, where the bound is not proven.
    """
    terms = []
    for length, uploads, variance in releases:
        if variance < 100:
            raise MisuseError("the lattice bound needs noise of at least 10 steps")
        terms.append(length * uploads * (TV_CONSTANT / variance + _TAIL))

    return fsum(terms) * (1 + exp(min(epsilon, 700.0)))


def _pld(releases: list[tuple[GaussianEvent, int]], delta: float, expected: float) -> float:
    # A grid much finer than ε buys nothing; one of 1e-4 at ε = 1000 would need gigabytes.
    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=max(_PLD_INTERVAL, expected / 1e5))
    for event, uploads in releases:
        accountant.compose(dp_accounting.GaussianDpEvent(event.multiplier), uploads)
    return float(accountant.get_epsilon(delta))


def _rdp(releases: list[tuple[GaussianEvent, int]], delta: float) -> float:
    accountant = dp_accounting.rdp.RdpAccountant()
    for event, uploads in releases:
        accountant.compose(dp_accounting.GaussianDpEvent(event.multiplier), uploads)
    return float(accountant.get_epsilon(delta))
