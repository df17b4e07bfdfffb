"""Fidelity of tables: known answers, what a copy scores, what shuffling costs."""

import math

import numpy as np
import pytest

from models.data import SurvivalData
from models.errors import MisuseError
from models.fidelity import (
    column_similarity,
    compare,
    correlation_agreement,
    fidelity,
    group_fidelity,
    outcome_fidelity,
    pair_similarity,
    two_way_distance,
)
from models.fidelity.cox import choose, fit, partial_likelihood
from models.generators.dictionary import Column, Dictionary, Kind
from models.metrics import harrell_c
from tests.models.generators.cohorts import DICTIONARY, GRID, cohort

GENES = ("mut_a", "mut_b", "mut_c")
CLINICAL = ("age", "blast", "stage")
TINY = Dictionary(
    (Column("age", Kind.CONTINUOUS, low=-3.0, high=3.0, edges=(0.0,)), Column("m", Kind.BINARY, (0.0, 1.0))), GRID
)


def tiny(rows: list[tuple[float | None, float | None]]) -> SurvivalData:
    x = np.array([[np.nan if v is None else v for v in row] for row in rows])
    n = len(rows)
    return SurvivalData(x, np.isfinite(x), np.full(n, 400.0), np.ones(n, bool))


def shuffled(data: SurvivalData) -> SurvivalData:
    rng = np.random.default_rng(5)
    orders = [rng.permutation(len(data)) for _ in range(data.features)]
    x = np.stack([data.x[o, j] for j, o in enumerate(orders)], axis=1)
    observed = np.stack([data.observed[o, j] for j, o in enumerate(orders)], axis=1)
    return SurvivalData(x, observed, data.duration, data.event)


def test_a_copy_scores_one() -> None:
    data = cohort(300)
    found = fidelity(data, data, DICTIONARY, GENES, np.random.default_rng(0))

    assert found.clinical == found.genomic == 1.0
    assert found.gene_correlation == pytest.approx(1.0)
    assert found.two_way_tvd == 0.0
    assert found.outcome.distance == 0.0
    assert found.outcome.log_rank_p == pytest.approx(1.0)


def test_shuffled_columns_keep_their_marginals_and_lose_their_pairs() -> None:
    data = cohort(1500)
    other = shuffled(data)
    found, ceiling = compare(cohort(800, 1), data, other, DICTIONARY, GENES, seed=0)

    assert all(column_similarity(data, other, DICTIONARY, j) == pytest.approx(1.0) for j in range(6))
    assert pair_similarity(data, other, DICTIONARY, 3, 4) < 0.85
    assert abs(pair_similarity(data, other, DICTIONARY, 0, 1) - 1.0) < 0.2
    assert found.genomic < ceiling.genomic - 0.02
    assert found.clinical < ceiling.clinical
    assert found.gene_correlation < 0.9 < ceiling.gene_correlation
    assert found.two_way_tvd > ceiling.two_way_tvd + 0.02
    assert found.outcome.c_index < ceiling.outcome.c_index - 0.05
    assert found.outcome.distance == ceiling.outcome.distance  # follow-up was not touched


