"""`models.load`: one way from a file to predictions, without torch and pandas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import models
from harmonize import export
from harmonize.errors import HarmonizeError, ProfileMismatch, TableError
from harmonize.pseudonyms import pseudonym
from models.errors import ArtefactError, ConfigError
from models.loading import LoadedModel
from tests.harmonize.test_export import tables
from tests.nodes.released import card, survival, write_survival

KEY = b"\2" * 32
SYSTEM = "urn:test:hospital"
MAPPING = f'format = "bundle"\nprofile = "aml_core"\nfiles = ["absent.json"]\n[patient]\nsystem = "{SYSTEM}"\n'
LIGHT = """
import sys
import models
assert not {"torch", "pandas", "numpy"} & set(sys.modules), "importing models is not cheap"
found = models.load(sys.argv[1]).predict(sys.argv[2])
assert len(found.pids) == 3
assert not {"torch", "pandas", "nodes", "onnx", "pycox"} & set(sys.modules), "predicting is not light"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_survival(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table.parquet").write_bytes(tables("aml_core", 4, 3).to_parquet_bytes())
    return tmp_path / "table.parquet"


def test_a_path_a_table_and_a_matrix_predict_the_same(path: Path, table: Path) -> None:
    loaded, given = models.load(str(path)), tables("aml_core", 4, 3)
    matrix = given.matrix()

    first, *others = (loaded.predict(each, [365.25, 30.0]) for each in (table, str(table), given, matrix))

    assert first.days == (365.25, 30.0)
    assert list(first.pids) == given.pids
    np.testing.assert_array_equal(first.risk, survival().risk(matrix.x, matrix.observed))
    np.testing.assert_array_equal(
        first.survival, survival().survival(matrix.x, matrix.observed, np.array([365.25, 30.0]))
    )
    for each in others:
        np.testing.assert_array_equal(each.survival, first.survival)
        np.testing.assert_array_equal(each.risk, first.risk)


def test_a_bundle_predicts_what_its_table_predicts(path: Path, table: Path, tmp_path: Path) -> None:
    entries = [entry for each in export.bundles(tables("aml_core", 4, 3), SYSTEM) for entry in each["entry"]]
    (tmp_path / "b.json").write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    (tmp_path / "m.toml").write_text(MAPPING)
    loaded = models.load(path)

    found = loaded.predict_bundle(tmp_path / "b.json", tmp_path / "m.toml", KEY)

    wanted = loaded.predict(table)
    rows = dict(zip(found.pids, found.survival, strict=True))
    assert len(rows) == 3
    for pid, row in zip(wanted.pids, wanted.survival, strict=True):
        np.testing.assert_array_equal(rows[pseudonym(KEY, SYSTEM, pid)], row)
    (tmp_path / "m.toml").write_text(MAPPING.replace("bundle", "ndjson"))
    with pytest.raises(HarmonizeError, match="exactly one source"):
        loaded.predict_bundle(tmp_path / "b.json", tmp_path / "m.toml", KEY)
    (tmp_path / "m.toml").write_text(MAPPING)
    (tmp_path / "b.json").write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": []}))
    with pytest.raises(TableError, match="no usable patient"):
        loaded.predict_bundle(tmp_path / "b.json", tmp_path / "m.toml", KEY)


def test_it_carries_its_card(path: Path) -> None:
    loaded = models.load(path)

    assert loaded.card == card("aml_core")
    assert loaded.profile.profile == "aml_core"
    assert loaded.protection.startswith("differentially private: ε = 0.988 ")
    assert loaded.data == path.read_bytes()


@pytest.mark.parametrize(
    ("metrics", "days"),
    [
        ({}, ()),
        ({"calibration": None}, ()),
        ({"calibration": {"overall": [{"days": "x", "observed": 0.5}, 3]}}, ()),
        (
            {
                "calibration": {
                    "overall": [
                        {"days": 730.5, "observed": 0.4},
                        {"days": 365.25, "observed": 0.2},
                        {"days": 1096.0, "observed": None},
                    ]
                }
            },
            (365.25, 730.5),
        ),
    ],
    ids=["none", "not released", "rubbish", "two of three resolved"],
)
def test_calibrated_days_are_those_with_a_released_observation(metrics: object, days: tuple[float, ...]) -> None:
    assert LoadedModel(survival(), {"metrics": metrics}, b"").calibrated_days == days


def test_what_is_not_of_the_models_profile_is_refused(path: Path, tmp_path: Path) -> None:
    loaded, other = models.load(path), tables("mds", 4, 3)
    (tmp_path / "other.parquet").write_bytes(other.to_parquet_bytes())

    for each in (other, tmp_path / "other.parquet"):
        with pytest.raises(ProfileMismatch):
            loaded.predict(each)
    with pytest.raises(ArtefactError, match="does not have as an input"):
        loaded.predict(other.matrix())
    with pytest.raises(TableError):
        loaded.predict(path)
    with pytest.raises(FileNotFoundError):
        loaded.predict(tmp_path / "absent")
    with pytest.raises(ConfigError, match="says nothing beyond"):
        loaded.predict(tables("aml_core", 4, 3), [1e9])
    with pytest.raises(ArtefactError, match="names no profile"):
        LoadedModel(survival(), {}, b"").predict(tables("aml_core", 4, 3))


def test_loading_is_light(path: Path, table: Path) -> None:
    subprocess.run([sys.executable, "-c", LIGHT, path, table], check=True)
