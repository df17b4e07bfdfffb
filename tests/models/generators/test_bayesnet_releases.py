"""What leaves a hospital for a network: bounded for every table, lengths public whatever was chosen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from dp.queries import Float64, Neighbours
from models.data import SurvivalData
from models.errors import MisuseError
from models.generators.bayesnet.evidence import shrunk
from models.generators.bayesnet.families import Families, pairs
from models.generators.bayesnet.scores import Coding, Products, Summary
from models.generators.dictionary import Codes
from models.generators.oneway import Frequencies, OneWay
from tests.dp.adversary import Patient, Subject, attack, follow_ups
from tests.models.generators.cohorts import COLUMNS, DICTIONARY, GRID, cohort
from tests.sweeps import examples

FEATURES = len(COLUMNS)
NOBODY = ((math.nan,) * FEATURES, (True,) * FEATURES, 100.0, True)


def frequencies(n: int = 400, noise: float = 0.0) -> Frequencies:
    release = OneWay(DICTIONARY)
    total = release.contribution(cohort(n))
    return release.decode(total + np.random.default_rng(0).normal(0, noise, total.shape), max(noise, 1e-9))


def chosen(most: int) -> tuple[tuple[int, ...], ...]:
    small = [t for t in combinations(range(FEATURES + 1), 3) if math.prod(DICTIONARY.levels[a] for a in t) <= 343]
    return tuple(small[:most])


def as_codes(patients: Sequence[Patient]) -> Codes:
    n = len(patients)
    return DICTIONARY.codes(
        SurvivalData(
            np.array([x for x, _, _, _ in patients], dtype=np.float64).reshape(n, FEATURES),
            np.array([seen for _, seen, _, _ in patients], dtype=np.bool_).reshape(n, FEATURES),
            np.array([time for _, _, time, _ in patients], dtype=np.float64),
            np.array([died for _, _, _, died in patients], dtype=np.bool_),
        ).bounded(GRID[-1])
    )


def _opposite(patient: Patient) -> Patient:
    x, seen, time, died = patient
    return tuple(-value for value in x), seen, time, not died


def _overruled(patient: Patient) -> Patient:
    x, _, time, died = patient
    return tuple(-1000.0 * value for value in x), (True,) * len(x), time / 2, not died


def _subject(name: str, release: Families | Products) -> Subject:
    return Subject(name, release, follow_ups(FEATURES, GRID), as_codes, _opposite, _overruled, NOBODY)


SUBJECTS = [
    _subject("families", Families(DICTIONARY, 3, chosen(5), 5, 343)),
    _subject("products", Products(DICTIONARY, 0.7, Coding(frequencies(), 0.0, 1.4, 0.16))),
    _subject(
        "products, frequencies of nothing but noise",
        Products(DICTIONARY, 0.5, Coding(frequencies(5, 90.0), 90.0, 3, 0.16)),
    ),
]
"""For the attack on all releases."""


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_no_pair_of_neighbours_moves_a_sum_farther_than_declared(subject: Subject) -> None:
    found = attack(subject, examples(600))

    assert found.violations == 0, found.example
    assert found.worst > 0.5  # the attack comes near: half of the bound would be too little


class _Unbounded:
    """Products as a careless hand would write them: nobody's scores are scaled."""

    def __init__(self, release: Products) -> None:
        self.length, self.sensitivity, self._release = release.length, release.sensitivity, release

    def contribution(self, codes: Codes) -> Float64:
        coding = self._release.coding
        assert coding is not None
        v = np.stack([s[codes[:, j]] for j, s in enumerate(coding.scores)], axis=1)
        out = np.zeros(self.length)
        out[: v.shape[1]] = 3 * (v * v).sum(axis=0)
        return out


def test_the_attack_sees_what_is_not_bounded() -> None:
    subject = SUBJECTS[1]
    assert isinstance(subject.release, Products)
    broken = replace(subject, release=_Unbounded(subject.release))

    assert attack(broken, 600, stop_at_first=True).violations


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_the_query_is_that_of_the_release(subject: Subject) -> None:
    release = subject.release
    query = release.query(4.0, 500)  # type: ignore[attr-defined]

    assert (query.kind, query.length) == ("sum", release.length)
    assert query.sensitivity == release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE)
    assert release.sensitivity(Neighbours.REPLACE_ONE) <= 2 * query.sensitivity
    assert release.contribution(as_codes([])).tolist() == [0.0] * release.length
    assert "nan" not in str(release.decode(np.zeros(release.length), 3.0))  # type: ignore[attr-defined]


def test_a_patient_of_the_products_depends_on_himself_alone() -> None:
    release, codes = Products(DICTIONARY, 0.7, Coding(frequencies(), 0.0, 1.4, 0.16)), DICTIONARY.codes(cohort(60))
    parts = sum(release.contribution(codes[i : i + 1]) for i in range(60))

    assert np.array_equal(parts, release.contribution(codes))


