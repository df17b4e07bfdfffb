"""Drawn patients and models for the attack tests."""

from functools import cache

import numpy as np

from audits.references import Dictionary, FeatureLaw, Plan, References, build, draw
from audits.shadows import Member, Recipe, train_shadows
from models.data import SurvivalData

GRID = (0.0, 30.4375, 91.3125, 182.625, 365.25, 730.5, 1826.25)
DICTIONARY = Dictionary(
    (
        FeatureLaw("age"),
        FeatureLaw("wbc"),
        FeatureLaw("tpi"),
        FeatureLaw("sex", levels=(-0.5, 0.5), missing=0.0),
    )
)
RECIPE = Recipe((8,), GRID, -0.3, steps=80)
OVERFIT = Recipe((32,), GRID, -0.3, steps=200, learning_rate=0.03)


class Truth:
    grid = GRID
    hazard = np.array([2.5, 1.8, 1.2, 0.9, 0.6, 0.3])

    def risk(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        return np.clip(x @ np.array([0.8, 0.1, 0.4, 0.2]), -8.0, 8.0)

    def hazards(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        return np.exp(self.risk(x, observed))[:, None] * self.hazard[None, :]


def patients(n: int, seed: int) -> SurvivalData:
    return draw(DICTIONARY, Truth(), n, np.random.default_rng(seed))


def trained(data: SurvivalData, recipe: Recipe = OVERFIT, seed: int = 9) -> Member:
    return Member(train_shadows(recipe, data, np.ones((1, len(data)), dtype=bool), seed=seed), 0)


@cache
def references() -> References:
    return build(Plan(DICTIONARY, RECIPE, rows=300, count=8, calibration=600), Truth())
