from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from models.diseases import DISEASES
from models.errors import ConfigError, MisuseError
from models.networks import Ensemble, FusedBlocks, Hazards, LatentWeibull
from models.presets import LEARNERS, PRESETS, VARIANTS, Preset, preset
from models.training import initial_weights

SAVAE = replace(preset("savae-wide"), binary=(1, 3))
FUSION = replace(preset("fusion-wide"), blocks=(2, 3), vectors=(1,))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_what_its_json_says_and_has_weights_for_any_table(name: str) -> None:
    chosen = preset(name)

    assert chosen.name == name
    assert Preset.from_json(chosen.to_json()) == chosen
    assert chosen.network.learner == chosen.learner
    assert len(initial_weights(chosen, 5, b"seed")) % 8 == 0


def test_described_sets_what_the_learner_uses_and_nothing_else() -> None:
    columns = {"binary": (1, 3), "blocks": (2, 3), "vectors": (1,)}

    assert preset("savae-wide").described(**columns) == SAVAE
    assert preset("fusion-wide").described(**columns) == FUSION
    assert preset("aml-small").described(**columns) == preset("aml-small")
    assert SAVAE.network == LatentWeibull(SAVAE.hidden, SAVAE.latent, (1, 3))
    assert FUSION.network == FusedBlocks(FUSION.hidden, FUSION.latent, (2, 3), (1,))
    assert preset("aml-small").network == Hazards((8,))


def test_every_disease_has_every_learner_in_both_variants() -> None:
    names = {f"{learner}-{disease}-{variant}" for learner, disease, variant in product(LEARNERS, DISEASES, VARIANTS)}

    assert names | {"aml-small", "savae-wide", "fusion-wide"} == set(PRESETS)
    for name in names:
        learner, disease, _ = name.split("-")
        chosen, known = preset(name), DISEASES[disease]
        assert (chosen.learner, chosen.grid, chosen.initial_log_hazard) == (learner, known.grid, known.log_hazard)
        assert chosen.calibration_times[-1] < chosen.horizon
        own = {"aml": "AML", "mds": "MDS", "cmml": "CMML", "mm": "myeloma"}
        assert own[disease] not in chosen.provenance or "no strict yardstick" in chosen.provenance
    assert preset("deepsurv-mds-open").network == Ensemble((16,), 3)
    assert preset("aml-small").grid == DISEASES["aml"].grid


def test_a_preset_that_shares_a_cohort_with_the_figures_says_so() -> None:
    for name in ("aml-small", "savae-wide", "fusion-wide"):
        assert "not a yardstick on either" in preset(name).provenance
    for name in ("deepsurv-aml-private", "savae-aml-open", "fusion-aml-private"):
        assert "BeatAML had a vote" in preset(name).provenance


def test_columns_and_blocks_are_part_of_the_digest() -> None:
    assert len({p.digest() for p in (preset("savae-wide"), SAVAE, preset("fusion-wide"), FUSION)}) == 4


@pytest.mark.parametrize(
    ("base", "changes", "problem"),
    [
        ("savae", {"latent": 0}, "latent must be"),
        ("savae", {"latent": 4097}, "latent must be"),
        ("fusion", {"latent": 0}, "latent must be"),
        ("savae", {"time_weight": 0.0}, "time_weight must be positive"),
        ("savae", {"time_weight": float("nan")}, "finite"),
        ("savae", {"kl_weight": -0.1}, "kl_weight at least 0"),
        ("savae", {"hidden": ()}, '"savae" at least one'),
        ("savae", {"binary": (3, 1)}, "binary columns must increase"),
        ("savae", {"binary": (-1,)}, "binary columns must increase"),
        ("savae", {"binary": (1, 1)}, "binary columns must increase"),
        ("savae", {"blocks": (2, 3)}, 'only "fusion"'),
        ("fusion", {"binary": (1,)}, 'only "savae"'),
        ("fusion", {"time_weight": 10.0}, 'only "savae"'),
        ("fusion", {"kl_weight": 0.1}, 'only "savae"'),
        ("fusion", {"blocks": (0, 5)}, "blocks must be"),
        ("fusion", {"vectors": (2,)}, "vectors must increase"),
        ("fusion", {"vectors": (1, 0)}, "vectors must increase"),
        ("aml-small", {"members": 0}, "members must be 1 … 16"),
        ("aml-small", {"members": 17}, "members must be 1 … 16"),
        ("aml-small", {"members": 2, "hidden": ()}, "members must be"),
        ("savae", {"members": 2}, "members must be"),
        ("fusion", {"members": 2}, "members must be"),
        ("aml-small", {"linear_penalty": -1.0}, "penalties must be at least 0"),
        ("aml-small", {"hidden_penalty": -1.0}, "penalties must be at least 0"),
        ("aml-small", {"hidden_penalty": float("nan")}, "finite"),
        ("aml-small", {"hidden_penalty": 1.0, "hidden": ()}, "only the linear one"),
        ("savae", {"linear_penalty": 1.0}, '"savae" has none'),
        ("savae", {"hidden_penalty": 1.0}, '"savae" has none'),
        ("aml-small", {"latent": 2}, "latent must be"),
        ("aml-small", {"vectors": (0,)}, "vectors must increase"),
        ("aml-small", {"learner": "ctgan"}, "learner must be one of cox, deepsurv, savae, fusion"),
        ("aml-small", {"grid": (0.0, float("inf"))}, "preset 'aml-small': every number must be finite"),
        ("aml-small", {"steps": 0}, "steps must be 1 … 1000"),
        ("aml-small", {"steps": 1001, "uploads": 2000}, "steps must be 1 … 1000"),
        ("aml-small", {"steps": 100, "uploads": 109}, "uploads at least 1.1 times as many"),
        ("aml-small", {"update": "sgd"}, "update must be one of sgd-momentum, adam"),
        ("aml-small", {"clip": 0.0}, "clip, learning_rate and normaliser must be positive"),
        ("aml-small", {"learning_rate": 0.0}, "learning_rate and normaliser must be positive"),
        ("aml-small", {"normaliser": -1.0}, "learning_rate and normaliser must be positive"),
        ("aml-small", {"momentum": 1.0}, "momentum must be in"),
        ("aml-small", {"averaging": -1.0}, "averaging at least 0"),
        ("aml-small", {"breslow_bound": 1.0}, "breslow_bound must be above 1"),
        ("aml-small", {"breslow_pseudo_events": -1.0}, "breslow_pseudo_events at least 0"),
    ],
)  # fmt: skip
def test_a_preset_that_cannot_be_is_refused_by_name(base: str, changes: dict[str, object], problem: str) -> None:
    start = {"savae": SAVAE, "fusion": FUSION, "aml-small": preset("aml-small")}[base]

    with pytest.raises(ConfigError, match=problem):
        replace(start, **changes)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent", 2.0), ("binary", [True]), ("blocks", ["2"]), ("kl_weight", "0"),
        pytest.param("clip", 10**400, id="clip-large"), pytest.param("grid", [0, 10**400], id="grid-large"),
    ],
)  # fmt: skip
def test_a_preset_of_other_types_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Preset.from_json(SAVAE.to_json() | {field: value})


def test_a_preset_for_other_features_is_misuse() -> None:
    with pytest.raises(MisuseError, match="two-valued columns"):
        initial_weights(SAVAE, 3, b"seed")
    with pytest.raises(MisuseError, match="6 features"):
        initial_weights(FUSION, 6, b"seed")
