"""Drawing a synthetic table: repeatable, as large as asked for, no patient who breaks a rule."""

import numpy as np
import pytest

from models.data import Bool, SurvivalData
from models.errors import ConfigError
from models.generators.dictionary import Dictionary
from models.generators.generator import sample
from tests.models.generators.cohorts import DICTIONARY, cohort


class _Drawn:
    learner, digest = "test", "00" * 32
    dictionary: Dictionary = DICTIONARY

    def draw(self, n: int, rng: np.random.Generator) -> SurvivalData:
        return cohort(n, int(rng.integers(2**31)))


def test_the_same_seed_draws_the_same_patients() -> None:
    one, same, other = (sample(_Drawn(), 300, seed) for seed in (1, 1, 2))
    assert len(one) == 300
    assert np.array_equal(one.x, same.x)
    assert not np.array_equal(one.x, other.x)


def test_nobody_breaks_a_rule() -> None:
    def broken(data: SurvivalData) -> Bool:
        return np.asarray((data.x[:, 3] == 1) & (data.x[:, 5] == 1))

    found = sample(_Drawn(), 500, 3, broken)
    assert len(found) == 500
    assert not broken(found).any()


def test_a_generator_that_never_keeps_the_rules_is_refused() -> None:
    with pytest.raises(ConfigError, match="learned too little"):
        sample(_Drawn(), 10, 0, lambda data: np.ones(len(data), dtype=np.bool_))


@pytest.mark.parametrize(("patients", "seed"), [(0, 0), (2_000_000, 0), (5, -1), (5, 2**63)])
def test_sizes_and_seeds_out_of_range(patients: int, seed: int) -> None:
    with pytest.raises(ConfigError):
        sample(_Drawn(), patients, seed)
