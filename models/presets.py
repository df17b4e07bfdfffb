"""The shipped presets: hyper-parameters as named public constants.

Nothing here depends on a hospital's patients: searching on private data would be a release per trial. How each number
was chosen: `benchmarks/choose_preset.py` ("aml-small") and `benchmarks/models/tune.py` (all others), the tables in
`benchmarks/results/preset.json`; a test holds the presets of diseases to them.

A name says learner, disease and variant: "deepsurv-mds-private" is for studies with noise, "deepsurv-mds-open" for
those that are declared without (``--noise none``). No constant of a disease was chosen on a cohort of that disease;
where a search began with constants in which one had a vote, the provenance says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import Any, Final

from models.diseases import DISEASES
from models.errors import ConfigError
from models.preset import LEARNERS, Preset

__all__ = ["LEARNERS", "PRESETS", "VARIANTS", "Preset", "preset"]

VARIANTS: Final = ("private", "open")

_AML: Final = Preset(
    name="aml-small",
    learner="deepsurv",
    hidden=(8,),
    members=1,
    linear_penalty=0.0,
    hidden_penalty=0.0,
    latent=0,
    time_weight=1.0,
    kl_weight=0.0,
    binary=(),
    blocks=(),
    vectors=(),
    steps=60,
    uploads=66,
    clip=3.0,
    update="adam",
    learning_rate=0.04,
    momentum=0.9,
    averaging=0.0,
    normaliser=500.0,
    grid=(0.0, 30.4375, 91.3125, 182.625, 365.25, 730.5, 1826.25),  # 1, 3, 6 months; 1, 2, 5 years
    initial_log_hazard=-0.3,  # median survival of about 11 months: adults with AML, population registries
    breslow_bound=1.5,
    breslow_pseudo_events=160.0,
    calibration_times=(365.25, 730.5),
    risk_edges=(0.35, 0.5, 0.65),  # set before any run; small hold-outs leave some bins unresolved, and say so
    provenance="BeatAML 2.0 (Bottomly 2022, AML) and IWG-PM (Bernard 2022, MDS): not a yardstick on either",
)

# With the grid of AML; the presets of diseases below have each its own.
_SAVAE: Final = replace(
    _AML,
    name="savae-wide",
    learner="savae",
    hidden=(8,),
    latent=4,
    time_weight=10.0,
    kl_weight=1.0,
    clip=30.0,  # the time's gradient is time_weight times that of DeepSurv, its bound as well
    update="sgd-momentum",  # a short path of plain gradients shrinks rare columns as a ridge does; Adam's steps do not
    learning_rate=0.002,
    averaging=3.0,
    provenance="METABRIC (Curtis 2012) and BeatAML 2.0 (Bottomly 2022): not a yardstick on either",
)

_FUSION: Final = replace(
    _AML,
    name="fusion-wide",
    learner="fusion",
    hidden=(),
    latent=8,
    learning_rate=0.02,
    averaging=3.0,
    provenance="METABRIC (Curtis 2012) and BeatAML 2.0 (Bottomly 2022): not a yardstick on either",
)

_PRIVATE: Final[Mapping[str, Any]] = {
    "steps": 60, "uploads": 66, "clip": 3.0, "learning_rate": 0.01, "averaging": 3.0, "hidden": (), "members": 1,
}  # fmt: skip
_OPEN: Final[Mapping[str, Any]] = {
    "steps": 200, "uploads": 220, "clip": 30.0, "learning_rate": 0.01, "averaging": 8.0, "hidden": (), "members": 1,
}  # fmt: skip
"""The clip is large enough to change few gradients: it bounds a wrong record, and sets the lattice of the sum."""

_Chosen = Mapping[str, Any]


def _weights(linear: float, hidden: float = 0.0) -> _Chosen:
    return {"linear_penalty": linear, "hidden_penalty": hidden}


_ENSEMBLE: Final[_Chosen] = {**_OPEN, "hidden": (16,), "members": 3}
_AUTOENCODER: Final[_Chosen] = {
    **_PRIVATE, "hidden": (8,), "latent": 4, "time_weight": 10.0, "kl_weight": 1.0, "clip": 30.0,
}  # fmt: skip
_BLOCKS: Final[_Chosen] = {"latent": 8}

CHOSEN: Final[Mapping[str, tuple[_Chosen, _Chosen]]] = {
    "cox-private": ({**_PRIVATE, **_weights(100.0), "learning_rate": 0.02}, _PRIVATE),
    "cox-open": 2 * ({**_OPEN, **_weights(20.0)},),  # the weakest that was tried
    "deepsurv-private": 2 * ({**_PRIVATE, "hidden": (8,), "learning_rate": 0.02},),
    "deepsurv-open": ({**_ENSEMBLE, **_weights(200.0, 30.0)}, {**_ENSEMBLE, **_weights(100.0, 10.0)}),
    "savae-private": (_AUTOENCODER, _AUTOENCODER),
    "savae-open": ({**_AUTOENCODER, "update": "sgd-momentum", "learning_rate": 0.002}, _AUTOENCODER),
    "fusion-private": 2 * ({**_PRIVATE, **_BLOCKS, "learning_rate": 0.02},),
    "fusion-open": 2 * ({**_PRIVATE, **_BLOCKS, "learning_rate": 0.02},),
}
"""Learner and variant → constants of MDS, CMML and MM, which BeatAML and METABRIC chose, and of AML, which METABRIC and
CoMMpass chose."""

_RECALIBRATION: Final[Mapping[str, tuple[tuple[float, float], tuple[float, float]]]] = {
    "private": ((1.5, 40.0), (1.25, 40.0)),
    "open": ((1.25, 10.0), (1.25, 160.0)),
}
"""Variant → (bound, pseudo-events) of MDS, CMML and MM, and of AML."""

_ELSEWHERE: Final = "BeatAML 2.0 (Bottomly 2022, AML) and METABRIC (Curtis 2012, breast cancer)"
_FOR_AML: Final = "METABRIC (Curtis 2012, breast cancer) and CoMMpass (IA open tier, myeloma)"
_STARTED: Final = "; BeatAML had a vote in the constants that their search began with: no strict yardstick on it"
_STRICT: Final = frozenset({"cox-open", "deepsurv-open"})


def _of_diseases() -> Iterator[Preset]:
    for learner, disease, variant in product(LEARNERS, DISEASES, VARIANTS):
        known, group = DISEASES[disease], int(disease == "aml")
        bound, pseudo_events = _RECALIBRATION[variant][group]
        yield replace(
            _AML,
            name=f"{learner}-{disease}-{variant}",
            learner=learner,
            grid=known.grid,
            initial_log_hazard=known.log_hazard,
            calibration_times=known.calibration_times,
            risk_edges=known.risk_edges,
            breslow_bound=bound,
            breslow_pseudo_events=pseudo_events,
            provenance=_chosen_on(f"{learner}-{variant}", disease),
            **CHOSEN[f"{learner}-{variant}"][group],
        )


def _chosen_on(kind: str, disease: str) -> str:
    if disease != "aml":
        return _ELSEWHERE
    return _FOR_AML if kind in _STRICT else _FOR_AML + _STARTED


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({p.name: p for p in (_AML, _SAVAE, _FUSION, *_of_diseases())})


def preset(name: str) -> Preset:
    """Look a preset up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
