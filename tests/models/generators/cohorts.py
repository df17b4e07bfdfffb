"""An invented cohort with columns of every kind, correlated, with missing values: for tests of generators."""

import numpy as np

from models.data import SurvivalData
from models.generators.dictionary import Column, Dictionary, Kind

GRID = (0.0, 91.3125, 365.25, 730.5, 1826.25)
COLUMNS = (
    Column("age", Kind.CONTINUOUS, low=-3.0, high=2.5, edges=(-1.5, -0.75, 0.0, 0.75, 1.5)),
    Column("blast", Kind.CONTINUOUS, low=-1.0, high=6.0, edges=(-0.75, 0.0, 0.75, 1.5)),
    Column("stage", Kind.ORDINAL, (-1.0, 0.0, 1.0)),
    Column("mut_a", Kind.BINARY, (0.0, 1.0)),
    Column("mut_b", Kind.BINARY, (0.0, 1.0)),
    Column("mut_c", Kind.BINARY, (0.0, 1.0)),
)
DICTIONARY = Dictionary(COLUMNS, GRID)


def cohort(n: int, seed: int = 0) -> SurvivalData:
    """Patients whose mutations a and b go together, exclude c, and shorten life; blasts are skewed."""
    rng = np.random.default_rng(seed)
    kind = rng.random(n) < 0.35
    a = np.where(kind, rng.random(n) < 0.8, rng.random(n) < 0.05).astype(float)
    b = np.where(kind, rng.random(n) < 0.7, rng.random(n) < 0.05).astype(float)
    c = np.where(kind, rng.random(n) < 0.02, rng.random(n) < 0.4).astype(float)
    age = np.clip(rng.normal(0.0, 1.0, n) + 0.4 * kind, -3.0, 2.5)
    blast = np.clip(rng.exponential(0.8, n) - 0.7 + 0.9 * kind, -1.0, 6.0)
    stage = np.digitize(blast + rng.normal(0, 0.4, n), [0.0, 1.0]).astype(float) - 1.0
    x = np.stack([age, blast, stage, a, b, c], axis=1)
    observed = rng.random(x.shape) > 0.1
    death = rng.exponential(900.0 * np.exp(-0.4 * age - 1.0 * kind))
    last = rng.uniform(30.0, 2500.0, n)
    return SurvivalData(x, observed, np.minimum(death, last) + 0.5, death <= last).bounded(GRID[-1])