def test_columns_by_hand() -> None:
    real = tiny([(-1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (2.0, None)])
    other = tiny([(-1.0, 0.0), (1.5, 1.0), (1.5, 1.0), (None, 1.0)])

    # At x = −1: ¼ against ½, the value that is missing counting below all; at 1: ¾ against ½; at 0: ½ and ½.
    assert column_similarity(real, other, TINY, 0) == pytest.approx(0.75)
    # (½, ¼, ¼) against (¼, ¾, 0).
    assert column_similarity(real, other, TINY, 1) == pytest.approx(0.5)


def test_pairs_by_hand() -> None:
    real = tiny([(-1.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (1.0, 1.0)])
    other = tiny([(-1.0, 1.0), (-1.0, 0.0), (1.0, 0.0), (1.0, 1.0)])

    assert pair_similarity(real, other, TINY, 0, 1) == pytest.approx(0.5)
    twice = Dictionary((TINY.columns[0], Column("b", Kind.CONTINUOUS, low=-3.0, high=3.0)), GRID)
    assert pair_similarity(real, tiny([(-1.0, 1.0), (1.0, 0.0)]), twice, 0, 1) == pytest.approx(0.0)  # r = 1 and −1
    assert pair_similarity(real, tiny([(-1.0, 1.0), (1.0, 1.0)]), twice, 0, 1) == pytest.approx(0.5)  # no spread: 0
    # Three pairs of columns; follow-up is the same for all, so it adds the distances of the single columns: 0.
    assert two_way_distance(real, other, TINY) == pytest.approx(0.5 / 3)


def test_a_gene_that_is_never_drawn_counts_against_a_generator() -> None:
    data = cohort(2000)
    without = SurvivalData(np.where(np.arange(6) == 4, 0.0, data.x), data.observed, data.duration, data.event)

    assert correlation_agreement(data, data, DICTIONARY, GENES) == pytest.approx(1.0)
    assert correlation_agreement(data, without, DICTIONARY, GENES) < 0.9
    assert math.isnan(correlation_agreement(data, data, DICTIONARY, GENES[:2]))  # one entry has no correlation


def test_a_group_weighs_columns_and_pairs_the_same() -> None:
    data, other = cohort(400), shuffled(cohort(400, 1))
    columns = np.mean([column_similarity(data, other, DICTIONARY, j) for j in range(3)])
    pairs = np.mean([pair_similarity(data, other, DICTIONARY, i, j) for i, j in ((0, 1), (0, 2), (1, 2))])

    assert group_fidelity(data, other, DICTIONARY, CLINICAL) == pytest.approx((columns + pairs) / 2)
    assert group_fidelity(data, other, DICTIONARY, ["age"]) == column_similarity(data, other, DICTIONARY, 0)


def test_the_area_between_two_curves_by_hand() -> None:
    def everybody(days: float) -> SurvivalData:
        return SurvivalData(np.zeros((4, 1)), np.ones((4, 1), bool), np.full(4, days), np.ones(4, bool))

    found = outcome_fidelity(everybody(100.0), everybody(300.0), 1000.0, np.random.default_rng(0))

    assert found.distance == pytest.approx(0.2)
    assert found.log_rank_p < 0.05


def test_wrong_columns_are_refused() -> None:
    data = cohort(20)
    with pytest.raises(MisuseError, match="got heart"):
        group_fidelity(data, data, DICTIONARY, ["heart"])
    with pytest.raises(MisuseError, match="got none"):
        group_fidelity(data, data, DICTIONARY, [])
    with pytest.raises(MisuseError, match="columns and a patient"):
        two_way_distance(data, data.rows(np.zeros(20, bool)), DICTIONARY)
    with pytest.raises(MisuseError, match="patients"):
        outcome_fidelity(data, data.rows(np.zeros(20, bool)), 100.0, np.random.default_rng(0))


def brute(beta: np.ndarray, data: SurvivalData, strata: np.ndarray) -> float:
    z = np.concatenate([np.where(data.observed, data.x, 0.0), ~data.observed], axis=1)
    eta, total = z @ beta, 0.0
    for i in np.flatnonzero(data.event):
        at_risk = (data.duration >= data.duration[i]) & (strata == strata[i])
        total += eta[i] - np.log(np.sum(np.exp(eta[at_risk])))
    return float(total)


@pytest.mark.parametrize("sites", [1, 3])
def test_ridge_cox_is_at_its_maximum(sites: int) -> None:
    data = cohort(200)
    data = SurvivalData(data.x, data.observed, np.ceil(data.duration / 30) * 30, data.event)  # with ties
    strata = np.arange(200) % sites
    model = fit(data, 5.0, strata=strata)

    assert partial_likelihood(model.beta, data, strata) == pytest.approx(brute(model.beta, data, strata))
    step = 1e-4 * np.eye(12)
    rise = [brute(model.beta + s, data, strata) - brute(model.beta - s, data, strata) for s in step]
    assert np.array(rise) / 2e-4 == pytest.approx(5.0 * model.beta, abs=2e-3)


def test_ridge_cox_ranks_and_shrinks_noise_away() -> None:
    data, later = cohort(800), cohort(400, 7)
    good = choose(data, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    noise = SurvivalData(rng.normal(size=data.x.shape), data.observed, data.duration, data.event)

    assert harrell_c(good.risk(later), later) > 0.6
    assert choose(noise, rng).penalty == 300.0
    nobody = SurvivalData(data.x, data.observed, data.duration, np.zeros(800, bool))
    assert not fit(nobody, 1.0).beta.any()
