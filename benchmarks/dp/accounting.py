"""What accountants say: figures 4.8 and 4.9.

4.9 draws histories of one to four kinds of releases, each a full batch or a Poisson sample, with ε between 0.05 and 20.
Filters: μ² where everything is a full batch, RDP at one order drawn before the history otherwise. RDP and PRV are
figures of other people's libraries; RDP is an upper bound whose looseness for Gaussian noise grows as ε shrinks (8 % at
ε = 4, 12.4 % at 0.08), hence the absolute 0.01. Where theory promises nothing (`dp.numerical` says where) a history is
counted as left out and its figure still shown.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.report import Row
from dp import numerical
from dp.budget import GDP_FILTER, Budget, BudgetKind, Filter, gaussian_delta
from dp.events import Account, Event, GaussianEvent, PoissonEvent

__all__ = ["SEED", "compositions", "histories", "rows"]

SEED: Final = 20260204
DELTA: Final = 1e-5
_STUDIES: Final = 10
_LEAST, _LARGEST = 0.05, 20.0
_NUMERICAL: Final = 2e-4
"""A grid's share of a PLD figure, relative and absolute: it is an upper bound itself."""


def rows(*, quick: bool, tell: Callable[[str], None], workers: int) -> list[Row]:
    """Measure both figures."""
    return [*compositions(), *histories(24 if quick else 1000, tell, workers)]


def compositions() -> Iterator[Row]:
    """Ten studies of ε = 1 each on the same patients."""
    budget = Budget(1.0, DELTA)
    multiplier = math.sqrt(66) / budget.mu_max * (1 + 2.0**-30)
    study = [(GaussianEvent("gradient", multiplier, Account.TRAINING), 66 * _STUDIES)]
    filtered = GDP_FILTER.epsilon(66 * _STUDIES * GDP_FILTER.units(study[0][0]), DELTA)
    yield Row("4.8a", "ten full-batch studies of ε = 1, μ² filter", filtered, "ε", 3.63, "lower")
    exact = numerical.pld(study, gaussian_delta(DELTA), expected=4.0)
    yield Row("4.8a", "the same, exact (PLD)", exact, "ε", 3.63, "lower")
    # q = 0.1, T = 200, σ = 5.43 is ε = 1.00 by PLD.
    sampled = PoissonEvent("gradient", 5.43, 0.1, Account.TRAINING)
    one = numerical.pld([(sampled, 200)], DELTA, expected=1.0)
    yield Row("4.8b", "one Poisson study, q = 0.1, T = 200, multiplier 5.43, PLD", one, "ε")
    ten = numerical.pld([(sampled, 200 * _STUDIES)], DELTA, expected=4.0)
    yield Row("4.8b", "ten of them, PLD", ten, "ε", 3.57, "lower")


@dataclass(frozen=True)
class _Seen:
    """One history. `prv` and `tight` are None or False where the library promises nothing."""

    pld: float
    rdp: float
    tight: bool
    prv: float | None
    charged: float


def histories(count: int, tell: Callable[[str], None], workers: int = 1) -> Iterator[Row]:
    """Compare accountants on random histories."""
    seen: list[_Seen] = []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet) as pool:
        for each in pool.map(_look, range(count), chunksize=4):
            seen.append(each)
            if len(seen) % 100 == 0:
                tell(f"4.9: {len(seen)} histories")
    yield from _shown(seen)


def _quiet() -> None:
    logging.disable(logging.WARNING)  # RDP says for every order that it left out that it did


def _look(number: int) -> _Seen:
    """Draw until ε is in range, and ask every accountant."""
    rng, rest = np.random.default_rng([SEED, number]), gaussian_delta(DELTA)
    while True:
        history, rule = _draw(rng)
        rdp, order = numerical.rdp(history, rest)
        if not _LEAST <= rdp <= 1.4 * _LARGEST:
            continue
        pld = numerical.pld(history, rest, expected=rdp)
        if not _LEAST <= pld <= _LARGEST:
            continue
        prv = None if numerical.prv_domain(history, rest, rdp) else numerical.prv(history, rest)
        units = sum(rule.units(event) * uploads for event, uploads in history)
        return _Seen(pld, rdp, numerical.rdp_is_tight(history, order), prv, rule.epsilon(units, DELTA))


def _shown(seen: list[_Seen]) -> Iterator[Row]:
    n = len(seen)
    prv = [max(0.0, abs(e.prv - e.pld) - 2 * numerical.PRV_ERROR) / e.pld for e in seen if e.prv is not None]
    yield Row(
        "4.9a",
        f"PRV more than 1 % from PLD, of the {len(prv):,} of {n:,} histories that it can compute",
        sum(off > 0.01 for off in prv),
        "histories",
        0,
        "lower",
    )
    yield Row("4.9a", "largest deviation (beyond the 0.002 that was asked of PRV)", 100 * max(prv, default=0.0), "%")
    tight, loose = [e for e in seen if e.tight], [e for e in seen if not e.tight]
    below = sum(e.rdp < e.pld - _slack(e) for e in seen)
    above = sum(e.rdp > 1.12 * e.pld + 0.01 for e in tight)
    yield Row(
        "4.9b",
        f"RDP below PLD (of {n:,}) or above 1.12 PLD + 0.01 (of the {len(tight):,} where it is tight)",
        below + above,
        "histories",
        0,
        "lower",
    )
    yield Row(
        "4.9b",
        "largest (RDP less 0.01) ÷ PLD there",
        max(((e.rdp - 0.01) / e.pld for e in tight), default=0.0),
        "times",
    )
    yield Row(
        "4.9b",
        f"largest RDP ÷ PLD of the {len(loose):,} others: few, barely noised samples, where RDP is a loose bound",
        max((e.rdp / e.pld for e in loose), default=0.0),
        "times",
    )
    under = sum(e.charged < e.pld - _slack(e) for e in seen)
    yield Row("4.9c", f"filter below PLD, of {n:,} histories", under, "histories", 0, "lower")


def _slack(seen: _Seen) -> float:
    return _NUMERICAL * (1 + seen.pld)


def _draw(rng: np.random.Generator) -> tuple[list[tuple[Event, int]], Filter]:
    """A history and the budget that it is charged to, the budget first."""
    gdp = bool(rng.random() < 0.4)
    rule = GDP_FILTER if gdp else Filter(BudgetKind.RDP, int(rng.choice([4, 8, 16, 32, 64])))
    events: list[tuple[Event, int]] = []
    for _ in range(int(rng.integers(1, 5))):
        z = float(np.exp(rng.uniform(np.log(0.8), np.log(60))))
        uploads = int(np.exp(rng.uniform(0, np.log(400))))
        if gdp or rng.random() < 0.3:
            events.append((GaussianEvent("gradient", z, Account.TRAINING), uploads))
        else:
            q = float(np.exp(rng.uniform(np.log(0.005), np.log(0.5))))
            events.append((PoissonEvent("gradient", z, q, Account.TRAINING), uploads))
    return events, rule
