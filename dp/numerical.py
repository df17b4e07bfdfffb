"""ε of a history that was fixed in advance, by three accountants that are not ours.

| function | library, method                             | what it gives                                             |
|----------|---------------------------------------------|-----------------------------------------------------------|
| `pld`    | dp_accounting, privacy loss distributions   | upper bound, close to the truth                           |
| `prv`    | Opacus, privacy loss random variables (FFT) | the same quantity by other code; above by its `PRV_ERROR` |
| `rdp`    | dp_accounting, Rényi DP, best of many orders | upper bound; near the truth where `rdp_is_tight`         |
| `rdp_at` | dp_accounting, Rényi DP, one order          | what an RDP budget of this order must say                 |

None of them is a filter: if later releases depend on earlier results, only `dp.budget.Filter` counts. Opacus'
`GaussianAccountant` is not a bound (its central-limit ε lies below the truth for sampled steps) and is not used.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, assert_never

import dp_accounting
from dp_accounting import dp_event

from dp import narrow
from dp import rdp as own_rdp
from dp.errors import MisuseError
from dp.events import Event, GaussianEvent, NarrowEvent, PoissonEvent

__all__ = [
    "PRV_ERROR",
    "History",
    "pld",
    "prv",
    "prv_domain",
    "rdp",
    "rdp_at",
    "rdp_is_tight",
    "repeat_and_select",
]

History: TypeAlias = Iterable[tuple[Event, int]]
"""Events with the number of their uploads; order does not matter."""

PRV_ERROR: Final = 1e-3
"""eps_error asked of Opacus. Its answer is an upper bound, so it lies above the truth by about this."""

_PRV_POINTS: Final = 4e6
_PRV_LEAST_DELTA: Final = 1e-10
_PRV_RELEASES: Final = 16

_FINEST, _USUAL = 1e-6, 1e-4
_COARSE, _FINE = 2e4, 2e3

_ORDERS: Final = (
    *(1.01, 1.02, 1.05),
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *range(11, 65),
    *(72, 80, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096),
)
_TIGHT: Final = 1.2


def pld(
    history: History, delta: float, *, expected: float = 1.0, replace_one: bool = False, hospitals: int = 1
) -> float:
    """Return ε by privacy loss distributions.

    Args:
        history: Gaussian and Poisson events.
        delta: 0 < δ < 1.
        expected: a rough upper bound on the answer: it sets the grid. Usually that is 1e-4; less where ε is below
            0.2, because the errors of hundreds of uploads would exceed it; more where ε is above 2, because one of
            1e-4 at ε = 1000 would need gigabytes.
        replace_one: replace-one neighbours instead of add-or-remove-one. Not with several hospitals.
        hospitals: k ≥ 1, a patient has a record in each of k hospitals, which sample independently.

    Raises:
        MisuseError: a narrow event (its privacy loss is not that of a Gaussian), or both last arguments at once.
    """
    if replace_one and hospitals > 1:
        raise MisuseError("replace-one neighbours and several hospitals are stated one at a time")
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE
    accountant = dp_accounting.pld.PLDAccountant(
        relation if replace_one else dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        # The privacy loss of a mixture is inverted point by point: a thousand to the answer is what time allows.
        value_discretization_interval=max(_FINEST, expected / 1e3)
        if hospitals > 1
        else max(expected / _COARSE, min(_USUAL, max(_FINEST, expected / _FINE))),
    )
    for event, uploads in _merged(history):
        accountant.compose(_several(event, hospitals) if hospitals > 1 else _dp_event(event), uploads)
    return float(accountant.get_epsilon(delta))


def prv(history: History, delta: float) -> float:
    """Return ε by Opacus' PRV accountant, an upper bound with eps_error 1e-3.

    Args:
        history: Gaussian and Poisson events inside `prv_domain`.
        delta: 0 < δ < 1.

    Raises:
        MisuseError: a narrow event.
    """
    from opacus.accountants import PRVAccountant  # noqa: PLC0415 - loads torch, which a what-if does not need

    accountant = PRVAccountant()
    accountant.history = _prv_history(history)
    with warnings.catch_warnings():
        # log(1 − q) = log 0 for full batches, and an order at the end of its list: it recovers from both.
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta, eps_error=PRV_ERROR))


def prv_domain(history: History, delta: float, expected: float) -> str:
    """Say why Opacus' PRV accountant cannot be asked about a history; empty if it can.

    Its grid has about 2(ε + 3)/Δ points with Δ = eps_error / √(½·uploads·log(12/δ_error)), one array of them for each
    different release, a microsecond a point: without a limit it takes minutes and gigabytes. And its FFT cannot resolve
    a tiny δ.
    Full batches count as one upload, because they compose in closed form.

    Args:
        history: Gaussian and Poisson events.
        delta: 0 < δ < 1.
        expected: a rough upper bound on ε.
    """
    releases = _prv_history(history)
    uploads = sum(count for *_, count in releases)
    step = PRV_ERROR / math.sqrt(uploads / 2 * math.log(12_000 / delta))
    if delta < _PRV_LEAST_DELTA:
        return f"PRV: delta is below {_PRV_LEAST_DELTA:g}, where its rounding errors matter"
    if len(releases) > _PRV_RELEASES:
        return f"PRV: more than {_PRV_RELEASES} different releases"
    if not 2 * (expected + 3) / step * len(releases) <= _PRV_POINTS:
        return f"PRV: epsilon up to {expected:.3g} over {uploads} sampled uploads needs too large a grid"
    return ""


def rdp(history: History, delta: float) -> tuple[float, float]:
    """Return ε by Rényi DP and the order that gave it, the best of many: an upper bound, and no filter.

    Args:
        history: Gaussian and Poisson events.
        delta: 0 < δ < 1.

    Raises:
        MisuseError: a narrow event.
    """
    accountant = dp_accounting.rdp.RdpAccountant(_ORDERS)
    for event, uploads in _merged(history):
        accountant.compose(_dp_event(event), uploads)
    epsilon, order = accountant.get_epsilon_and_optimal_order(delta)
    return float(epsilon), float(order)


def rdp_is_tight(history: History, order: float) -> bool:
    """Whether R_α grows like that of Gaussian noise up to 1.5 times the best order: then `rdp` is near the truth.

    For Gaussian noise R_α/α is constant and the conversion to (ε, δ) loses 8 to 12 %. A few sampled releases with
    little noise are another case: their R_α turns up steeply beyond some order, and RDP may say ten times the truth.

    Args:
        history: Gaussian and Poisson events.
        order: the best order, from `rdp`.
    """
    releases = _merged(history)
    if all(isinstance(event, GaussianEvent) for event, _ in releases):
        return True
    beyond = max(3, math.ceil(1.5 * order))
    if order < own_rdp.LEAST_ORDER or beyond > own_rdp.LARGEST_ORDER:  # epsilon far above 10, or thousandths
        return False
    return _divergence(releases, beyond) / beyond <= _TIGHT * _divergence(releases, 2) / 2


def rdp_at(history: History, order: int, delta: float) -> float:
    """Return ε by dp_accounting at one order, each narrow event as the Gaussian event of the same cost.

    It checks sums, conversion, and the formulas of Gaussian and Poisson events; what a narrow event costs is
    `dp.narrow`, and its proof.

    Args:
        history: any events.
        order: the declared order α.
        delta: 0 < δ < 1.
    """
    accountant = dp_accounting.rdp.RdpAccountant([order])
    for event, uploads in _merged(history):
        if isinstance(event, NarrowEvent):
            cost = narrow.rdp(order, event.multiplier, event.variance, event.length)
            accountant.compose(dp_accounting.GaussianDpEvent(math.sqrt(order / (2 * cost))), uploads)
        else:
            accountant.compose(_dp_event(event), uploads)
    return float(accountant.get_epsilon(delta))


def repeat_and_select(history: History, delta: float, mean: float, shape: float, orders: Sequence[float]) -> float:
    """Return ε of the best of randomly many runs of a history, by Rényi DP; see `dp.search`.

    Args:
        history: of one run, Gaussian and Poisson events.
        delta: 0 < δ < 1.
        mean: expected number of runs.
        shape: of their law: 1 geometric, 0 logarithmic, ∞ Poisson.
        orders: of the Rényi divergence.

    Raises:
        MisuseError: a narrow event.
    """
    run = dp_event.ComposedDpEvent(
        [dp_event.SelfComposedDpEvent(_dp_event(event), uploads) for event, uploads in _merged(history)]
    )
    accountant = dp_accounting.rdp.RdpAccountant(orders)
    accountant.compose(dp_event.RepeatAndSelectDpEvent(run, mean, shape))
    return float(accountant.get_epsilon(delta))


def _merged(history: History) -> list[tuple[Event, int]]:
    """One entry for each mechanism, whatever its kind."""
    counts: dict[tuple[float, ...], tuple[Event, int]] = {}
    for event, uploads in history:
        if uploads < 0:
            raise MisuseError("a history cannot hold a negative number of uploads")
        if not uploads:
            continue
        match event:
            case GaussianEvent():
                key: tuple[float, ...] = (event.multiplier,)
            case PoissonEvent():
                key = (event.multiplier, event.sampling_probability)
            case NarrowEvent():
                key = (event.multiplier, event.variance, event.length)
            case _:
                assert_never(event)
        counts[key] = (event, counts.get(key, (event, 0))[1] + uploads)
    return list(counts.values())


def _dp_event(event: Event) -> dp_accounting.DpEvent:
    match event:
        case GaussianEvent():
            return dp_accounting.GaussianDpEvent(event.multiplier)
        case PoissonEvent():
            return dp_accounting.PoissonSampledDpEvent(
                event.sampling_probability, dp_accounting.GaussianDpEvent(event.multiplier)
            )
        case _:
            raise MisuseError(f"{event.kind}: a sum in narrow lanes is no Gaussian mechanism for any multiplier")


def _several(event: Event, hospitals: int) -> dp_accounting.DpEvent:
    """A patient in k hospitals: in each sample on its own, so that j of the records count with binomial probability."""
    match event:
        case GaussianEvent():
            return dp_accounting.GaussianDpEvent(event.multiplier / hospitals)
        case PoissonEvent():
            q = event.sampling_probability
            weights = [math.comb(hospitals, j) * q**j * (1 - q) ** (hospitals - j) for j in range(hospitals + 1)]
            return dp_event.MixtureOfGaussiansDpEvent(event.multiplier, list(range(hospitals + 1)), weights)
        case _:
            return _dp_event(event)


def _prv_history(history: History) -> list[tuple[float, float, int]]:
    """(multiplier, sampling probability, uploads), all full batches as the one Gaussian that they compose to."""
    releases, squared = [], 0.0
    for event, uploads in _merged(history):
        match event:
            case GaussianEvent():
                squared += uploads / event.multiplier**2
            case PoissonEvent():
                releases.append((event.multiplier, event.sampling_probability, uploads))
            case _:
                _dp_event(event)
    return ([(1 / math.sqrt(squared), 1.0, 1)] if squared else []) + releases


def _divergence(releases: Sequence[tuple[Event, int]], order: int) -> float:
    total = 0.0
    for event, uploads in releases:
        match event:
            case PoissonEvent():
                total += uploads * own_rdp.poisson_gaussian(order, event.multiplier, event.sampling_probability)
            case _:
                total += uploads * order / (2 * event.multiplier**2)
    return total
