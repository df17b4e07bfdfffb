from dataclasses import replace

import numpy as np
import pytest

from audits.errors import MisuseError
from audits.histogram import ScoreBins, count_scores
from audits.references import Dictionary, FeatureLaw, build, draw, positive_control
from audits.roc import delong
from audits.sensitivity import joined
from models.data import SurvivalData
from tests.audits.cohorts import DICTIONARY, GRID, RECIPE, Truth, patients, references, trained
from tests.sweeps import thinned

BINS = ScoreBins()


def extremes() -> list[SurvivalData]:
    one = patients(1, 77)

    def with_x(value: float) -> SurvivalData:
        return SurvivalData(np.full((1, 4), value), one.observed, one.duration, one.event)

    forever = SurvivalData(one.x, one.observed, np.array([np.inf]), one.event)
    return [one, with_x(1e9), with_x(-1e9), with_x(np.nan), forever]


@pytest.mark.parametrize("extra", thinned(extremes(), 3))
def test_an_adversarial_patient_moves_no_other_score(extra: SurvivalData) -> None:
    """The reason for non-private references: with shadows of the patients themselves, 85 of 200 moved."""
    cohort = patients(60, 5)
    model = trained(cohort)
    before = references().scores(model, cohort)
    after = references().scores(model, joined(cohort, extra))
    assert np.array_equal(before, after[:-1])
    change = count_scores(after, BINS) - count_scores(before, BINS)
    assert np.abs(change).sum() == (1.0 if np.isfinite(after[-1]) else 0.0)


def test_an_unusable_record_gets_no_score() -> None:
    cohort = patients(3, 1)
    broken = SurvivalData(cohort.x, cohort.observed, np.array([np.nan, 10.0, 20.0]), cohort.event)
    scores = references().scores(Truth(), broken)
    assert np.isnan(scores).tolist() == [True, False, False]


def test_scores_of_drawn_patients_are_standardised() -> None:
    scores = references().scores(Truth(), references().calibration)
    assert np.median(scores) == pytest.approx(0.0, abs=1e-9)
    assert np.median(np.abs(scores)) == pytest.approx(1 / 1.4826, rel=0.1)


def test_the_attack_finds_an_overfitted_model_and_clears_a_model_that_saw_nobody() -> None:
    rows = patients(400, 5)
    members, others = rows.rows(np.arange(200)), rows.rows(np.arange(200, 400))
    leaky = trained(members)
    found = delong(references().scores(leaky, members), references().scores(leaky, others), 0.001)
    clean = delong(references().scores(Truth(), members), references().scores(Truth(), others), 0.001)
    assert found.low > 0.6
    assert clean.low < 0.5 < clean.high


@pytest.mark.slow
def test_the_positive_control_has_power_and_needs_no_patient() -> None:
    control = positive_control(references(), Truth(), BINS, alpha=0.05)
    assert control.low > 0.7


def test_drawn_survival_follows_the_model() -> None:
    data = draw(replace(DICTIONARY, follow_up=0.999), Truth(), 40_000, np.random.default_rng(2))
    grid = np.array(GRID[1:])
    cumulative = np.cumsum(np.diff(GRID) * Truth.hazard / 365.25)
    risk = np.exp(Truth().risk(data.x, data.observed))
    expected = np.exp(-risk[:, None] * cumulative[None, :-1]).mean(axis=0)  # alive at each edge before the horizon
    alive = (data.duration[:, None] > grid[None, :-1]).mean(axis=0)
    assert alive == pytest.approx(expected, abs=0.01)


def test_the_digest_covers_every_public_number() -> None:
    plan = references().plan
    others = [
        replace(plan, seed=1),
        replace(plan, count=9),
        replace(plan, recipe=replace(RECIPE, steps=81)),
        replace(plan, dictionary=Dictionary((*DICTIONARY.features[:3], FeatureLaw("sex")))),
    ]
    assert len({plan.digest(), *(other.digest() for other in others)}) == 5
    assert plan.digest() == replace(plan).digest()
    assert len(plan.digest()) == 32


def test_another_grid_is_refused() -> None:
    with pytest.raises(MisuseError):
        build(replace(references().plan, recipe=replace(RECIPE, grid=(0.0, 10.0))), Truth())
