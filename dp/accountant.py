"""ε of a history of releases: the filter's own figure, and accountants of two libraries that must agree with it.

| number      | from                                        | what it is for                                          |
|-------------|---------------------------------------------|---------------------------------------------------------|
| ``epsilon`` | `dp.budget.Filter`, own formulas            | the headline; valid for studies chosen after one another |
| ``pld``     | dp_accounting, privacy loss distributions   | "had all releases been fixed in advance"                |
| ``prv``     | Opacus' PRV accountant                      | must be within 1 % of PLD                               |
| ``rdp``     | dp_accounting, Rényi DP                     | must lie between PLD and 1.12 PLD                       |

The headline is never below PLD, and under GDP within 1 % of it. PRV and the upper end of RDP apply inside the domains
that `dp.numerical` states; outside, the statement says so in a remark and the other checks remain. A history with a
narrow event has neither PLD nor PRV; there RDP is computed at the declared order, by the other library, and must equal
the headline.

The neighbouring relation is add-or-remove-one patient. Every ε keeps a thousandth of δ back for the noise lattice.
Every number is rounded up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite, sqrt
from typing import Final

from dp import gdp, numerical
from dp.budget import GDP_FILTER, LATTICE_SHARE, BudgetKind, Filter, gaussian_delta
from dp.errors import AccountantsDisagree, BudgetOfAnotherKind, MisuseError, UnknownEvent
from dp.events import UNIT_BITS, Event, NarrowEvent, PoissonEvent
from dp.numerical import History

__all__ = [
    "CoalitionRow",
    "History",
    "Outlook",
    "Statement",
    "check_agreement",
    "coalition",
    "replace_one",
    "several_hospitals",
    "statement",
    "total_mu",
    "total_units",
    "what_if",
]

SECOND_DELTA: Final = 1e-6

_RELATIVE: Final = 0.01
_RDP_LOOSENESS: Final = 1.12
_ABSOLUTE: Final = 0.01
_SAME: Final = 1e-6
_NUMERICAL: Final = 2e-4
"""What the grid of a privacy loss distribution may add: it is an upper bound, so PLD may lie above the truth by this
much, relative and absolute."""


@dataclass(frozen=True)
class Statement:
    """What may be said about one account.

    Args:
        kind: of the account's budget.
        order: of an RDP budget; 0 for GDP.
        mu: total Gaussian-DP parameter; None under RDP.
        delta: δ of every ε here but one, lattice share included.
        epsilon: headline, from the filter.
        pld: by privacy loss distributions, had all releases been fixed in advance; None with narrow events.
        prv: the same by Opacus; None with narrow events or outside its domain.
        rdp: by Rényi DP; the best order, or the declared one with narrow events.
        replace_one: for replace-one neighbours; None if nothing is proven.
        at_delta_1e6: the headline again, at δ = 1e-6.
        hospitals: k, in how many hospitals a patient may have a record.
        several_hospitals: for a patient with records in k hospitals; None if nothing is proven.
        uploads: number of releases.
        remarks: why a number is missing or a check was not made, one sentence each.
    """

    kind: BudgetKind
    order: int
    mu: float | None
    delta: float
    epsilon: float
    pld: float | None
    prv: float | None
    rdp: float
    replace_one: float | None
    at_delta_1e6: float
    hospitals: int
    several_hospitals: float | None
    uploads: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CoalitionRow:
    """ε against the coordinator and `colluding` sites that pool their keys and noise.

    Args:
        colluding: k.
        shares: noise shares that still count.
        mu: total μ; None under RDP.
        epsilon: of the account's filter; None where nothing is proven: too little noise is left in narrow lanes.
    """

    colluding: int
    shares: int
    mu: float | None
    epsilon: float | None


@dataclass(frozen=True)
class Outlook:
    """The headline before and after releases that are being considered, and their cost in units."""

    before: float
    after: float
    cost: int


def total_units(history: History, filter: Filter = GDP_FILTER) -> int:  # noqa: A002 - the field's word
    """Return the total cost in whole units of 2⁻⁶⁴, each release rounded up.

    Raises:
        BudgetOfAnotherKind: an event that this kind of budget cannot hold.
        MisuseError: a negative number of uploads.
    """
    return sum(filter.units(event) * uploads for event, uploads in _releases(history))


def total_mu(history: History) -> float:
    """Return √Σμ² under GDP, rounded up.

    Raises:
        BudgetOfAnotherKind: an event that is not Gaussian.
        MisuseError: a negative number of uploads.
    """
    return sqrt(total_units(history) / (1 << UNIT_BITS)) * (1 + 2.0**-50)


def statement(
    history: History,
    delta: float,
    *,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
    slack: float = 0.0,
    hospitals: int = 1,
) -> Statement:
    """Return ε of a history by all accountants.

    Args:
        history: what was (or will be) uploaded, one account.
        delta: 0 < δ < 1.
        filter: of the account's budget.
        slack: part of δ that the noise lattice takes, from `dp.slack.lattice_slack`.
        hospitals: k ≥ 1, in how many hospitals the study says a patient may have a record.

    Raises:
        AccountantsDisagree: an accountant is outside its window: release nothing, the software or a
            library is wrong.
        BudgetOfAnotherKind: an event that this kind of budget cannot hold.
        MisuseError: the slack is more than the share of δ that is kept for it, or a value is outside its range.
    """
    releases = _releases(history)
    if not 0 < delta < 1:
        raise MisuseError("delta must lie between 0 and 1")
    if not 0 <= slack <= delta * LATTICE_SHARE:
        raise MisuseError("the lattice takes more than the share of delta that is kept for it")
    units = total_units(releases, filter)
    epsilon, rest = filter.epsilon(units, delta), gaussian_delta(delta)
    if not isfinite(epsilon):
        raise MisuseError("this history protects nobody: its epsilon is beyond every number")
    of = total_mu(releases) if filter.kind is BudgetKind.GDP else None
    remarks: list[str] = []
    pld = prv = None
    if not releases:
        pld = prv = rdp = 0.0
    elif any(isinstance(event, NarrowEvent) for event, _ in releases):
        rdp = numerical.rdp_at(releases, filter.order, rest)
        remarks.append("PLD and PRV: narrow lanes are accounted in RDP alone")
        _check_same(epsilon, rdp, units / (1 << UNIT_BITS), rest)
    else:
        rdp, order = numerical.rdp(releases, rest)
        pld = numerical.pld(releases, rest, expected=rdp)
        reason = numerical.prv_domain(releases, rest, rdp)
        prv = None if reason else _prv(releases, rest)
        tight = numerical.rdp_is_tight(releases, order)
        remarks += [reason] if reason else []
        remarks += [] if tight else ["RDP: its divergence is steep at high orders, where it is a loose bound"]
        check_agreement(epsilon, pld, prv, rdp, exact=filter.kind is BudgetKind.GDP, tight=tight)
    swapped = replace_one(releases, delta, filter=filter)
    several = several_hospitals(releases, delta, hospitals, filter=filter)
    if swapped is None:
        remarks.append("replace-one: nothing is proven for Poisson samples beside narrow lanes")
    if several is None:
        remarks.append("several hospitals: nothing is proven for Poisson samples beside narrow lanes")
    return Statement(
        kind=filter.kind,
        order=filter.order,
        mu=of,
        delta=delta,
        epsilon=epsilon,
        pld=pld,
        prv=prv,
        rdp=rdp,
        replace_one=swapped,
        at_delta_1e6=filter.epsilon(units, SECOND_DELTA),
        hospitals=hospitals,
        several_hospitals=several,
        uploads=sum(uploads for _, uploads in releases),
        remarks=tuple(remarks),
    )


def check_agreement(
    epsilon: float, pld: float, prv: float | None, rdp: float, *, exact: bool = True, tight: bool = True
) -> None:
    """Raise unless the accountants agree as well as their theory says.

    Args:
        epsilon: headline.
        pld: by privacy loss distributions.
        prv: by Opacus, or None outside its domain.
        rdp: by Rényi DP, at the best order.
        exact: the headline is a closed form, not a bound: PLD must equal it.
        tight: RDP is expected near the truth.

    Raises:
        AccountantsDisagree: names the numbers.
    """
    slack = _NUMERICAL * (1 + pld)
    if epsilon < pld - slack or (exact and pld < epsilon - _RELATIVE * epsilon - slack):
        raise AccountantsDisagree(f"the filter says epsilon = {epsilon:.6g}, PLD says {pld:.6g}")
    # Written so that a NaN fails.
    if not pld - slack <= rdp or not (rdp <= _RDP_LOOSENESS * pld + _ABSOLUTE or not tight):
        raise AccountantsDisagree(f"PLD says epsilon = {pld:.6g}, RDP says {rdp:.6g}: not an upper bound near it")
    if prv is not None and not abs(prv - pld) <= _RELATIVE * pld + 2 * numerical.PRV_ERROR:
        raise AccountantsDisagree(f"PLD says epsilon = {pld:.6g}, PRV says {prv:.6g}")


def replace_one(
    history: History,
    delta: float,
    *,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
) -> float | None:
    """Return ε for neighbours that differ by one replaced patient.

    Full batches: the sum moves by at most 2C, so every multiplier counts half (2μ in closed form). Poisson samples: by
    PLD of the replace-one pair, had all releases been fixed in advance. None for Poisson samples beside narrow lanes.
    """
    return _other_neighbours(_releases(history), delta, filter, 2, poisson_replaces=True)


def several_hospitals(
    history: History,
    delta: float,
    hospitals: int,
    *,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
) -> float | None:
    """Return ε of a patient with records in k hospitals at once. No hospital's ledger can know.

    Full batches: kμ. Poisson samples: each hospital draws its record on its own, so the sum moves by j records with
    binomial probability: PLD of that mixture, had all releases been fixed in advance. None for Poisson samples beside
    narrow lanes.

    Raises:
        MisuseError: fewer than one hospital.
    """
    if hospitals < 1:
        raise MisuseError("a patient is known to at least one hospital")
    return _other_neighbours(_releases(history), delta, filter, hospitals, poisson_replaces=False)


def coalition(
    history: History,
    delta: float,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
    *,
    roster_size: int,
    honest: int,
    collusion: int | None = None,
) -> tuple[CoalitionRow, ...]:
    """Return ε of one study against 0, 1, … |R| − 1 colluding sites.

    The study counts on h honest noise shares beside c colluders: an opened sum holds at least h + c uploads, all |R| of
    them in mode A (h = |R| − c), any t in mode B (h = t − c). Against k colluders h + c − k shares remain, and at least
    the victim's own; every multiplier is multiplied by √(shares/h). So row c is the headline, row 0 what outsiders
    face, the last row what everyone else together faces: one site's own noise. A study whose roster may change has to
    take, for each k, the worst of its rosters: in mode A (|R| − k)/(|R| − c) of the noise remains, which for k < c is
    least in the largest roster and for k > c in the smallest that has more than k sites.

    Args:
        history: of one study: its multipliers belong to `honest` shares.
        delta: 0 < δ < 1.
        filter: of the account's budget.
        roster_size: |R| of the largest roster.
        honest: h ≥ 2, the shares that the study's accounting counts.
        collusion: c of the study; |R| − h if not given, which is mode A.

    Raises:
        MisuseError: fewer than two honest sites, or h + c above |R|.
    """
    colluders = roster_size - honest if collusion is None else collusion
    if honest < 2 or colluders < 0 or honest + colluders > roster_size:
        raise MisuseError("a roster has at least two honest sites, and h + c sites at most")
    releases, rows = _releases(history), []
    for k in range(roster_size):
        shares = max(1, honest + colluders - k)
        rows.append(CoalitionRow(k, shares, *_weaker(releases, delta, filter, shares, honest)))
    return tuple(rows)


def what_if(
    history: History,
    more: History,
    delta: float,
    filter: Filter = GDP_FILTER,  # noqa: A002 - the field's word
) -> Outlook:
    """Return the headline before and after more releases: closed form, a millisecond for a new event.

    Raises:
        BudgetOfAnotherKind: an event that this kind of budget cannot hold.
    """
    spent, cost = total_units(history, filter), total_units(more, filter)
    return Outlook(filter.epsilon(spent, delta), filter.epsilon(spent + cost, delta), cost)


def _releases(history: History) -> list[tuple[Event, int]]:
    releases = list(history)
    if any(uploads < 0 for _, uploads in releases):
        raise MisuseError("a history cannot hold a negative number of uploads")
    return [(event, uploads) for event, uploads in releases if uploads]


def _prv(releases: Sequence[tuple[Event, int]], delta: float) -> float:
    try:
        return numerical.prv(releases, delta)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise AccountantsDisagree(f"PRV failed inside its domain: {error}") from error


def _check_same(epsilon: float, rdp: float, divergence: float, delta: float) -> None:
    # dp_accounting says 0 where R_α < δ² (Bretagnolle & Huber 1979): right, sharper, and of no use to anybody.
    if not abs(epsilon - rdp) <= _SAME * (1 + epsilon) and not (rdp == 0 and divergence <= 2 * delta**2):
        raise AccountantsDisagree(f"the filter says epsilon = {epsilon:.6g}, dp_accounting says {rdp:.6g}")


def _scaled(event: Event, factor: float) -> Event:
    """The event when a patient moves the sum by `factor` sensitivities."""
    return replace(event, multiplier=event.multiplier / factor)


def _other_neighbours(
    releases: Sequence[tuple[Event, int]],
    delta: float,
    rule: Filter,
    factor: int,
    *,
    poisson_replaces: bool,
) -> float | None:
    if factor == 1 or not any(isinstance(event, PoissonEvent) for event, _ in releases):
        return rule.epsilon(total_units([(_scaled(event, factor), n) for event, n in releases], rule), delta)
    if any(isinstance(event, NarrowEvent) for event, _ in releases):
        return None
    rest = gaussian_delta(delta)
    # For the grid alone: what one record costs, `factor` times; at most as if nobody were sampled.
    everyone = sqrt(sum(n * (factor / event.multiplier) ** 2 for event, n in releases))
    expected = min(1.3 * factor * numerical.rdp(releases, rest)[0], gdp.epsilon(min(everyone, 2.0**20), rest))
    if poisson_replaces:
        return numerical.pld(releases, rest, expected=expected, replace_one=True)
    return numerical.pld(releases, rest, expected=expected, hospitals=factor)


def _weaker(
    releases: Sequence[tuple[Event, int]], delta: float, rule: Filter, shares: int, honest: int
) -> tuple[float | None, float | None]:
    """(μ, ε) when `shares` of `honest` noise shares remain."""
    try:
        weaker = [(_with_noise(event, shares, honest), uploads) for event, uploads in releases]
        units = total_units(weaker, rule)
    except (UnknownEvent, BudgetOfAnotherKind):  # narrow lanes with less noise than anything is proven for
        if rule.kind is BudgetKind.GDP:
            raise
        return None, None
    return (total_mu(weaker) if rule.kind is BudgetKind.GDP else None), rule.epsilon(units, delta)


def _with_noise(event: Event, shares: int, honest: int) -> Event:
    multiplier = event.multiplier * sqrt(shares / honest)
    if isinstance(event, NarrowEvent):
        return replace(event, multiplier=multiplier, variance=floor(event.variance * shares / honest))
    return replace(event, multiplier=multiplier)
