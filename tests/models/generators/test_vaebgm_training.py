"""Learning through the door: the pooled generator from several sites, whatever runs out, and what is asked when."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from sklearn.mixture import BayesianGaussianMixture

from dp.calibration import split_budget, uploads_for
from dp.central import CentralSum, UnprotectedSum
from dp.queries import Query, SecureSum
from dp.releases.mixture import Mixture
from models.data import Float64, SurvivalData
from models.errors import ConfigError, MisuseError
from models.generators.door import Door
from models.generators.vaebgm import OPEN, PRIVATE, VAEBGM, Settings, initial_weights, schedule, train
from models.generators.vaebgm.settings import start_of
from models.generators.vaebgm.training import _mixed
from secagg.masks import Keystream
from tests.models.generators.cohorts import DICTIONARY, cohort
from tests.models.support import Alone, Together

MULTIPLIERS = {"histogram": 3.0, "gradient": 3.0, "mixture": 3.0}
SMALL = replace(OPEN, hidden=6, latent=3, steps=4, uploads=5, components=3, rounds=2, draws=3)
STEPS = 1 + SMALL.steps + SMALL.rounds
BOTH = pytest.mark.parametrize("settings", [SMALL, replace(SMALL, hidden=0, components=0)], ids=["mixed", "linear"])


def learned(settings: Settings, data: SurvivalData, door: SecureSum, **more: object) -> VAEBGM:
    weights = initial_weights(settings, DICTIONARY, b"seed")
    return train(settings, DICTIONARY, MULTIPLIERS, 4096, weights, data, door, **more)  # type: ignore[arg-type]


@BOTH
def test_several_sites_own_one_generator_bit_for_bit_and_it_is_the_pooled_one(settings: Settings) -> None:
    data = cohort(400)
    parts = [data.rows(np.arange(a, b)) for a, b in ((0, 250), (250, 250), (250, 400))]

    federated = Together(3).run(lambda i, door: learned(settings, parts[i], cast("SecureSum", door)))
    pooled = learned(settings, data, UnprotectedSum())

    assert len({each.digest for each in federated}) == 1
    for name, numbers in pooled.tensors().items():
        assert np.allclose(federated[0].tensors()[name], numbers, atol=1e-9), name
    assert np.ptp(pooled.params) > 0
    assert pooled.params.tobytes() != initial_weights(settings, DICTIONARY, b"seed")


@BOTH
def test_the_schedule_is_what_is_asked(settings: Settings) -> None:
    door, told = Alone(), []
    learned(settings, cohort(300), door, on_step=lambda done, digest: told.append((done, digest)))
    planned = schedule(settings, DICTIONARY, MULTIPLIERS, 4096)

    for query, plan in zip(door.asked, planned, strict=True):
        for name in ("kind", "index", "length", "sensitivity", "multiplier", "account", "patient_cap"):
            assert getattr(query, name) == getattr(plan, name), name
        assert query.public.startswith(plan.public[:32])
    by_kind: dict[str, set[tuple[int, float]]] = {}
    for query in planned:
        by_kind.setdefault(query.kind, set()).add((query.length, query.sensitivity))
    assert all(len(each) == 1 for each in by_kind.values())
    assert [done for done, _ in told] == list(range(1, len(planned) + 1))
    assert len({digest for _, digest in told}) == len(planned)
    assert set(settings.shares) == set(by_kind)
    assert sum(settings.shares.values()) == pytest.approx(1)


def test_each_sum_is_asked_about_all_before() -> None:
    one, other = Alone(), Alone()
    learned(SMALL, cohort(300), one)
    learned(SMALL, cohort(300, seed=1), other)
    same = [a.digest() == b.digest() for a, b in zip(one.asked, other.asked, strict=True)]
    assert same == [True] + [False] * (STEPS - 1)
    third = Alone()
    learned(replace(SMALL, kl_weight=0.5), cohort(300), third)
    assert [a.digest() == b.digest() for a, b in zip(one.asked, third.asked, strict=True)] == same


def _from(kind: str, index: int) -> Alone:
    return Alone(exhausted=lambda query: query.kind == kind and query.index >= index)


@pytest.mark.parametrize(
    ("kind", "index", "sums"),
    [("histogram", 0, STEPS - 1), ("gradient", 0, 1 + SMALL.rounds), ("gradient", 2, 3 + SMALL.rounds),
     ("mixture", 0, STEPS - SMALL.rounds), ("mixture", 1, STEPS - 1)],
    ids=str,
)  # fmt: skip
def test_uploads_exhausted(kind: str, index: int, sums: int) -> None:
    door, whole = _from(kind, index), Alone()
    found = learned(SMALL, cohort(400), door)
    learned(SMALL, cohort(400), whole)

    assert len(door.asked) == sums
    drawn = found.draw(400, np.random.default_rng(0))
    assert len(drawn) == 400
    start = start_of(SMALL)
    assert found.mixture is not None
    assert np.array_equal(found.mixture.means, start.means) == (kind == "mixture" and index == 0)
    if kind == "gradient" and index == 0:
        assert found.params.astype("<f8").tobytes() == initial_weights(SMALL, DICTIONARY, b"seed")
    if kind != "histogram":
        assert abs(drawn.event.mean() - cohort(400).event.mean()) < 0.12


@BOTH
def test_nobody_at_all(settings: Settings) -> None:
    found = learned(settings, cohort(10).rows(np.zeros(10, dtype=bool)), UnprotectedSum())
    assert len(found.draw(50, np.random.default_rng(0))) == 50


def test_noise_alone_gives_a_generator_all_the_same() -> None:
    key = hashlib.sha256(b"noise").digest()
    found = train(
        SMALL, DICTIONARY, dict.fromkeys(MULTIPLIERS, 1e5), 4096, initial_weights(SMALL, DICTIONARY, b"s"), cohort(30),
        CentralSum(Keystream(key), roster_size=6, collusion=1, shares=6),
    )  # fmt: skip
    data = found.draw(300, np.random.default_rng(0))
    assert np.isfinite(data.x).all()
    assert np.isfinite(data.duration).all()


def test_a_patient_who_cannot_be_read_changes_nothing() -> None:
    base, door, other = cohort(60), Alone(), Alone()
    x = base.x.copy()
    x[7, 0] = np.nan
    observed = base.observed.copy()
    observed[7, 0] = True
    learned(SMALL, SurvivalData(x, observed, base.duration, base.event), door)
    learned(SMALL, base.rows(np.arange(60) != 7), other)
    assert all(np.array_equal(a, b) for a, b in zip(door.sums, other.sums, strict=True))


# ---------------------------------------------------------------- what is learned


def _associations(data: SurvivalData) -> Float64:
    both = data.observed[:, 3:].all(axis=1)
    found: Float64 = np.asarray(np.corrcoef(data.x[both][:, 3:].T))
    return found[np.triu_indices(3, 1)]


def _survivors(data: SurvivalData, mutated: bool) -> float:
    some = data.observed[:, 3] & ((data.x[:, 3] == 1) == mutated)
    return float((data.duration[some] >= 700).mean())


def test_without_noise_mutations_and_survival_go_together_as_they_do() -> None:
    settings = replace(OPEN, hidden=12, latent=4, steps=80, uploads=88, learning_rate=0.1, components=6).sized(1500)
    real = cohort(1500)
    drawn = learned(settings, real, UnprotectedSum()).draw(40_000, np.random.default_rng(0))

    # A code of four numbers says less than the table: associations come out a fifth weaker, none is invented.
    assert np.allclose(_associations(drawn), _associations(real), atol=0.16)
    assert _associations(drawn)[0] > 0.35 > -0.15 > _associations(drawn)[1]
    assert _associations(real)[0] > 0.4 > -0.2 > _associations(real)[1]
    for mutated in (False, True):
        assert abs(_survivors(drawn, mutated) - _survivors(real, mutated)) < 0.05
    assert _survivors(real, mutated=False) - _survivors(real, mutated=True) > 0.15


def test_with_noise_something_of_it_is_left() -> None:
    settings = PRIVATE.sized(2500)
    uploads = {"histogram": 2, "gradient": settings.uploads, "mixture": uploads_for(settings.rounds)}
    z = split_budget(3.0, 1e-5, {kind: (share, uploads[kind]) for kind, share in settings.shares.items()})
    found = []
    for seed in range(2):
        key = hashlib.sha256(b"some noise %d" % seed).digest()
        door = CentralSum(Keystream(key), roster_size=6, collusion=1, shares=6)
        weights = initial_weights(settings, DICTIONARY, b"seed")
        net = train(settings, DICTIONARY, z, 4096, weights, cohort(2500), door, (6 / 5) ** 0.5)
        found.append(_associations(net.draw(20_000, np.random.default_rng(seed))))
    together, *apart = np.mean(np.stack(found), axis=0).tolist()
    assert together > 0.2
    assert max(apart) < -0.05


def test_em_finds_what_scikit_learn_finds() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[2.0, 0.0], [-2.0, 1.0], [0.0, -2.5]])
    x = np.concatenate([centre + 0.4 * rng.normal(size=(300, 2)) for centre in centres])
    settings = replace(SMALL, latent=2, components=3, rounds=40, radius=8.0, floor=1e-4)
    queries = [q for q in schedule(settings, DICTIONARY, MULTIPLIERS, 4096) if q.kind == "mixture"]

    ours = _mixed(settings, queries, x, Door(b"", UnprotectedSum(), 0.0, None))
    theirs = BayesianGaussianMixture(n_components=3, random_state=0, n_init=5).fit(x)

    assert abs(_log_likelihood(ours, x) - theirs.score(x)) < 0.1
    mine = ours.means[np.argsort(ours.means[:, 0])]
    assert np.allclose(mine, theirs.means_[np.argsort(theirs.means_[:, 0])], atol=0.1)


def _log_likelihood(mixture: Mixture, x: Float64) -> float:
    parts = []
    for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        z = x - mean
        square = np.einsum("ni,ij,nj->n", z, np.linalg.inv(covariance), z)
        parts.append(weight / mixture.weights.sum() * np.exp(-square / 2) / np.sqrt(np.linalg.det(covariance)))
    return float(np.mean(np.log(np.sum(parts, axis=0)) - x.shape[1] / 2 * np.log(2 * np.pi)))


@pytest.mark.parametrize(("declared", "mixed"), [(999.0, False), (1000.0, True)])
def test_the_mixture_is_a_matter_of_the_declared_number(declared: float, mixed: bool) -> None:
    settings = SMALL.sized(declared)
    door = Alone()
    found = learned(settings, cohort(1500), door)

    assert settings.mixed == mixed == (found.mixture is not None)
    assert {query.kind for query in door.asked} == set(settings.shares)
    assert ("mixture" in settings.shares) == mixed


def test_every_step_uses_the_next_of_a_patients_normal_vectors() -> None:
    """With a step size of nothing the parameters stay, so a sum differs from another by its normal vectors alone."""
    door = Alone()
    learned(replace(SMALL, draws=3, learning_rate=1e-300), cohort(100), door)
    first, second, third, fourth = door.sums[1:5]
    assert np.array_equal(first, fourth)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("settings", [OPEN, PRIVATE], ids=lambda s: s.name)
def test_settings_come_back(settings: Settings) -> None:
    assert Settings.from_json(settings.to_json()) == settings
    assert Settings.from_json(settings.to_json()).digest() == settings.digest()
    assert replace(settings, clip=settings.clip + 1).digest() != settings.digest()
    assert settings.sized(123).normaliser == 123.0


@pytest.mark.parametrize(
    "change",
    [{"hidden": -1}, {"hidden": 4097}, {"latent": 0}, {"latent": 65}, {"draws": 0}, {"draws": 65}, {"components": -1},
     {"components": 65}, {"steps": 0}, {"steps": 10_001}, {"uploads": 43}, {"rounds": 0}, {"rounds": 1001},
     {"update": "sgd"}, {"bound": 0.0}, {"outcome_weight": 0.0}, {"clip": 0.0}, {"learning_rate": 0.0},
     {"normaliser": 0.0}, {"radius": 0.0}, {"kl_weight": -1.0}, {"missing_weight": -0.1}, {"averaging": -1.0},
     {"fewest": -1.0}, {"momentum": 1.0}, {"floor": 0.0}, {"floor": 1.5}, {"clip": float("nan")},
     {"radius": float("inf")}],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range(change: Mapping[str, object]) -> None:
    body = {**PRIVATE.to_json(), "steps": 40, "uploads": 44, **change}
    with pytest.raises(ConfigError, match="vaebgm-private"):
        Settings.from_json(body)


@pytest.mark.parametrize(
    "change", [{"more": 1}, {"steps": 3.0}, {"steps": True}, {"name": 1}, {"clip": "1"}, {"update": 2}], ids=str
)
def test_settings_of_another_form(change: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError, match="field"):
        Settings.from_json({**PRIVATE.to_json(), **change})


def test_what_does_not_fit_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ConfigError, match="gradient, mixture"):
        schedule(SMALL, DICTIONARY, {"histogram": 1.0}, 4096)
    door = Alone()
    with pytest.raises(MisuseError, match="the network needs"):
        train(SMALL, DICTIONARY, MULTIPLIERS, 4096, b"12345678", cohort(5), door)
    other = SurvivalData(np.zeros((1, 2)), np.zeros((1, 2)) == 0, np.ones(1), np.ones(1) == 1)
    with pytest.raises(MisuseError, match="6 columns"):
        learned(SMALL, other, door)
    assert not door.asked


def test_every_kind_has_one_length() -> None:
    lengths: dict[str, set[int]] = {}
    found: tuple[Query, ...] = schedule(PRIVATE, DICTIONARY, MULTIPLIERS, 4096)
    for query in found:
        lengths.setdefault(query.kind, set()).add(query.length)
    assert all(len(each) == 1 for each in lengths.values())
