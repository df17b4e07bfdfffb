"""Learning through the door: the pooled network without noise, better than margins with it, whatever runs out."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest

from dp.calibration import split_budget
from dp.central import CentralSum, UnprotectedSum
from dp.errors import UploadsExhausted
from dp.queries import Float64, Query, SecureSum
from models.data import SurvivalData
from models.errors import ConfigError, MisuseError
from models.generators.bayesnet import SCORES, TABLES, BayesianNetwork, Settings, initial_weights, schedule, train
from models.generators.bayesnet.scores import coarse
from models.generators.dictionary import OUTCOME, Codes, Column, Dictionary, Kind
from models.generators.oneway import OneWay
from secagg.masks import Keystream
from tests.models.generators.cohorts import DICTIONARY, GRID, cohort

MULTIPLIERS = {"histogram": 3.0, "marginals": 3.0, "sum": 3.0}
BOTH = pytest.mark.parametrize("settings", [TABLES, SCORES], ids=lambda s: s.name)


def learned(settings: Settings, data: SurvivalData, door: SecureSum, **more: object) -> BayesianNetwork:
    return train(settings, DICTIONARY, MULTIPLIERS, 4096, b"", data, door, **more)  # type: ignore[arg-type]


class _WaitingError(Exception):
    pass


@dataclass
class _Replay:
    """A site's door: sums that are known, then a stop at the first that is not."""

    known: list[Float64]
    asked: list[tuple[bytes, Float64]]

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        if self.known:
            return self.known.pop(0)
        self.asked.append((query.digest(), contribution()))
        raise _WaitingError


def federated(settings: Settings, sites: list[SurvivalData]) -> list[BayesianNetwork]:
    """Every site runs up to the next sum, the sums are added, all run on: nobody sees another's patients."""
    known: list[Float64] = []
    while True:
        asked: list[tuple[bytes, Float64]] = []
        done = []
        for data in sites:
            try:
                done.append(learned(settings, data, _Replay(list(known), asked)))
            except _WaitingError:
                continue
        if not asked:
            return done
        assert len({digest for digest, _ in asked}) == 1
        known.append(np.sum([numbers for _, numbers in asked], axis=0))


@BOTH
def test_several_sites_learn_the_pooled_network(settings: Settings) -> None:
    data = cohort(900)
    parts = [data.rows(np.arange(a, b)) for a, b in ((0, 500), (500, 500), (500, 650), (650, 900))]
    nets = federated(settings, parts)
    pooled = learned(settings, data, UnprotectedSum())

    assert {net.digest for net in nets} == {pooled.digest}
    assert any(pooled.parents)


def _counts(codes: Codes, columns: tuple[int, ...]) -> Float64:
    out = np.zeros([DICTIONARY.levels[c] for c in columns])
    np.add.at(out, tuple(codes[:, c] for c in columns), 1)
    return out


def test_tables_are_the_shares_of_the_table() -> None:
    tree = replace(TABLES, parents=1, reach=1)
    codes, net = DICTIONARY.codes(cohort(2000)), learned(tree, cohort(2000), UnprotectedSum())
    for j, table in enumerate(net.tables):
        counts = _counts(codes, (j, *net.parents[j]))
        prior = _counts(codes, (j,)) / 2000
        for parent in net.parents[j]:
            prior = np.multiply.outer(prior, _counts(codes, (parent,)) / 2000)
        many = (counts + prior).sum(axis=0)
        assert np.abs(table * many - counts - prior).max() < 1e-3
        assert np.allclose(table.T[many == 0], _counts(codes, (j,)) / 2000, atol=1e-6)


def test_more_parents_keep_the_pairs_of_the_table() -> None:
    codes, net = DICTIONARY.codes(cohort(4000)), learned(TABLES, cohort(4000), UnprotectedSum())
    drawn = net.levels_of(200_000, np.random.default_rng(0))
    edges = [(j, a) for j, those in enumerate(net.parents) for a in those]

    assert max(map(len, net.parents)) > TABLES.parents - 1
    assert len(edges) > 8
    for pair in edges:
        assert 0.5 * np.abs(_counts(codes, pair) / 4000 - _counts(drawn, pair) / 200_000).sum() < 0.02


def chain(n: int, seed: int = 0) -> tuple[Dictionary, SurvivalData]:
    """Follow-up → a → b → c, and d = a and b nearly; e is alone."""
    rng = np.random.default_rng(seed)
    died = rng.random(n) < 0.5
    a = np.where(died, rng.random(n) < 0.8, rng.random(n) < 0.2)
    b = np.where(a, rng.random(n) < 0.85, rng.random(n) < 0.25)
    c = np.where(b, rng.random(n) < 0.9, rng.random(n) < 0.15)
    d = np.where(a ^ b, rng.random(n) < 0.9, rng.random(n) < 0.1)
    e = rng.random(n) < 0.3
    x = np.stack([a, b, c, d, e], axis=1).astype(float)
    columns = tuple(Column(name, Kind.BINARY, (0.0, 1.0)) for name in "abcde")
    data = SurvivalData(x, np.ones(x.shape, dtype=bool), np.where(died, 50.0, 500.0), died)
    return Dictionary(columns, (0.0, 100.0, 365.0)), data


