"""No neighbour moves a release or a loss by more than it declares, and the attack finds every planted bug.

Every subject is attacked here with its share of 2,000 pairs; `python -m tests.dp.adversary --pairs 100000`
is the same with more.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import audits
import dp
import models
from dp.queries import KINDS, Neighbours
from tests.dp import adversary
from tests.dp.adversary import Case, attack, judge, worlds
from tests.dp.planted_releases import PLANTED, Broken, Planted, half
from tests.dp.subjects import subjects
from tests.sweeps import thinned

SUBJECTS = {subject.name: subject for subject in subjects()}
QUICK = {name: 108 if subject.share == 1 else 18 for name, subject in SUBJECTS.items()}
ALWAYS = {"clips after summing", "forgets the divisor n - 1", "numbers at risk", "responsibilities that sum to 3"}
"""Bugs that are looked for in every run; the others when there is time."""


@pytest.mark.parametrize("name", thinned(SUBJECTS, 2))
def test_no_neighbour_moves_a_sum_by_more_than_its_sensitivity(name: str) -> None:
    finding = attack(SUBJECTS[name], QUICK[name])

    assert finding.violations == 0, finding.example
    assert finding.pairs >= QUICK[name]
    assert finding.worst > 0.4, "an attack that moves nothing shows nothing"


@pytest.mark.parametrize("name", thinned(SUBJECTS, 3))
def test_removed_zero_patient(name: str) -> None:
    """Who is no number changes no bit of a sum, wherever he stands in the table."""
    subject = SUBJECTS[name]

    @settings(max_examples=2, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(worlds(subject))
    def look(world: tuple[Case, ...]) -> None:
        for case in world[:2]:
            without, _, _ = case.tables()
            with_nobody = [*without[: case.place], subject.nobody, *without[case.place :]]
            with np.errstate(all="ignore"):
                one, other = (subject.release.contribution(subject.table(t)) for t in (without, with_nobody))
            assert np.array_equal(one, other)

    look()


def test_the_ordinary_suite_tries_2000_pairs() -> None:
    assert sum(QUICK.values()) >= 2000


@pytest.mark.slow
def test_every_loss_and_release_again_with_another_seed() -> None:
    report = adversary.run(5000, seed=20260101)

    assert report.violations == 0, report.examples
    assert report.pairs >= 5000
    assert set(report.worst) == set(SUBJECTS)


@pytest.mark.parametrize(
    "planted", [pytest.param(p, id=str(p), marks=() if p.bug in ALWAYS else (pytest.mark.slow,)) for p in PLANTED]
)
def test_a_planted_bug_is_caught(planted: Planted) -> None:
    assert attack(planted.inside(SUBJECTS[planted.subject]), 1500, seed=1, stop_at_first=True).violations


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_half_of_any_declared_bound_is_too_little(name: str) -> None:
    subject = Planted(name, "declares half", declares=half).inside(SUBJECTS[name])

    assert isinstance(subject.release, Broken)
    assert attack(subject, 1500, seed=2, stop_at_first=True).violations


def test_every_release_of_the_packages_is_a_subject() -> None:
    attacked = {type(subject.release) for subject in SUBJECTS.values()}
    defined = set()
    for package in (dp, models, audits):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            if "def sensitivity(self" not in path.read_text():
                continue
            module = import_module(".".join((package.__name__, *path.relative_to(root).with_suffix("").parts)))
            for _, item in inspect.getmembers(module, inspect.isclass):
                wanted = {"sensitivity", "contribution", "decode", "query"} <= set(dir(item))
                if wanted and item.__module__ == module.__name__ and item.__name__ != "Release":
                    defined.add(item)

    assert len(defined) >= 14
    assert defined <= attacked


@pytest.mark.parametrize("name", [name for name in SUBJECTS if not name.startswith("loss")])
def test_what_leaves_and_what_is_declared_fit_the_query(name: str) -> None:
    release = SUBJECTS[name].release
    query = release.query(4.0, 500)  # type: ignore[attr-defined]

    assert query.length == release.length
    assert query.sensitivity == release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE)
    assert release.query(4.0, 500, 1).digest() != query.digest()  # type: ignore[attr-defined]
    assert release.sensitivity(Neighbours.REPLACE_ONE) <= 2 * query.sensitivity
    nobody = release.contribution(SUBJECTS[name].table([]))
    assert nobody.tolist() == [0.0] * release.length
    said = str(release.decode(nobody, 3.0 * query.sensitivity))  # type: ignore[attr-defined]
    assert "nan" not in said


def test_the_reference_page_lists_every_release() -> None:
    page = (Path(dp.__path__[0]).parent / "docs" / "reference" / "queries.md").read_text()

    for kind in KINDS:
        assert f"`{kind}`" in page, kind
    for subject in SUBJECTS.values():
        if not subject.name.startswith("loss"):
            assert f"| `{type(subject.release).__name__}` (" in page, subject.name


def test_the_report_counts_and_keeps_the_worst(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = PLANTED[0].inside(SUBJECTS["bounded sum"])
    monkeypatch.setattr("tests.dp.subjects.subjects", lambda: [SUBJECTS["count"], bad])

    assert adversary.main(["--pairs", "600", "--seed", "3"]) == 1

    out = capsys.readouterr()
    assert "count" in out.out
    assert "clips after summing" in out.err
    assert " violations in 6" in out.out


def test_what_is_not_finite_is_a_violation() -> None:
    subject = Planted("count", "is no number", lambda r, d: np.array([np.nan])).inside(SUBJECTS["count"])

    assert min(judge(subject, Case((), 0, ((1.0,),), ((0.0,),)))) > 1
