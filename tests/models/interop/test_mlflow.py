"""MLflow: the directory that is written without it, our loader, and MLflow itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from models.artefact import to_bytes
from models.errors import ArtefactError, ConfigError
from models.interop.facts import facts, haemfed
from models.interop.mlflow import MODEL, ONNX, Predictor, _load_pyfunc, directory
from models.interop.onnx import to_onnx
from models.loading import LoadedModel
from models.predict import SurvivalModel
from tests.models.interop.invented import FEATURES, OPEN, card, model, patients


def loaded(made: SurvivalModel) -> LoadedModel:
    stated = card(privacy=OPEN)
    return LoadedModel(made, stated, to_bytes(made, stated))


def frame(n: int = 30) -> pd.DataFrame:
    x, observed = patients(n)
    return pd.DataFrame(np.where(observed, x, np.nan), columns=list(FEATURES), index=range(100, 100 + n))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def check(found: pd.DataFrame, made: SurvivalModel, days: list[float], n: int = 30) -> None:
    x, observed = patients(n)
    assert list(found.columns) == ["log_risk", *(f"alive_at_{day:g}_days" for day in days)]
    np.testing.assert_array_equal(found["log_risk"], made.risk(x, observed))
    np.testing.assert_array_equal(found.iloc[:, 1:], made.survival(x, observed, np.array(days)))


def test_the_directory_describes_and_holds_the_model_file() -> None:
    made = model("savae", imputes=True)
    files = directory(loaded(made))

    assert sorted(files) == ["MLmodel", MODEL, "python_env.yaml", "requirements.txt"]
    assert files[MODEL] == loaded(made).data
    assert files["requirements.txt"].decode() == f"{haemfed()}\n"
    assert yaml.safe_load(files["python_env.yaml"])["dependencies"] == ["-r requirements.txt"]
    described = yaml.safe_load(files["MLmodel"])
    assert list(described["flavors"]) == ["python_function"]
    assert described["flavors"]["python_function"]["loader_module"] == "models.interop.mlflow"
    assert described["flavors"]["python_function"]["data"] == MODEL
    assert described["metadata"] == facts(made, card(privacy=OPEN))
    assert described["metadata"]["haemfed.protection"] == OPEN["protection"]
    inputs, outputs = (json.loads(described["signature"][each]) for each in ("inputs", "outputs"))
    assert [each["name"] for each in inputs] == list(FEATURES)
    assert [each["name"] for each in outputs] == ["log_risk", "alive_at_365.25_days", "alive_at_730.5_days"]
    assert files == directory(loaded(made)), "the same model, the same bytes"


def test_the_flavour_onnx_is_beside_if_asked() -> None:
    made = loaded(model("cox"))
    exported = to_onnx(made.model, made.card)
    files = directory(made, exported)

    assert files[ONNX] == exported.data
    assert yaml.safe_load(files["MLmodel"])["flavors"]["onnx"]["data"] == ONNX
    assert [line.partition("==")[0] for line in files["requirements.txt"].decode().split()] == [
        "haemfed", "onnx", "onnxruntime",
    ]  # fmt: skip


def test_our_loader_predicts_from_a_frame(tmp_path: Path) -> None:
    made = model("deepsurv", imputes=True)
    folder = write(tmp_path / "model", directory(loaded(made)))
    predictor = _load_pyfunc(str(folder / MODEL))
    shuffled = frame()[list(reversed(FEATURES))].assign(other="text")

    check(predictor.predict(shuffled), made, [365.25, 730.5])
    check(predictor.predict(frame(), {"days": np.array([100.0, 20.0])}), made, [100.0, 20.0])
    assert list(predictor.predict(frame()).index) == list(frame().index)
    damaged = bytearray((folder / MODEL).read_bytes())
    damaged[-3] ^= 1
    (folder / MODEL).write_bytes(damaged)
    with pytest.raises(ArtefactError, match="edited"):
        _load_pyfunc(str(folder / MODEL))


@pytest.mark.parametrize("wrong", [71.0, -10.5, np.inf])
def test_values_that_were_not_scaled_are_refused(wrong: float) -> None:
    predictor, given = Predictor(loaded(model("cox"))), frame()
    given.iloc[3, 0] = wrong

    with pytest.raises(ConfigError, match="scaled by the profile"):
        predictor.predict(given)
    given.iloc[3, 0] = 10.0
    predictor.predict(given)


def test_what_the_model_cannot_say_is_refused() -> None:
    predictor = Predictor(loaded(model("cox")))

    with pytest.raises(ConfigError, match="needs the columns wbc"):
        predictor.predict(frame().drop(columns="wbc"))
    for days in ([-1.0], [1e9], [np.nan], [1.0] * 101):
        with pytest.raises(ConfigError, match="says nothing beyond"):
            predictor.predict(frame(), {"days": days})


def test_mlflow_itself_loads_both_flavours(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed; it is needed to load, not to write")
    from mlflow import onnx as theirs_onnx
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException

    made = loaded(model("savae", imputes=True))
    exported = to_onnx(made.model, made.card)
    folder = write(tmp_path / "model", directory(made, exported))

    theirs = pyfunc.load_model(str(folder))
    check(theirs.predict(frame()), made.model, [365.25, 730.5])
    check(theirs.predict(frame(), params={"days": [100.0, 20.0]}), made.model, [100.0, 20.0])
    assert theirs.metadata.metadata["haemfed.protection"] == OPEN["protection"]
    with pytest.raises(MlflowException, match="wbc"):
        theirs.predict(frame().drop(columns="wbc"))
    assert theirs_onnx.load_model(str(folder)).SerializeToString(deterministic=True) == exported.data
