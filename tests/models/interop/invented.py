"""Models of every network with weights that rank patients, recalibrated, with and without imputation."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.completion import Completion
from models.gaussian import Covariate, JointNormal
from models.networks import Ensemble, FusedBlocks, Hazards, LatentWeibull, Network, parameter_count
from models.predict import SurvivalModel

FEATURES = ("age", "sex", "wbc", "tpi", "blasts", "platelets", "haemoglobin")
GRID = (0.0, 30.0, 182.625, 365.25, 730.5, 1826.25)
NETWORKS: dict[str, Network] = {
    "cox": Hazards(()),
    "deepsurv": Hazards((5, 3)),
    "ensemble": Ensemble((4,), 3),
    "savae": LatentWeibull((6, 4), 3, (1,)),
    "fusion": FusedBlocks((4,), 3, (2, 1, 4), (2,)),
    "fusion-linear": FusedBlocks((), 2, (), ()),
}
OPEN = {"protection": "not differentially private: masks only", "noise": "none", "epsilon": "not bounded"}
PRIVATE = {"protection": "differentially private: everybody adds noise", "epsilon": 2.0, "delta": 1e-5}


def card(**changes: Any) -> dict[str, Any]:
    return {
        "profile": "00", "study": "11", "transcript": "22", "metrics": {"concordance": None},
        "intended_use": "research", "limits": ["adults"], "privacy": PRIVATE,
    } | changes  # fmt: skip


def filling() -> Completion:
    """Some covariates in another order than the features, one of them never filled."""
    covariates = (
        Covariate("platelets", 5, -1.5, 2.0),
        Covariate("sex", 1, -1.0, 1.0, two_valued=True),
        Covariate("age", 0, -2.5, 0.5),
        Covariate("blasts", 4, -1.0, 3.0),
    )
    root = np.random.default_rng(5).normal(size=(4, 4))
    return Completion(
        JointNormal(covariates, np.array([0.1, -0.2, 0.4, 1.0]), root @ root.T + 0.3 * np.eye(4)), ("sex",)
    )


def model(kind: str, *, imputes: bool = False, seed: int = 3) -> SurvivalModel:
    network = NETWORKS[kind]
    rng = np.random.default_rng(seed)
    count = parameter_count(network.layout(len(FEATURES), len(GRID) - 1))
    params = (0.4 * rng.normal(size=count)).astype("<f8").tobytes()
    made = SurvivalModel.as_trained(FEATURES, network, GRID, params, filling() if imputes else None)
    return made.with_hazard(made.hazard * rng.uniform(0.3, 2.0, size=made.intervals))


def extreme(kind: str) -> SurvivalModel:
    """Weights that reach every bound, and an interval in which nobody dies."""
    made = model(kind)
    params = (25.0 * np.frombuffer(made.params)).astype("<f8").tobytes()
    return SurvivalModel(FEATURES, made.network, GRID, params, made.hazard * np.array([1.0, 0.0, 1.0, 1e-20, 1.0]))


def patients(n: int, seed: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    observed = rng.random((n, len(FEATURES))) < 0.6
    return np.where(observed, rng.normal(size=(n, len(FEATURES))), np.nan), observed