def test_a_known_network_is_found() -> None:
    dictionary, data = chain(6000)
    bic = replace(TABLES, penalty=1.0)
    net = train(bic, dictionary, MULTIPLIERS, 4096, b"", data, UnprotectedSum())
    a, b, c, d, e, outcome = range(6)

    assert net.order[0] == outcome
    assert net.parents[a] == (outcome,)
    assert net.parents[b] == (a,)
    assert net.parents[c] == (b,)
    assert net.parents[d] == (a, b)  # neither alone says anything about it
    assert len(net.parents[e]) == 1  # its place in the tree; no further parent
    assert not any(e in those for those in net.parents)
    # P(d | a, b), level "not observed" never.
    assert np.allclose(net.tables[d][1, :2, :2], [[0.1, 0.9], [0.9, 0.1]], atol=0.03)
    assert net.tables[d][2, :2, :2].max() < 1e-12


def test_scores_find_the_chain() -> None:
    dictionary, data = chain(6000)
    net = train(SCORES, dictionary, MULTIPLIERS, 4096, b"", data, UnprotectedSum())
    edges = {frozenset((j, a)) for j, those in enumerate(net.parents) for a in those}
    assert {frozenset((5, 0)), frozenset((0, 1)), frozenset((1, 2))} <= edges
    codes = net.levels_of(40_000, np.random.default_rng(0))
    real = dictionary.codes(data)
    for i, j in ((0, 1), (1, 2)):
        drawn, wanted = (np.mean((z[:, i] == 1) & (z[:, j] == 1)) for z in (codes, real))
        assert abs(drawn - wanted) < 0.03


# ---------------------------------------------------------------- under noise


def door(*about: object) -> CentralSum:
    key = hashlib.sha256(repr(about).encode()).digest()
    return CentralSum(Keystream(key), roster_size=6, collusion=1, shares=6)


def _pairs(codes: Codes) -> dict[tuple[int, int], Float64]:
    levels = DICTIONARY.levels
    return {
        (a, b): np.bincount(codes[:, a] * levels[b] + codes[:, b], minlength=levels[a] * levels[b]) / len(codes)
        for a, b in combinations(range(len(levels)), 2)
    }


def _distance(shares: Mapping[tuple[int, int], Float64], data: SurvivalData) -> float:
    """Mean total variation over all pairs of columns."""
    real = _pairs(DICTIONARY.codes(data))
    return float(np.mean([0.5 * np.abs(shares[pair] - table).sum() for pair, table in real.items()]))


def test_at_equal_epsilon_it_beats_one_way_marginals() -> None:
    data, release = cohort(2500), OneWay(DICTIONARY)
    ratios = []
    for seed in range(3):
        z = split_budget(1.0, 1e-5, {kind: (share, 1) for kind, share in SCORES.shares.items()})
        net = train(SCORES, DICTIONARY, z, 4096, b"", data, door("net", seed), (6 / 5) ** 0.5)
        drawn = net.levels_of(100_000, np.random.default_rng(seed))
        alone = split_budget(1.0, 1e-5, {"histogram": (1.0, 1)})["histogram"]
        query = release.query(alone, 4096)
        total = door("one", seed)(query, lambda: release.contribution(data))
        margins = coarse(release.decode(total, query.multiplier * query.sensitivity * (6 / 5) ** 0.5))
        independent = {(a, b): np.outer(margins[a], margins[b]).ravel() for a, b in combinations(range(7), 2)}
        ratios.append(_distance(_pairs(drawn), data) / _distance(independent, data))
    assert np.mean(ratios) < 0.8


@BOTH
@pytest.mark.parametrize("multiplier", [50.0, 1e6])
def test_noise_alone_gives_a_network_all_the_same(settings: Settings, multiplier: float) -> None:
    z = dict.fromkeys(MULTIPLIERS, multiplier)
    net = train(settings, DICTIONARY, z, 4096, b"", cohort(30), door("noise"))
    assert len(net.draw(200, np.random.default_rng(0))) == 200


def test_noise_makes_no_edges() -> None:
    rng = np.random.default_rng(0)
    data = cohort(2000)
    shuffled = SurvivalData(
        np.stack([rng.permutation(column) for column in data.x.T], axis=1),
        np.ones(data.x.shape, dtype=bool),
        rng.permutation(data.duration),
        data.event,
    )
    found = [
        sum(map(len, train(SCORES, DICTIONARY, dict.fromkeys(MULTIPLIERS, 20.0), 4096, b"", shuffled, door(s)).parents))
        for s in range(10)
    ]
    assert np.mean(found) < 0.1 * 21  # 5 % of 21 pairs are beyond two standard deviations


# ---------------------------------------------------------------- whatever runs out


class _Ending:
    """A door with so many uploads."""

    def __init__(self, uploads: int) -> None:
        self.left = uploads
        self.seen: list[Query] = []

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        self.seen.append(query)
        if not self.left:
            raise UploadsExhausted(query.kind)
        self.left -= 1
        return contribution()


