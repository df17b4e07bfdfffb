"""Neighbours chosen to hurt, and the one property that every release and every loss has to survive.

    ‖q(D) − q(D')‖₂ ≤ sensitivity · (1 + 2(n + 1)(n + 1 + 2⌈√d⌉)·2⁻⁵³)

in exact rational arithmetic, the bracket being the inflation for float64 that `dp.noise_shares` accounts. From
each table D that hypothesis draws and two patients p, q come three pairs: (D, D+p) and (D, D+q) for
add-or-remove-one, (D+p, D+q) for replace-one. Tables are built from patients, a patient may have several rows.

    python -m tests.dp.adversary --pairs 100000

prints one line per subject and exits with 1 if a bound was passed.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from dp.queries import Float64, Neighbours

PAIRS_PER_CASE = 3
CASES_PER_WORLD = 6
SIZES = (1, 2, 3, 4, 6, 9, 14, 24)
BROKEN = (math.nan, math.inf, -math.inf, 1e30, -1e30, 1e200, -1e200, 1.7e308)
HARD = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 10.0, -10.0, 5e-324, 0.5, 1e-9)

Patient = Any  # what a subject's `table` takes a list of
Rows = tuple[tuple[float, ...], ...]


class Sensitive(Protocol):
    """The part of a release that the property speaks of."""

    @property
    def length(self) -> int: ...
    def sensitivity(self, neighbours: Neighbours) -> float: ...
    def contribution(self, data: Any) -> Float64: ...


@dataclass(frozen=True)
class Subject:
    """A release (or a loss made to look like one) with the patients that are to break it.

    Args:
        name: in the report.
        release: under attack.
        patients: one patient, extreme ones often.
        table: a list of patients → the release's data.
        mirror: the patient who cancels another one.
        outweigh: the patient who points the other way and weighs more than a whole table.
        nobody: a patient who is no number: he adds exactly zero.
        ladder: n patients in a strict order of everything, or none.
        share: of the pairs, relative to the others: an expensive subject gets fewer.
        sizes: how many patients make a table, before halves.
    """

    name: str
    release: Sensitive
    patients: SearchStrategy[Patient] = field(repr=False)
    table: Callable[[Sequence[Patient]], Any] = field(repr=False)
    mirror: Callable[[Patient], Patient] = field(repr=False)
    outweigh: Callable[[Patient], Patient] = field(repr=False)
    nobody: Patient
    ladder: Callable[[int], list[Patient]] = field(repr=False, default=lambda n: [])
    share: float = 1.0
    sizes: tuple[int, ...] = SIZES


@dataclass(frozen=True)
class Case:
    """One table, a place in it, and two patients who may stand there."""

    others: tuple[Patient, ...]
    place: int
    first: Patient
    second: Patient

    def tables(self) -> tuple[list[Patient], list[Patient], list[Patient]]:
        before, after = list(self.others[: self.place]), list(self.others[self.place :])
        return before + after, [*before, self.first, *after], [*before, self.second, *after]


# ---------------------------------------------------------------- strategies


def values(extra: Sequence[float] = ()) -> SearchStrategy[float]:
    """One number: ordinary, at an edge, or none."""
    return st.one_of(
        st.sampled_from((*HARD, *extra)),
        st.sampled_from((*HARD, *extra)),
        st.floats(-4, 4, width=16),
        st.sampled_from(BROKEN),
    )


def records(columns: int, extra: Sequence[float] = (), most: int = 3) -> SearchStrategy[Rows]:
    """A patient of a table of records: one row mostly, several sometimes."""
    row = st.one_of(
        st.tuples(*[values(extra)] * columns),
        values(extra).map(lambda v: (v,) * columns),
    )
    return st.one_of(row.map(lambda r: (r,)), st.lists(row, min_size=1, max_size=most).map(tuple))


def follow_ups(features: int, edges: Sequence[float]) -> SearchStrategy[Patient]:
    """A patient of a survival table: (x, observed, duration, event)."""
    times = [t for edge in edges for t in (edge, math.nextafter(edge, 0), math.nextafter(edge, 1e9))]
    duration = st.one_of(
        st.sampled_from([*times, 1.0, 100.0, 200.0, 300.0, 0.0, -5.0, 1e9]),
        st.integers(1, 6).map(lambda k: 100.0 * k),  # ties
        st.sampled_from(BROKEN),
    )
    x = st.one_of(
        st.tuples(*[values()] * features),
        st.sampled_from((*HARD, *HARD, *BROKEN)).map(lambda v: (v,) * features),
    )
    observed = st.sampled_from([(True,) * features, (True,) * features, (False,) * features, (False, True) * features])
    return st.tuples(x, observed.map(lambda o: o[:features]), duration, st.booleans())


def worlds(subject: Subject) -> SearchStrategy[tuple[Case, ...]]:
    """A few patients, and `CASES_PER_WORLD` tables and newcomers made of them.

    The patients are drawn (and shrunk) by hypothesis; how they are put together is a function of one drawn
    number, because hypothesis would rather repeat an arrangement than try another.
    """
    pool = st.lists(subject.patients, min_size=2, max_size=6)
    return st.builds(lambda chosen, seed: arrange(subject, chosen, seed), pool, st.integers(0, 2**64 - 1))


def arrange(subject: Subject, pool: Sequence[Patient], seed: int) -> tuple[Case, ...]:
    """Tables of mixed patients, duplicates, halves that cancel, a strict order, one patient, nobody."""
    rng = random.Random(seed)
    arranged = []
    for _ in range(CASES_PER_WORLD):
        one, n = rng.choice(pool), rng.choice(subject.sizes)
        others: list[Patient] = rng.choice(
            [
                rng.choices(pool, k=n),
                rng.choices([*pool, *map(subject.mirror, pool)], k=n),
                [one] * n,
                [one] * n + [subject.mirror(one)] * n,
                subject.ladder(n) or [one] * n,
                rng.choice([[], [one]]),
            ]
        )
        hostile = [*pool, subject.mirror(one), subject.outweigh(one), *subject.ladder(n + 1)[-1:]]
        place = rng.choice([0, len(others), len(others) // 2])
        arranged.append(Case(tuple(others), place, rng.choice(hostile), rng.choice(hostile)))
    return tuple(arranged)


# ---------------------------------------------------------------- the property


def allowed(release: Sensitive, neighbours: Neighbours, patients: int) -> Fraction:
    """The square of what neighbours may differ by, exactly."""
    root = math.isqrt(release.length - 1) + 1
    inflation = 1 + Fraction(2 * (patients + 1) * (patients + 1 + 2 * root), 2**53)
    return (Fraction(release.sensitivity(neighbours)) * inflation) ** 2


def moved(one: Float64, other: Float64) -> Fraction:
    """The square of the L2 distance, exactly."""
    places = np.flatnonzero(one != other)
    squares = ((Fraction(float(one[i])) - Fraction(float(other[i]))) ** 2 for i in places)
    return sum(squares, Fraction(0))


def judge(subject: Subject, case: Case) -> list[float]:
    """Movement ÷ bound of each of the three pairs; inf if a contribution is no finite vector.

    Above 1 exactly if the bound is passed: the comparison is made in rationals, the quotient is only for reports.
    """
    release = subject.release
    with np.errstate(all="ignore"):
        sums = [release.contribution(subject.table(table)) for table in case.tables()]
    if any(s.dtype != np.float64 or s.shape != (release.length,) or not np.isfinite(s).all() for s in sums):
        return [math.inf] * PAIRS_PER_CASE
    quotients = []
    for a, b, relation in (
        (0, 1, Neighbours.ADD_OR_REMOVE_ONE),
        (0, 2, Neighbours.ADD_OR_REMOVE_ONE),
        (1, 2, Neighbours.REPLACE_ONE),
    ):
        square, limit = moved(sums[a], sums[b]), allowed(release, relation, len(case.others) + 1)
        share = math.sqrt(min(square / limit, Fraction(2**64)))
        quotients.append(min(share, 1.0) if square <= limit else max(share, math.nextafter(1.0, 2.0)))
    return quotients


@dataclass
class Finding:
    """What the attack on one subject came to."""

    pairs: int = 0
    violations: int = 0
    worst: float = 0.0
    example: str = ""

    def add(self, quotients: Sequence[float], case: Case) -> None:
        self.pairs += len(quotients)
        broken = sum(q > 1.0 for q in quotients)
        if broken and not self.violations:
            self.example = repr(case)[:2000]
        self.violations += broken
        self.worst = max(self.worst, *quotients)


def attack(subject: Subject, pairs: int, seed: int = 0, *, stop_at_first: bool = False) -> Finding:
    """Try at least so many pairs on one subject."""
    finding = Finding()
    while finding.pairs < pairs and not (stop_at_first and finding.violations):
        missing = -(-(pairs - finding.pairs) // (PAIRS_PER_CASE * CASES_PER_WORLD))

        @hypothesis.seed(seed)
        @settings(
            max_examples=min(missing, 5) if stop_at_first else missing,
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @hypothesis.given(worlds(subject))
        def look(world: tuple[Case, ...]) -> None:
            for case in world:
                finding.add(judge(subject, case), case)

        before = finding.pairs
        look()
        if finding.pairs == before:
            raise RuntimeError(f"{subject.name}: hypothesis drew nothing")
        seed += 1
    return finding


@dataclass(frozen=True)
class Report:
    """What `run` found.

    Args:
        pairs: neighbouring pairs tried.
        violations: pairs that moved a sum by more than its sensitivity.
        worst: largest movement ÷ bound per subject; 1 = the bound is reached.
        examples: the first violating case per subject that has one.
    """

    pairs: int
    violations: int
    worst: Mapping[str, float]
    examples: Mapping[str, str]


def run(pairs: int, seed: int = 0, only: Sequence[Subject] | None = None) -> Report:
    """Attack every release and every loss with at least so many pairs in all."""
    from tests.dp.subjects import subjects

    chosen = list(only) if only is not None else subjects()
    unit = pairs / sum(subject.share for subject in chosen)
    findings = {subject.name: attack(subject, math.ceil(unit * subject.share), seed) for subject in chosen}
    return Report(
        sum(f.pairs for f in findings.values()),
        sum(f.violations for f in findings.values()),
        {name: f.worst for name, f in findings.items()},
        {name: f.example for name, f in findings.items() if f.violations},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    report = run(chosen.pairs, chosen.seed)
    for name, worst in report.worst.items():
        print(f"{name:40} worst {worst:.9f}")  # noqa: T201 -- this is a program
    print(f"{report.violations} violations in {report.pairs} pairs")  # noqa: T201 -- as above
    for name, example in report.examples.items():
        print(f"{name}: {example}", file=sys.stderr)  # noqa: T201 -- as above
    return int(report.violations > 0)


if __name__ == "__main__":
    sys.exit(main())
