"""Invented patients, and what counts as the same prediction."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import ConfigError
from models.interop import trial
from tests.models.interop.invented import FEATURES, NETWORKS, model


def test_invented_patients_lack_everything_nothing_and_every_block() -> None:
    x, observed = trial.invented(model("fusion"))
    again = trial.invented(model("cox"))

    assert np.array_equal(np.isnan(x), ~observed), "whatever reads what is not observed is found out"
    assert np.array_equal(observed, again[1]), "a function of the number of features"
    assert not observed[0].any()
    assert observed.all(axis=1).any()
    for block in (slice(0, 2), slice(2, 3), slice(3, 7)):
        gone = ~observed[:, block].any(axis=1)
        assert (gone & observed.any(axis=1)).any()
        assert (observed[:, block].any(axis=1) & ~observed[:, block].all(axis=1)).any() or block == slice(2, 3)
    seen = np.abs(x[observed])
    assert 9 < seen.max() <= 10
    assert np.quantile(seen, 0.25) < 1
    assert observed.any(axis=0).all()
    assert len(x) == trial.PATIENTS


@pytest.mark.parametrize("name", ["hazards", "risk", "survival"])
def test_a_difference_is_told_or_refused(name: str) -> None:
    made = model("deepsurv")
    x, observed = trial.invented(made)
    found = trial.outputs(made, x, observed)

    assert trial.agreed(made, found, x, observed) == 0.0
    top = np.unravel_index(int(np.argmax(np.abs(found[name]))), found[name].shape)
    for change, allowed in ((0.9e-5, True), (1.1e-5, False), (np.nan, False)):
        changed = found[name].copy()
        changed[top] *= 1.0 + change
        if allowed:
            assert trial.agreed(made, found | {name: changed}, x, observed) == pytest.approx(change, rel=1e-3)
        else:
            with pytest.raises(ConfigError, match=f"other {name}"):
                trial.agreed(made, found | {name: changed}, x, observed)
    with pytest.raises(ConfigError, match="of shape"):
        trial.agreed(made, found | {name: found[name][:-1]}, x, observed)


@pytest.mark.parametrize("kind", NETWORKS)
def test_whether_g_is_the_risk(kind: str) -> None:
    made = model(kind)
    x, observed = np.zeros((1, len(FEATURES))), np.ones((1, len(FEATURES)), dtype=np.bool_)
    hazards = made.hazards(x, observed)[0] / made.hazard

    assert trial.proportional(made) == (np.ptp(hazards) < 1e-9)
