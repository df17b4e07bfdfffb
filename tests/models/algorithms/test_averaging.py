"""FedAvg and FedProx through a secure sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import noise_shares
from dp.budget import BudgetKind, Filter
from dp.errors import UploadsExhausted
from dp.events import event
from dp.queries import Float64, Query, SecureSum
from models.algorithms.averaging import Averaging, Rounds, fit, update_query
from models.algorithms.local import LocalNoise, OwnNoise, step_multiplier, upload_multiplier
from models.algorithms.protection import UPDATE
from models.data import SurvivalData, joined
from models.errors import ConfigError, MisuseError, NotPerPatient
from models.presets import Preset
from models.training import fit as lockstep
from models.training import initial_weights
from secagg.manifest import Noise
from secagg.masks import Keystream
from tests.models.algorithms.support import CAP, SILENT, Whole, cut
from tests.models.support import Alone, Replay, patients, small, spec
from tests.sweeps import examples

SIZES = (60, 30, 10)
EVEN = (1 / 3, 1 / 3, 1 / 3)


def plain(steps: int = 4, **changes: object) -> Preset:
    return replace(small(steps), update="sgd-momentum", momentum=0.0, learning_rate=0.5, **changes)  # type: ignore[arg-type]


def rounds(preset: Preset, averaging: Averaging, parts: Sequence[SurvivalData], door: Whole | None = None) -> Rounds:
    weights = initial_weights(preset, 4, b"seed")
    query = _query(preset, averaging, len(weights) // 8)
    whole = door or Whole(len(parts))
    found = whole.run(
        lambda i, s: fit(preset, averaging, i, 4, weights, parts[i], s, query, noise=Noise.NONE)
    )  # fmt: skip
    assert len({each.trained.digest for each in found}) == 1, "sites own different models"
    return found[0]


def one(
    preset: Preset, averaging: Averaging, data: SurvivalData, secure_sum: SecureSum, noise: LocalNoise | None = None,
    multiplier: float = SILENT,
) -> Rounds:  # fmt: skip
    weights = initial_weights(preset, 4, b"seed")
    query = _query(preset, averaging, len(weights) // 8, multiplier)
    declared = Noise.NONE if noise is None else Noise.LOCAL
    return fit(preset, averaging, 0, 4, weights, data, secure_sum, query, noise=declared, local_noise=noise)


def _query(preset: Preset, averaging: Averaging, length: int, multiplier: float = SILENT) -> Callable[[int], Query]:
    return lambda t: update_query(preset, averaging, length, multiplier, CAP, t)


def numbers(params: bytes) -> Float64:
    return np.frombuffer(params, dtype="<f8")


@pytest.mark.parametrize("shares", [EVEN, (0.6, 0.3, 0.1)])
def test_one_local_step_is_lockstep_gradient_descent(shares: tuple[float, ...]) -> None:
    preset, parts = plain(6), cut(patients(100), SIZES)
    averaging = Averaging(1, 100.0, 0.0, 1.0, shares)

    averaged = rounds(preset, averaging, parts).trained
    study = spec(preset)
    steps = lockstep(preset, 4, study.weights, joined(parts), Alone(), lambda t: study.query("gradient", t))

    assert np.allclose(numbers(averaged.params), numbers(steps.params), atol=1e-6)  # integers in units of B
    assert averaged.steps_done == 6
    assert not np.allclose(numbers(averaged.params), numbers(study.weights), atol=1e-2)


def test_several_local_steps_are_not() -> None:
    preset, parts = plain(6), cut(patients(100), SIZES)

    one_step = rounds(preset, Averaging(1, 100.0, 0.0, 1.0, EVEN), parts).trained
    five = rounds(preset, Averaging(5, 100.0, 0.0, 1.0, EVEN), parts).trained

    assert np.max(np.abs(numbers(one_step.params) - numbers(five.params))) > 0.05


@pytest.mark.parametrize("update", ["adam", "sgd-momentum"])
def test_an_infinite_pull_keeps_everybody_at_the_global_weights(update: str) -> None:
    preset, parts = replace(plain(3), update=update), cut(patients(100), SIZES)
    start = numbers(initial_weights(preset, 4, b"seed"))
    moved = []
    for proximal in (0.0, 10.0, 1e3, 1e6, 1e12, 1e300):
        found = numbers(rounds(preset, Averaging(3, 100.0, proximal, 1.0, EVEN), parts).trained.params)
        moved.append(float(np.max(np.abs(found - start))))

    assert moved == sorted(moved, reverse=True)
    assert moved[0] > 0.05
    assert moved[4] < 1e-6
    assert moved[5] <= 1e-15  # of the average of equal weights


def test_fedprox_solves_its_own_problem() -> None:
    """With many local steps a site ends where gradient + μ(v − w) vanishes."""
    preset = replace(plain(1), clip=1000.0, learning_rate=0.2, averaging=0.0)
    data = patients(80)
    door = Alone()
    one(preset, Averaging(1000, 100.0, 3.0, 1.0, (1.0,)), data, door)
    change = door.sums[0]
    gradient = Alone()
    study = spec(preset)
    weights = (numbers(study.weights) + change).astype("<f8").tobytes()
    lockstep(preset, 4, weights, data, gradient, lambda t: study.query("gradient", t))

    assert np.allclose(gradient.sums[0] / preset.normaliser + 3.0 * change, 0.0, atol=1e-4)
    assert np.max(np.abs(change)) > 0.01


@pytest.mark.parametrize("bound", [0.01, 1.0, 100.0])
def test_a_contribution_is_at_most_its_share_of_the_bound(bound: float) -> None:
    preset = plain(3)
    door = Alone()
    one(preset, Averaging(4, bound, 0.0, 1.0, (0.25, 0.75)), patients(80), door)

    lengths = [float(np.linalg.norm(total)) for total in door.sums]
    assert max(lengths) <= 0.25 * bound
    assert (bound > 1.0) or max(lengths) > 0.249 * bound


def test_a_training_that_blows_up_contributes_zero() -> None:
    preset = replace(plain(2), learning_rate=1e308, normaliser=1e-3)
    door = Alone()
    one(preset, Averaging(3, 1.0, 0.0, 1.0, (1.0,)), patients(20), door)

    assert len(door.sums) == 2
    assert not np.any(door.sums)


@pytest.mark.parametrize("update", ["adam", "sgd-momentum"])
def test_sites_with_nothing_to_say(update: str) -> None:
    made = patients(30)
    nobody_died = SurvivalData(made.x, made.observed, made.duration, np.zeros(30, bool))
    flat = SurvivalData(np.full((30, 4), 3.0), np.zeros((30, 4), bool), made.duration, made.event)
    preset = replace(plain(2), update=update)
    averaging = Averaging(3, 10.0, 0.0, 1.0, (0.25,) * 4)
    door, silent = Whole(4), Alone()

    found = rounds(preset, averaging, [made, patients(0), nobody_died, flat], door)
    one(preset, averaging, patients(0), silent)

    assert np.all(np.isfinite(numbers(found.trained.params)))
    assert all(not np.any(total) for total in silent.sums)


def test_the_queries_are_recorded_in_order_about_the_present_weights() -> None:
    preset, averaging, door = plain(3), Averaging(2, 7.0, 0.5, 1.0, EVEN), Whole(3)
    rounds(preset, averaging, cut(patients(60), (30, 20, 10)), door)
    asked = door.asked[0]

    assert [query.index for query in asked] == [0, 1, 2]
    assert {(query.kind, query.sensitivity) for query in asked} == {(UPDATE, 7.0)}
    assert len({query.public for query in asked}) == 3
    other = update_query(preset, replace(averaging, proximal=0.6), asked[0].length, SILENT, CAP)
    assert other.public != update_query(preset, averaging, asked[0].length, SILENT, CAP).public
    assert door.largest <= 1.0 / CAP


def test_a_site_that_was_away_replays_and_rounds_end_when_uploads_do() -> None:
    preset, averaging = plain(4), Averaging(3, 10.0, 0.1, 1.0, (1.0,))
    door = Alone(exhausted=lambda query: query.index >= 3)
    steps: list[int] = []

    seen = one(preset, averaging, patients(50), door)
    replayed = one(replace(preset, steps=3), averaging, patients(2), Replay(door.sums))
    weights = initial_weights(preset, 4, b"seed")
    fit(
        preset, averaging, 0, 4, weights, patients(5), Alone(), _query(preset, averaging, len(weights) // 8),
        lambda done, _: steps.append(done), noise=Noise.NONE,
    )  # fmt: skip

    assert seen.trained.steps_done == 3
    assert replayed.trained.params == one(replace(preset, steps=3), averaging, patients(50), Alone()).trained.params
    assert steps == [1, 2, 3, 4]
    assert one(preset, averaging, patients(9), _never).trained.steps_done == 0


def _never(query: Query, contribution: object) -> Float64:
    raise UploadsExhausted(query.kind)


class Recorded:
    """A `LocalNoise` that remembers what it was asked and adds exact noise."""

    def __init__(self, seed: bytes) -> None:
        self.asked: list[Query] = []
        self.noise: list[Float64] = []
        self._own = OwnNoise(Keystream(seed.ljust(32, b"-")))

    def __call__(self, query: Query, clipped: Float64) -> Float64:
        self.asked.append(query)
        noisy = self._own(query, clipped)
        self.noise.append(noisy - clipped)
        return noisy


def test_with_local_noise_every_local_step_is_noisy_and_the_upload_costs_them_all() -> None:
    preset, averaging, recorded = plain(3), Averaging(4, 100.0, 0.0, 1.0, (1.0,)), Recorded(b"a")
    door = Alone()

    found = one(preset, averaging, patients(50), door, recorded, multiplier=5.0)

    assert found.noise.startswith("local noise")
    assert len(recorded.asked) == 3 * 4
    assert len({query.digest() for query in recorded.asked}) == 12
    assert {(query.multiplier, query.sensitivity) for query in recorded.asked} == {(10.0, preset.clip)}
    steps = sum(Fraction(query.multiplier) ** -2 for query in recorded.asked)
    uploads = sum(Fraction(query.multiplier) ** -2 for query in door.asked)
    assert steps <= uploads <= steps * (1 + Fraction(1, 10**12))
    spread = np.std(np.concatenate(recorded.noise)) / (10.0 * preset.clip)
    assert 0.85 < spread < 1.15  # 12 × 31 draws


def test_a_site_without_patients_uploads_noise_like_any_other_and_a_repeated_round_draws_anew() -> None:
    preset, averaging = plain(1), Averaging(2, 100.0, 0.0, 1.0, (1.0,))
    vectors: list[Float64] = []

    def twice(query: Query, contribution: Callable[[], Float64]) -> Float64:
        vectors.extend([contribution(), contribution()])
        return vectors[-1]

    one(preset, averaging, patients(0), twice, Recorded(b"b"), multiplier=2.0)

    assert np.all(vectors[0] != 0.0)
    assert np.all(vectors[0] != vectors[1])


def test_the_privacy_of_an_upload_does_not_depend_on_the_others() -> None:
    """Noise moves the weights before the next step reads them: an upload is a function of its noisy sums."""
    preset, averaging = plain(1), Averaging(3, 100.0, 0.3, 1.0, (1.0,))
    first, door = Recorded(b"c"), Alone()
    one(preset, averaging, patients(40), door, first, multiplier=3.0)
    sums = iter(_noisy(first, preset, averaging))
    again = Alone()
    one(preset, averaging, patients(7, seed=3), again, lambda query, clipped: next(sums), multiplier=3.0)

    assert np.array_equal(again.sums[0], door.sums[0])


def _noisy(recorded: Recorded, preset: Preset, averaging: Averaging) -> list[Float64]:
    kept: list[Float64] = []

    def keep(query: Query, clipped: Float64) -> Float64:
        kept.append(OwnNoise.__call__(recorded._own, query, clipped))
        return kept[-1]

    recorded._own = OwnNoise(Keystream(b"c".ljust(32, b"-")))
    one(preset, averaging, patients(40), Alone(), keep, multiplier=3.0)
    return kept


@pytest.mark.parametrize("local_steps", [1, 2, 3, 4, 7, 10, 100, 1000])
@pytest.mark.parametrize("multiplier", [0.3, 1.0, 2.2360679, 17.3, 1e6])
def test_accounting_never_rounds_in_our_favour(multiplier: float, local_steps: int) -> None:
    z = step_multiplier(multiplier, local_steps)
    assert Fraction(z) ** 2 >= local_steps * Fraction(multiplier) ** 2
    assert z == pytest.approx(multiplier * local_steps**0.5)
    m = upload_multiplier(multiplier, local_steps)
    assert local_steps * Fraction(m) ** 2 <= Fraction(multiplier) ** 2
    assert m == pytest.approx(multiplier / local_steps**0.5)


@settings(max_examples=examples(200))
@given(
    multiplier=st.floats(0.05, 1e4),
    local_steps=st.integers(1, 1000),
    filter_=st.sampled_from([Filter(BudgetKind.GDP, 0), Filter(BudgetKind.RDP, 2), Filter(BudgetKind.RDP, 32)]),
)
def test_an_upload_is_charged_as_all_its_local_steps_one_by_one(
    multiplier: float, local_steps: int, filter_: Filter
) -> None:
    """In the units of the ledger, for every kind of budget: never less than E releases of z, and no more than that."""
    upload = event(UPDATE, multiplier)
    step = event("gradient", step_multiplier(multiplier, local_steps))

    one_by_one, charged = local_steps * filter_.units(step), filter_.units(upload)

    assert charged >= one_by_one - local_steps  # each of the E is rounded up to a whole unit, the upload once
    assert charged <= one_by_one * (1 + Fraction(1, 10**12)) + 1


def test_exact_noise_has_the_multiplier_that_is_charged() -> None:
    preset, averaging = plain(1), Averaging(4, 100.0, 0.0, 1.0, (1.0,))
    recorded = Recorded(b"d")
    one(preset, averaging, patients(9), Alone(), recorded, multiplier=2.5)

    for query in recorded.asked:
        assert noise_shares.local_lattice(query, 1).multiplier(query) >= query.multiplier == 5.0


def test_one_patient_moves_a_local_step_by_at_most_the_clip_norm() -> None:
    preset, averaging = plain(1), Averaging(1, 1e6, 0.0, 1.0, (1.0,))
    data = patients(40)
    wild = SurvivalData(
        np.full((1, 4), 1e9), np.ones((1, 4), bool), np.array([1.0]), np.ones(1, bool)
    )  # fmt: skip
    sums = []
    for table in (data, joined([data, wild]), data.rows(np.arange(1, 40))):
        kept: list[Float64] = []

        def keep(query: Query, clipped: Float64, kept: list[Float64] = kept) -> Float64:
            kept.append(clipped)
            return clipped

        one(preset, averaging, table, Alone(), keep, multiplier=1.0)
        sums.append(kept[0])

    assert preset.clip / 2 < np.linalg.norm(sums[1] - sums[0]) <= preset.clip
    assert 0 < np.linalg.norm(sums[2] - sums[0]) <= preset.clip


def test_shared_noise_is_refused_with_the_way_out() -> None:
    preset, averaging = plain(1), Averaging(1, 1.0, 0.0, 1.0, (1.0,))
    weights = initial_weights(preset, 4, b"seed")
    query = _query(preset, averaging, len(weights) // 8, 1.0)

    with pytest.raises(NotPerPatient, match=r"use lockstep steps.*or local noise.*or declare a study without"):
        fit(preset, averaging, 0, 4, weights, patients(3), _untouched, query, noise=Noise.DISTRIBUTED)
    with pytest.raises(MisuseError, match="if and only if"):
        fit(preset, averaging, 0, 4, weights, patients(3), _untouched, query, noise=Noise.LOCAL)
    with pytest.raises(MisuseError, match="if and only if"):
        fit(
            preset, averaging, 0, 4, weights, patients(3), _untouched, query, noise=Noise.NONE,
            local_noise=Recorded(b"e"),
        )  # fmt: skip
    with pytest.raises(MisuseError, match="site 1"):
        fit(preset, averaging, 1, 4, weights, patients(3), _untouched, query, noise=Noise.NONE)
    with pytest.raises(MisuseError, match="features"):
        fit(preset, averaging, 0, 5, weights, patients(3), _untouched, query, noise=Noise.NONE)
    with pytest.raises(MisuseError, match="unit"):
        fit(
            preset, averaging, 0, 4, weights, patients(3), _untouched,
            _query(preset, replace(averaging, bound=2.0), len(weights) // 8), noise=Noise.NONE,
        )  # fmt: skip


def _untouched(query: Query, contribution: object) -> Float64:
    raise AssertionError("a sum was asked for")


@pytest.mark.parametrize(
    "change",
    [
        {"local_steps": 0}, {"local_steps": 1001}, {"local_steps": True}, {"bound": 0.0}, {"bound": float("inf")},
        {"bound": float("nan")}, {"proximal": -1.0}, {"proximal": float("nan")}, {"proximal": float("inf")},
        {"server_rate": 0.0}, {"server_rate": float("nan")}, {"shares": ()}, {"shares": (0.5, 0.4)},
        {"shares": (1.5, -0.5)}, {"shares": (float("nan"), 1.0)},
    ],
)  # fmt: skip
def test_constants_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(Averaging(1, 1.0, 0.0, 1.0, (0.5, 0.5)), **change)  # type: ignore[arg-type]


def test_the_constants_go_into_a_study_and_come_back() -> None:
    averaging = Averaging.of_bands((175.0, 75.0, 30.0), local_steps=5, bound=10.0, proximal=0.1)

    assert Averaging.from_json(averaging.to_json()) == averaging
    assert averaging.digest() != replace(averaging, proximal=0.2).digest()
    for body in ({}, averaging.to_json() | {"more": 1}, averaging.to_json() | {"shares": ["1"]}):
        with pytest.raises(ConfigError):
            Averaging.from_json(body)
    for declared in ((), (0.0, 1.0), (float("inf"), 1.0), (float("nan"),)):
        with pytest.raises(ConfigError):
            Averaging.of_bands(declared, local_steps=1, bound=1.0)