@pytest.mark.parametrize(
    ("settings", "uploads", "edges"),
    [(TABLES, 0, 0), (TABLES, 1, 0), (TABLES, 2, 6), (TABLES, 3, 6), (SCORES, 0, 0), (SCORES, 1, 0), (SCORES, 2, 7)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_uploads_exhausted(settings: Settings, uploads: int, edges: int) -> None:
    ending = _Ending(uploads)
    net = learned(settings, cohort(1500), ending)
    found = sum(map(len, net.parents))

    assert found >= edges
    assert edges or not found
    assert len(ending.seen) == uploads + (uploads < len(schedule(settings, DICTIONARY, MULTIPLIERS, 4096)))
    data = net.draw(300, np.random.default_rng(0))
    assert len(data) == 300
    if uploads:
        assert abs(data.event.mean() - cohort(1500).event.mean()) < 0.12


@BOTH
def test_the_schedule_is_what_is_asked(settings: Settings) -> None:
    ending, told = _Ending(9), []
    net = learned(settings, cohort(800), ending, on_step=lambda done, digest: told.append((done, digest)))
    planned = schedule(settings, DICTIONARY, MULTIPLIERS, 4096)

    for query, plan in zip(ending.seen, planned, strict=True):
        for name in ("kind", "index", "length", "sensitivity", "multiplier", "account", "patient_cap"):
            assert getattr(query, name) == getattr(plan, name), name
    by_kind: dict[str, set[tuple[int, float]]] = {}
    for query in planned:
        by_kind.setdefault(query.kind, set()).add((query.length, query.sensitivity))
    assert all(len(each) == 1 for each in by_kind.values())
    assert [done for done, _ in told] == list(range(1, len(planned) + 1))
    assert len({digest for _, digest in told}) == len(planned)
    assert set(settings.shares) == set(by_kind)
    assert sum(settings.shares.values()) == pytest.approx(1)
    assert net.dictionary.names[-1] != OUTCOME


@BOTH
def test_each_sum_is_asked_about_all_before(settings: Settings) -> None:
    one, other = _Ending(9), _Ending(9)
    learned(settings, cohort(300), one)
    learned(settings, cohort(300, seed=1), other)
    same = [a.digest() == b.digest() for a, b in zip(one.seen, other.seen, strict=True)]
    assert same == [True] + [False] * (len(same) - 1)


@BOTH
def test_nobody_at_all(settings: Settings) -> None:
    net = learned(settings, cohort(10).rows(np.zeros(10, dtype=bool)), UnprotectedSum())
    assert len(net.draw(50, np.random.default_rng(0))) == 50


def test_a_wide_table_has_a_vector_of_moderate_length() -> None:
    columns = tuple(Column(f"g{k}", Kind.BINARY, (0.0, 1.0)) for k in range(40))
    lengths = {q.kind: q.length for q in schedule(TABLES, Dictionary(columns, GRID), MULTIPLIERS, 4096)}
    assert lengths["sum"] <= 2**18


# ---------------------------------------------------------------- bad input


@BOTH
def test_settings_come_back(settings: Settings) -> None:
    assert Settings.from_json(settings.to_json()) == settings
    assert Settings.from_json(settings.to_json()).digest() == settings.digest()
    assert replace(settings, evidence=3.0).digest() != settings.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "both"},
        {"parents": 0},
        {"parents": 5},
        {"cells": 11},
        {"cells": 2**16 + 1},
        {"reach": 2},
        {"reach": 9},
        {"room": 2999},
        {"room": 2**16 + 1},
        {"candidates": 0},
        {"penalty": 0.0},
        {"prior": 0.0},
        {"balance": 1.0},
        {"binary_weight": -1.0},
        {"outcome_share": 0.0},
        {"outcome_share": 1.0},
        {"evidence": -0.1},
        {"evidence": float("nan")},
    ],
    ids=str,
)
def test_settings_out_of_range(change: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match="bayesnet-scores"):
        Settings.from_json({**SCORES.to_json(), **change})


@pytest.mark.parametrize(
    "change", [{"more": 1}, {"parents": 3.0}, {"parents": True}, {"name": 1}, {"prior": "1"}], ids=str
)
def test_settings_of_another_form(change: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match="field"):
        Settings.from_json({**SCORES.to_json(), **change})


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="sum"):
        schedule(SCORES, DICTIONARY, {"histogram": 1.0}, 4096)
    with pytest.raises(MisuseError, match="no initial weights"):
        train(SCORES, DICTIONARY, MULTIPLIERS, 4096, b"12345678", cohort(5), UnprotectedSum())
    other = SurvivalData(np.zeros((1, 2)), np.zeros((1, 2)) == 0, np.ones(1), np.ones(1) == 1)
    with pytest.raises(MisuseError, match="6 columns"):
        learned(SCORES, other, UnprotectedSum())
    assert initial_weights(SCORES, DICTIONARY, b"seed") == b""
