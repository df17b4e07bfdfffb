from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycox.evaluation import EvalSurv

from models.concordance import SENSITIVITY, decode, pair_sums
from models.data import SurvivalData
from models.errors import MisuseError
from models.metrics import harrell_c
from tests.models.support import patients

# Few distinct values, so that ties in time and in risk are common.
ROW = st.tuples(st.integers(0, 4), st.integers(1, 4), st.booleans())


def cohort(rows: list[tuple[int, int, bool]]) -> tuple[np.ndarray, SurvivalData]:
    risk = np.array([r for r, _, _ in rows], dtype=float)
    time = np.array([t for _, t, _ in rows], dtype=float)
    event = np.array([e for _, _, e in rows], dtype=bool)
    n = len(rows)
    return risk, SurvivalData(np.zeros((n, 1)), np.ones((n, 1), dtype=bool), time, event)


@given(st.lists(ROW, max_size=12), ROW)
@settings(max_examples=400, deadline=None)
def test_concordance_sensitivity_of_one_added_patient(
    rows: list[tuple[int, int, bool]], new: tuple[int, int, bool]
) -> None:
    change = pair_sums(*cohort([*rows, new])) - pair_sums(*cohort(rows))

    assert abs(change[0]) <= 0.75 + 1e-12
    assert -0.5 - 1e-12 <= change[1] <= 1 + 1e-12
    assert np.linalg.norm(change) <= SENSITIVITY + 1e-12


@pytest.mark.parametrize("n", [1, 2, 3, 10, 400])
def test_the_bounds_are_reached(n: int) -> None:
    """Nobody is comparable until a patient is with everybody; a perfect order until one contradicts all."""
    risk, data = cohort([(0, 9, True)] * n + [(1, 1, True)])
    everybody = pair_sums(risk, data)
    without = pair_sums(*cohort([(0, 9, True)] * n))

    assert everybody[1] - without[1] == pytest.approx(1.0)
    assert np.linalg.norm(everybody - without) == pytest.approx(SENSITIVITY)

    worst = [(i, 1000 - i, True) for i in range(n)]  # perfectly concordant, then one patient discordant with all
    v = pair_sums(*cohort([*worst, (-1, 0, True)])) - pair_sums(*cohort(worst))
    assert v[0] == pytest.approx(-0.75 if n > 1 else -0.5)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_patients_give_zero(n: int) -> None:
    assert pair_sums(*cohort([(1, 1, True)] * n)).tolist() == [0.0, 0.0]


def test_harrell_c_agrees_with_pycox() -> None:
    data = patients(150, seed=3)
    risk = data.x[:, 0]
    time = np.unique(data.duration)
    # A proportional-hazards S(t|x): pycox's Antolini C equals Harrell's C for it when no two times are equal.
    survival = np.exp(-np.exp(risk)[None, :] * time[:, None] / 1000)
    oracle = EvalSurv(pd.DataFrame(survival, index=time), data.duration, data.event.astype(int), censor_surv="km")

    assert harrell_c(risk, data) == pytest.approx(oracle.concordance_td("adj_antolini"), abs=1e-9)


def test_pair_blocks_do_not_matter() -> None:
    data = patients(1100, seed=5)
    risk = np.round(data.x[:, 0], 1)
    signed = comparable = 0.0
    for i in range(len(data)):
        later = data.event[i] & (
            (data.duration[i] < data.duration) | ((data.duration[i] == data.duration) & ~data.event)
        )
        signed += float(np.sum(np.sign(risk[i] - risk)[later]))
        comparable += float(later.sum())

    assert pair_sums(risk, data).tolist() == [signed / 2 / 1099, comparable / 1099]


def test_without_noise_the_estimate_is_harrell_c() -> None:
    data = patients(200, seed=1)
    risk = data.x[:, 0]
    released = decode(pair_sums(risk, data), 0.0)

    assert released.estimate == pytest.approx(harrell_c(risk, data), abs=1e-12)
    assert released.low < released.estimate < released.high
    assert released.noise_error == 0.0


@pytest.mark.parametrize(("w", "noise"), [(0.0, 0.0), (5.0, 10.0), (-3.0, 1.0)])
def test_what_noise_drowns_is_not_resolved(w: float, noise: float) -> None:
    released = decode(np.array([1.0, w]), noise)

    assert math.isnan(released.estimate)
    assert (released.low, released.high) == (0.0, 1.0)
    assert "not resolved" in str(released)


def test_interval_covers_the_population_value() -> None:
    """Three hospitals of 60, 30 and 5, noise as at ε = 2: at least 95 % of 400 intervals hold the true C."""
    rng = np.random.default_rng(11)
    noise = 3.0
    truth = harrell_c(*_simulated(rng, 3000))
    covered = 0
    for _ in range(400):
        total = sum((pair_sums(*_simulated(rng, n)) for n in (60, 30, 5)), np.zeros(2))
        released = decode(total + noise * rng.normal(size=2), noise)
        covered += released.low <= truth <= released.high

    assert covered >= 380


def test_sampling_factor_is_an_envelope() -> None:
    """Var(V − θW) stays below W(¼ − θ²)/2 under proportional hazards, whatever effect and censoring."""
    rng = np.random.default_rng(2)
    for slope in (0.0, 0.7, 2.0):
        for lost in (0.1, 3.0):
            sums = np.array([pair_sums(*_simulated(rng, 30, slope, lost)) for _ in range(250)])
            theta = sums[:, 0].mean() / sums[:, 1].mean()
            assert np.var(sums[:, 0] - theta * sums[:, 1]) < 0.5 * sums[:, 1].mean() * (0.25 - theta**2)


def _simulated(
    rng: np.random.Generator, n: int, slope: float = 0.8, lost: float = 0.5
) -> tuple[np.ndarray, SurvivalData]:
    risk = rng.normal(size=n)
    death = rng.exponential(size=n) * np.exp(-slope * risk)
    censoring = rng.exponential(size=n) / lost
    time, event = np.minimum(death, censoring), death <= censoring
    return risk, SurvivalData(np.zeros((n, 1)), np.ones((n, 1), dtype=bool), time, event)


def test_risk_of_another_length_is_misuse() -> None:
    with pytest.raises(MisuseError, match="3 patients"):
        pair_sums(np.zeros(2), patients(3))
