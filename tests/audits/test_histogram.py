import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audits.errors import MisuseError
from audits.histogram import (
    COARSE,
    FINE,
    ScoreBins,
    attack_evidence,
    count_scores,
    members_query,
    nonmembers_query,
    suited,
    with_count,
)
from audits.noisy_roc import estimate
from dp.queries import Account, Query
from tests.audits.sample import BINS, RECIPE, histograms, spread
from tests.sweeps import thinned

anything = st.floats(allow_nan=True, allow_infinity=True)


@example([0.1], math.nan)
@example([0.1], math.inf)
@given(st.lists(anything, max_size=30), anything)
def test_one_patient_moves_one_count_by_one_or_nothing(scores: list[float], extra: float) -> None:
    before = count_scores(np.array(scores, dtype=np.float64), BINS)
    after = count_scores(np.array([*scores, extra], dtype=np.float64), BINS)
    change = after - before
    assert np.linalg.norm(change) == (1.0 if math.isfinite(extra) else 0.0)
    assert np.isin(change, (0.0, 1.0)).all()


def test_an_edge_belongs_to_the_bin_above() -> None:
    assert count_scores(np.array([BINS.edges[0]]), BINS).tolist() == [0, 1, *[0] * (BINS.count - 2)]
    assert count_scores(np.array([-1e300, 1e300]), BINS)[[0, -1]].tolist() == [1, 1]


def test_each_side_pays_from_its_own_account() -> None:
    a = members_query(BINS, multiplier=5.0, patient_cap=500, references=RECIPE)
    b = nonmembers_query(BINS, multiplier=5.0, patient_cap=500, references=RECIPE)
    assert (a.account, b.account) == (Account.TRAINING, Account.HOLDOUT)
    assert (a.sensitivity, b.sensitivity, a.length, b.length) == (1.0, 1.0, BINS.count, BINS.count)
    assert (a.event().mu, b.event().mu) == (0.2, 0.2)


def test_the_query_binds_bins_and_references() -> None:
    def make(bins: ScoreBins, references: bytes) -> Query:
        return members_query(bins, multiplier=5.0, patient_cap=500, references=references)

    digests = {
        make(BINS, RECIPE).digest(),
        make(ScoreBins((*BINS.edges[:-1], 2.1)), RECIPE).digest(),
        make(BINS, b"\1" * 32).digest(),
    }
    assert len(digests) == 3


def exact_area(members: np.ndarray, nonmembers: np.ndarray) -> float:
    below = np.concatenate([[0.0], np.cumsum(nonmembers)[:-1]])
    return float(members @ (below + nonmembers / 2) / members.sum() / nonmembers.sum())


@pytest.mark.parametrize("tilt", [0.0, 0.4, 1.5])
def test_without_noise_the_area_is_exact(tilt: float) -> None:
    m, n = spread(900, tilt), spread(300)
    found = attack_evidence(*histograms(m, n, noise=1e-9), alpha=0.05)
    assert found.auc.estimate == pytest.approx(exact_area(m, n), abs=1e-6)
    assert found.auc.low < found.auc.estimate < found.auc.high
    assert found.roc[0] == (0.0, 0.0)
    assert found.roc[-1] == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(
    ("tilt", "noise"), thinned((pytest.param(*each) for each in [(0.0, 4.0), (0.0, 10.0), (0.8, 6.0)]), 3)
)
def test_bounds_hold_as_often_as_they_say(tilt: float, noise: float) -> None:
    weights = [spread(10**7, t) / 10**7 for t in (tilt, 0.0)]
    weights = [w / w.sum() for w in weights]
    truth = exact_area(*weights)
    rng = np.random.default_rng(20261125)
    runs = 150
    low = high = rate = 0
    false = np.concatenate([[0.0], np.cumsum(weights[1][::-1])])
    true = np.concatenate([[0.0], np.cumsum(weights[0][::-1])])
    for seed in range(runs):
        counts = (
            rng.multinomial(834, weights[0]).astype(float),
            rng.multinomial(209, weights[1]).astype(float),
        )
        found = attack_evidence(*histograms(*counts, noise=noise, seed=seed), alpha=0.05)
        low += found.auc.low > truth
        high += found.auc.high < truth
        rate += found.rates[0].tpr.high < np.interp(0.1, false, true)
    # 5 % plus three standard errors of 150 runs
    assert max(low, high, rate) <= runs * (0.05 + 3 * math.sqrt(0.05 * 0.95 / runs))
    assert high > 0 or low > 0  # the intervals are not absurdly wide either


def test_a_leaky_model_is_seen() -> None:
    found = attack_evidence(*histograms(spread(834, 1.5), spread(209)), alpha=0.05)
    assert found.auc.low > 0.65
    assert found.auc_low_strict < found.auc.low


