"""The properties hold, and every planted bug breaks the one that is meant for it.

`make check` runs the properties and plants a handful of bugs, `make test` plants all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.dp import mutants, proof_page
from tests.dp.mutants import MUTANTS, said, stale
from tests.dp.nursery import Nursery, StaleAnchor, nursery
from tests.dp.planted import Mutant, bug
from tests.sweeps import thinned

CHECKS = {
    f"{module.__name__.rsplit('.', 1)[1]}:{check.__name__}": check
    for _, module in proof_page.ROOMS
    for check in module.CHECKS
}
ELSEWHERE = ("path:", "noise:no_neighbour_moves")
"""Properties that other files try in every run, with more of the same: here when there is time."""

LIGHT = ("numpy", "pytest", "scipy.special")
ALWAYS = ("a closed run gets its uploads back", "the head of a fork is accepted")
"""Bugs in files that need no large library: they are planted in every run."""


@pytest.mark.parametrize(
    "name",
    thinned([pytest.param(name, marks=[pytest.mark.slow] * name.startswith(ELSEWHERE)) for name in CHECKS], 3),
)
def test_the_product_has_the_property(name: str) -> None:
    CHECKS[name]()


def test_every_planted_text_is_in_its_file() -> None:
    assert not stale(MUTANTS)


def test_the_list_is_long_and_every_bug_has_its_own_check() -> None:
    assert len(MUTANTS) >= 90
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.check for mutant in MUTANTS} <= set(CHECKS)
    assert all(mutant.why and mutant.edits for mutant in MUTANTS)
    assert set(ALWAYS) <= {mutant.name for mutant in MUTANTS}


def test_the_page_says_what_is_tested() -> None:
    """Its tables are written from the checks, the bugs and the traps."""
    present = proof_page.PAGE.read_text(encoding="utf-8")
    assert present == proof_page.page(present), "run: python -m tests.dp.proof_page"


@pytest.mark.slow
def test_a_handful_of_bugs_is_caught() -> None:
    with nursery(LIGHT) as within:
        for mutant in MUTANTS:
            if mutant.name in ALWAYS:
                assert said(mutant, within), mutant.name


@pytest.fixture(scope="module")
def within() -> Iterator[Nursery]:
    with nursery() as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [pytest.param(each, id=each.name) for each in MUTANTS])
def test_a_planted_bug_is_caught(mutant: Mutant, within: Nursery) -> None:
    assert said(mutant, within), f"{mutant.name}: {mutant.check} noticed nothing; {mutant.why}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({mutant.check for mutant in MUTANTS}))
def test_a_check_says_nothing_where_no_bug_is_planted(name: str, within: Nursery) -> None:
    """Else whatever is planted would be caught: also in a nursery the check passes."""
    assert not within.caught("", (), f"tests.dp.checks.{name}")


@pytest.mark.slow
def test_what_the_runner_says(within: Nursery) -> None:
    harmless = ("dp/rows.py", (("UNITS: Final = 2.0**32", "UNITS: Final = 2.0**32 * 1"),), "tests.dp.checks.book:Book")
    assert not within.caught(*harmless)
    with pytest.raises(StaleAnchor):
        within.caught("dp/rows.py", (("no such text", ""),), "tests.dp.checks.book:Book")
    with pytest.raises(StaleAnchor):
        within.caught("dp/rows.py", (("import", "imports"),), "tests.dp.checks.book:Book")
    with pytest.raises(SyntaxError):
        within.caught("dp/rows.py", (("UNITS: Final = 2.0**32", "UNITS: Final = ="),), "tests.dp.checks.book:Book")
    with pytest.raises(RuntimeError):
        within.caught("", (), "tests.dp.checks.book:no_such_check")


@pytest.mark.slow
def test_the_score_counts_what_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], within: Nursery
) -> None:
    name = "book:two_quorums_share_an_honest_peer"
    caught = next(each for each in MUTANTS if each.check == name)
    harmless = bug(
        "harmless",
        caught.file,
        name,
        "nothing",
        ("from itertools import pairwise", "import itertools\nfrom itertools import pairwise"),
    )
    gone = bug("gone", caught.file, name, "nothing", ("no such text", ""))
    light: Callable[[], object] = lambda: nursery(LIGHT)  # noqa: E731 -- stands in for the full one
    monkeypatch.setattr(mutants, "nursery", light)
    monkeypatch.setattr(mutants, "MUTANTS", (caught, harmless))

    assert mutants.run() == (1, 2)
    assert mutants.main([]) == 1
    assert "NOT CAUGHT" in capsys.readouterr().out
    monkeypatch.setattr(mutants, "MUTANTS", (caught, gone))
    assert mutants.main([]) == 1
    assert "STALE" in capsys.readouterr().out
    with pytest.raises(StaleAnchor):
        mutants.run()