def test_a_usual_patient_is_not_scaled() -> None:
    coding = Coding(frequencies(), 0.0, 1.4, 0.16)
    codes = DICTIONARY.codes(cohort(60))
    r = [
        np.concatenate(
            [(np.eye(n)[row[j]] - coding.margins[j]) * coding.weights[j] for j, n in enumerate(DICTIONARY.levels)]
        )
        for row in codes
    ]
    usual = min(range(60), key=lambda i: r[i] @ r[i])
    assert r[usual] @ r[usual] < 0.8

    found = Products(DICTIONARY, 0.7, coding).contribution(codes[usual : usual + 1])
    assert np.allclose(found[: len(r[usual])], r[usual] * 0.7**0.5, atol=1e-5)


def test_margins_lean_on_the_more_precise_release() -> None:
    codes = DICTIONARY.codes(cohort(4000))
    for early, late, exact in ((60.0, 0.0, True), (60.0, 1e6, False)):
        release = Products(DICTIONARY, 0.7, Coding(frequencies(4000, early), early, 1.4, 0.16))
        margins = release.decode(release.contribution(codes), late).margins
        off = max(np.abs(m - np.bincount(codes[:, j], minlength=len(m)) / 4000).max() for j, m in enumerate(margins))
        assert (off < 0.012) == exact


def test_covariances_are_shrunk_by_their_noise_and_cut_where_it_may_be_all() -> None:
    covariance, noise = np.zeros((2, 3, 3))
    covariance[0, 1] = covariance[1, 0] = -0.4
    covariance[0, 2] = covariance[2, 0] = 0.15
    noise[:] = 0.1
    found = shrunk(Summary((), (), covariance, noise), 2.0)
    assert found[0, 1] == pytest.approx(-0.4 * (1 - 1 / 16))
    assert found[0, 2] == 0.0
    assert shrunk(Summary((), (), covariance, 0 * noise), 2.0) == pytest.approx(covariance)


def test_products_say_margins_and_covariances() -> None:
    data = cohort(4000)
    codes, coding = DICTIONARY.codes(data), Coding(frequencies(4000), 0.0, 1.4, 0.16)
    release = Products(DICTIONARY, 0.7, coding)
    found = release.decode(release.contribution(codes), 0.0)

    for j, margin in enumerate(found.margins):
        assert np.allclose(margin, np.bincount(codes[:, j], minlength=len(margin)) / 4000, atol=0.02)
    true = np.cov(np.stack([s[codes[:, j]] for j, s in enumerate(coding.scores)]))
    strong = np.abs(true) > 0.3 * np.sqrt(np.outer(np.diag(true), np.diag(true)))
    np.fill_diagonal(strong, val=False)
    assert strong.sum() >= 6
    assert np.abs(found.covariance / true - 1)[strong].max() < 0.25  # norms are bounded: corrected on average
    assert (np.sign(found.covariance) == np.sign(true))[strong].all()


@pytest.mark.parametrize(
    "make", [lambda: Products.blank(DICTIONARY, 0.7), lambda: Families.blank(DICTIONARY, 3, 4, 343)]
)
def test_the_public_length_is_that_before_anything_is_known(make: Callable[[], Products | Families]) -> None:
    blank = make()
    full: Products | Families
    if isinstance(blank, Products):
        full = replace(blank, coding=Coding(frequencies(), 0.0, 1.4, 0.16))
    else:
        full = replace(blank, tables=chosen(3))

    assert full.length == blank.length
    for relation in Neighbours:
        assert full.sensitivity(relation) == blank.sensitivity(relation)
    assert full.query(2.0, 9).digest() != blank.query(2.0, 9).digest()


def test_every_number_of_ways_has_one_length() -> None:
    assert Families.blank(DICTIONARY, 3, 4, 343).length == Families.blank(DICTIONARY, 4, 4, 343).length
    assert len(pairs(DICTIONARY).sets) == 21


def test_families_count_their_tables_and_nothing_else() -> None:
    codes, tables = DICTIONARY.codes(cohort(300)), chosen(3)
    release = Families(DICTIONARY, 3, tables, 5, 343)
    total = release.contribution(codes)
    found = release.decode(total, 0.0)

    assert tuple(found) == tables
    assert total.sum() == 3 * 300
    for table, counts in found.items():
        assert counts[tuple(codes[7, list(table)])] == (codes[:, table] == codes[7, list(table)]).all(axis=1).sum()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Families(DICTIONARY, 3, chosen(5), 4, 343),
        lambda: Families(DICTIONARY, 3, ((0, 1, 6),), 4, 100),
        lambda: Families(DICTIONARY, 4, chosen(2), 4, 343),
        lambda: Products.blank(DICTIONARY, 0.7).contribution(DICTIONARY.codes(cohort(3))),
        lambda: Products(DICTIONARY, 0.7, Coding(frequencies(), 0.0, 1.4, 0.16)).decode(np.zeros(3), 1.0),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(MisuseError):
        make()


def test_follow_up_has_its_share_of_the_scores() -> None:
    coding = Coding(frequencies(), 0.0, 1.4, 0.3)
    squares = [float(m @ (s * s)) for m, s in zip(coding.margins, coding.scores, strict=True)]
    assert sum(squares) == pytest.approx(1.0)
    assert squares[-1] == pytest.approx(0.3)
    release = Products(DICTIONARY, 0.7, coding)
    assert (
        release.query(1.0, 10).public
        != replace(release, coding=replace(coding, outcome_share=0.2)).query(1.0, 10).public
    )
