import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from audits.errors import MisuseError
from audits.interval import clopper_pearson
from audits.roc import delong, operating_point

scores = st.lists(st.integers(-5, 5), min_size=2, max_size=40).map(lambda xs: np.array(xs, dtype=np.float64))


@pytest.mark.slow
@given(scores, scores)
def test_area_equals_sklearns(members: np.ndarray, nonmembers: np.ndarray) -> None:
    from sklearn.metrics import roc_auc_score  # a second to load: not in every run

    labels = np.r_[np.ones(members.size), np.zeros(nonmembers.size)]
    interval = delong(members, nonmembers, 0.05)
    assert interval.estimate == pytest.approx(roc_auc_score(labels, np.r_[members, nonmembers]))
    assert 0.0 <= interval.low <= interval.estimate <= interval.high <= 1.0


def test_delong_variance_equals_its_definition() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.8, 1, 30), rng.normal(0, 1, 25)
    psi = (a[:, None] > b).astype(float)  # placements, DeLong 1988 eq. (4)-(5)
    variance = psi.mean(axis=1).var(ddof=1) / 30 + psi.mean(axis=0).var(ddof=1) / 25
    null = 56 / (12 * 30 * 25) * 4 * psi.mean() * (1 - psi.mean())
    interval = delong(a, b, 0.05)
    assert interval.estimate - interval.low == pytest.approx(stats.norm.isf(0.05) * math.sqrt(max(variance, null)))


@given(scores, scores, st.sampled_from([0.01, 0.1, 0.5]))
def test_the_achieved_rate_never_passes_the_one_asked_for(a: np.ndarray, b: np.ndarray, asked: float) -> None:
    point = operating_point(a, b, asked, 0.05)
    assert point.fpr.estimate <= asked
    assert point.resolvable == (b.size >= 10 / asked)


def test_what_cannot_be_resolved_says_so() -> None:
    point = operating_point(np.arange(40.0), np.arange(11.0), 0.01, 0.05)
    assert point.note == "not resolvable with n = 11 non-members; at least 1000 are needed"


def test_clopper_pearson_against_the_binomial_tail() -> None:
    interval = clopper_pearson(7, 40, 0.05)
    assert stats.binom.sf(6, 40, interval.low) == pytest.approx(0.05)
    assert stats.binom.cdf(7, 40, interval.high) == pytest.approx(0.05)
    assert (clopper_pearson(0, 0, 0.05).low, clopper_pearson(0, 0, 0.05).high) == (0.0, 1.0)
    with pytest.raises(MisuseError):
        clopper_pearson(3, 2, 0.05)


def test_empty_sides_and_nans() -> None:
    assert (delong(np.array([]), np.ones(3), 0.05).low, delong(np.array([]), np.ones(3), 0.05).high) == (
        0.0,
        1.0,
    )
    with pytest.raises(MisuseError):
        delong(np.array([np.nan]), np.ones(3), 0.05)
