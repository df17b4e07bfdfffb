"""The bugs that the proofs must notice: each a change of a few words in one file, and the check that must fail.

The list is in `tests/dp/planted`, by room. The checks (`tests/dp/checks`) state properties: none compares with an
output that was stored. Each runs unchanged as a test; here it runs on the changed file, in memory, in a process of its
own (`tests/dp/nursery.py`). An old text that is no longer in its file is a failure, too: whoever changes a line that
stands there changes what the line promises.

    python -m tests.dp.mutants [WORD …]      tries those with a word in their name, all without one
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from tests.dp.nursery import Nursery, StaleAnchor, changed, nursery
from tests.dp.planted import Mutant, budget, kernel, ledger, noise, releases, way_out, witnessed

MUTANTS: tuple[Mutant, ...] = (
    *noise.BUGS,
    *kernel.BUGS,
    *releases.BUGS,
    *budget.BUGS,
    *ledger.BUGS,
    *way_out.BUGS,
    *witnessed.BUGS,
)


def said(to: Mutant, within: Nursery) -> str:
    """Return what the check says to a planted bug; empty if it notices nothing. Raises as `Nursery.caught`."""
    module, _, name = to.check.partition(":")
    return within.caught(to.file, to.edits, f"tests.dp.checks.{module}:{name}")


def tried(mutants: Iterable[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Plant one after the other; yield each with what its check said."""
    with nursery() as within:
        for mutant in mutants:
            yield mutant, said(mutant, within)


def stale(mutants: Iterable[Mutant]) -> dict[str, str]:
    """Names of the bugs that cannot be planted because their file has changed, with what is not there."""
    found = {}
    for mutant in mutants:
        try:
            changed(mutant.file, mutant.edits)
        except StaleAnchor as error:
            found[mutant.name] = str(error)
    return found


def run() -> tuple[int, int]:
    """Plant every bug; return (caught, planted).

    Raises:
        StaleAnchor: an old text is not in its file any more.
    """
    return sum(bool(answer) for _, answer in tried(MUTANTS)), len(MUTANTS)


def main(words: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    gone = stale(chosen)
    for name, problem in gone.items():
        print(f"STALE  {name:60} {problem}")  # noqa: T201 -- a program
    missed, begun = len(gone), time.monotonic()
    for mutant, answer in tried(mutant for mutant in chosen if mutant.name not in gone):
        missed += not answer
        verdict = answer.splitlines()[-1][:100] if answer else "NOT CAUGHT"
        print(f"{time.monotonic() - begun:6.1f} s  {mutant.name:60} {verdict}", flush=True)  # noqa: T201 -- a program
    print(f"{len(chosen) - missed} of {len(chosen)} caught")  # noqa: T201 -- as above
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