def test_noise_as_large_as_the_cohort_says_nothing() -> None:
    for seed in range(8):  # also if both noisy totals happen to be above zero
        found = attack_evidence(*histograms(spread(60), spread(12), noise=50.0, seed=seed), alpha=0.05)
        assert (found.auc.low, found.auc.high, found.resolution) == (0.0, 1.0, 1.0)
        assert not any(rate.resolvable for rate in found.rates)


def test_few_nonmembers_cannot_resolve_one_percent() -> None:
    ten, one = attack_evidence(*histograms(spread(834), spread(209)), alpha=0.05).rates
    assert ten.resolvable
    assert not one.resolvable
    assert "not resolvable" in one.note


def test_a_rate_is_bounded_at_a_threshold_that_is_surely_permissive_enough() -> None:
    # 12 of 100 non-members lie in the top bin: 12 % or 8 % of false alarms, nobody knows. So the bound on the hits at
    # 10 % must come from the next threshold, where half of everybody is called a member.
    members, nonmembers = np.zeros(BINS.count), np.zeros(BINS.count)
    members[[0, 5, 10]], nonmembers[[0, 5, 10]] = (400, 300, 100), (50, 38, 12)
    ten = attack_evidence(*histograms(members, nonmembers, noise=1e-6), alpha=0.05).rates[0]
    assert ten.tpr.high == pytest.approx(0.5 + 1.96 * math.sqrt(0.25 / 800), abs=1e-3)  # and patients are a sample
    assert ten.tpr.low == 0.0


def test_a_rate_is_bounded_from_below_at_a_threshold_that_is_surely_strict_enough() -> None:
    # 2 of 100 non-members lie in the top bin: surely less than 10 %. There 1 of 8 members is found, more or less.
    members, nonmembers = np.zeros(BINS.count), np.zeros(BINS.count)
    members[[0, 5, 10]], nonmembers[[0, 5, 10]] = (400, 300, 100), (60, 38, 2)
    ten = attack_evidence(*histograms(members, nonmembers, noise=1e-6), alpha=0.05).rates[0]
    assert ten.tpr.low == pytest.approx(0.125 - 1.96 * math.sqrt(0.125 * 0.875 / 800), abs=1e-3)


def test_mixed_up_histograms_are_refused() -> None:
    members, nonmembers = histograms(spread(800), spread(200))
    with pytest.raises(MisuseError, match=r"expected .*, got"):
        attack_evidence(nonmembers, members, alpha=0.05)
    other = replace(nonmembers, query=replace(nonmembers.query, public=b"other bins"))
    with pytest.raises(MisuseError, match="different bins or references"):
        attack_evidence(members, other, alpha=0.05)
    for inflation in (0.9, math.inf, math.nan):
        with pytest.raises(MisuseError, match="inflation"):
            replace(members, inflation=inflation)
    with pytest.raises(MisuseError, match="10 counts for a query of length 11"):
        replace(members, counts=members.counts[:-1])


@pytest.mark.parametrize("edges", [(0.0, 0.0), (1.0, 0.0), (), (0.0, math.inf), (math.nan,)], ids=str)
def test_edges_that_make_no_bins_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(MisuseError, match="edge"):
        ScoreBins(edges)


def test_few_holdout_patients_get_few_bins() -> None:
    assert [suited(size) for size in (0.0, 999.9, 1000.0, 1e6)] == [COARSE, COARSE, FINE, FINE]
    assert set(COARSE.edges) <= set(FINE.edges)
    assert [with_count(bins.count) for bins in (COARSE, FINE)] == [COARSE, FINE]
    with pytest.raises(MisuseError, match="of 5 and of 11, not of 7"):
        with_count(7)


def test_few_bins_decide_what_many_leave_open() -> None:
    """165 hold-out and 680 training patients whom nothing tells apart, noise of ε = 2 with a sixth of the account."""
    rng, limit = np.random.default_rng(0), 0.65
    open_ones = dict.fromkeys((COARSE, FINE), 0)
    missed = dict.fromkeys((COARSE, FINE), 0)
    for _ in range(400):
        scores = rng.standard_normal(680), rng.standard_normal(165)
        for bins in open_ones:
            counts = [
                count_scores(side, bins) + rng.normal(0.0, noise, bins.count)
                for side, noise in zip(scores, (10.3, 5.9), strict=True)
            ]
            auc = estimate("", counts[0].tolist(), counts[1].tolist(), (10.3, 5.9), 0.05).auc
            open_ones[bins] += auc.high > limit
            missed[bins] += not auc.low <= 0.5 <= auc.high
    assert open_ones[COARSE] <= 12  # 3 %
    assert open_ones[FINE] >= 3 * open_ones[COARSE]
    assert max(missed.values()) <= 60  # both bounds err in one of twenty: 40 of 400, and three standard deviations
