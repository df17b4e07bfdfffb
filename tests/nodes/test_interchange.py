"""`haemfed model export`: each format whole or not at all, sealed models refused, the guarantee in every export."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml

from harmonize.profile import load
from models import artefact
from models.errors import ConfigError as Impossible
from models.interop import mlflow
from models.interop import onnx as interop
from models.interop.pycox import FACTS
from models.loading import LoadedModel
from nodes import files
from nodes.errors import StorageProblem
from nodes.interchange import Format, export_model
from tests.audits.sample import attack, evidence
from tests.nodes.released import Haemfed, card, certify, command_line, survival, write_generator, write_survival

OPEN = {"protection": "not differentially private: masks only", "noise": "none", "epsilon": "not bounded"}


@pytest.fixture
def haemfed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Haemfed:
    monkeypatch.chdir(tmp_path)
    return command_line(capsys, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_survival(tmp_path / "run" / "model.safetensors", privacy=OPEN)
    return tmp_path / "run" / "model.safetensors"


def protection_in(form: str, path: Path) -> str:
    """What an export says of the guarantee, read by the format's own means."""
    match form:
        case "onnx":
            props = onnx.load(str(path)).metadata_props
            return {each.key: each.value for each in props}["haemfed.protection"]
        case "pycox":
            extra = {FACTS: ""}
            torch.jit.load(io.BytesIO(path.read_bytes()), _extra_files=extra)
            return str(json.loads(extra[FACTS])["haemfed.protection"])
        case _:
            return str(yaml.safe_load((path / "MLmodel").read_text())["metadata"]["haemfed.protection"])


@pytest.mark.parametrize("form", list(Format))
def test_every_format_is_written_and_says_how_it_is_protected(
    form: str, haemfed: Haemfed, model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "export[1]"

    code, out, err = haemfed("model", "export", model, "--format", form, "--out", target)

    assert code == 0, err
    assert err == "not certified: no audit of this model is known here\n"
    lines = out.splitlines()
    assert lines[0] == f"{form}: {target}"
    assert lines[-1] == f"  {OPEN['protection']}"
    assert ("largest relative difference" in out) == (form != "mlflow")
    assert protection_in(form, target) == OPEN["protection"]
    assert stat.S_IMODE(target.stat().st_mode) == (0o700 if form == "mlflow" else 0o600)
    assert [each.name for each in target.parent.iterdir()] == [target.name]


def test_the_exports_predict(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    made = survival()
    x = np.random.default_rng(0).uniform(-1, 1, size=(9, len(made.features)))
    observed = np.ones(x.shape, dtype=np.bool_)
    wanted = made.survival(x, observed, np.array(made.grid))

    assert haemfed("model", "export", model, "--format", "onnx", "--out", "m.onnx")[0] == 0
    assert haemfed("model", "export", model, "--format", "mlflow", "--onnx", "--out", "m")[0] == 0

    assert (tmp_path / "m" / "model.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == model.read_bytes()
    found = interop.run((tmp_path / "m.onnx").read_bytes(), x, observed)["survival"]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    predictor = mlflow._load_pyfunc(str(tmp_path / "m" / "model.safetensors"))
    frame = predictor.predict(pd.DataFrame(x, columns=list(made.features)), {"days": list(made.grid)})
    np.testing.assert_array_equal(frame.iloc[:, 1:], wanted)


def test_the_profile_scaling_is_in_the_facts(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    assert haemfed("model", "export", model, "--format", "onnx", "--out", "m.onnx")[0] == 0

    stated = {each.key: each.value for each in onnx.load(str(tmp_path / "m.onnx")).metadata_props}
    scaling = json.loads(stated["haemfed.scaling"])
    assert list(scaling) == sorted(survival().features)
    for variable in load("aml_core").inputs:
        assert float(scaling[variable.name]["centre"]) == float(variable.scale.centre)
        assert float(scaling[variable.name]["spread"]) == float(variable.scale.spread)


@pytest.mark.parametrize("form", list(Format))
def test_a_sealed_or_retired_model_is_refused(form: str, haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    certificate = certify(model, write_survival(model), evidence(attack=attack(tilt=3.0)))

    code, out, err = haemfed("model", "export", model, "--format", form, "--out", "export")
    assert (code, out, "sealed" in err) == (24, "", True)
    certificate.unlink()
    assert haemfed("model", "retire", model, "--reason", "a better one")[0] == 0
    code, out, err = haemfed("model", "export", model, "--format", form, "--out", "export")
    assert (code, out, "a better one" in err) == (24, "", True)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("form", list(Format))
def test_what_exists_is_not_replaced(form: str, haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for name in ("file", "folder", "link"):
        code, _, err = haemfed("model", "export", model, "--format", form, "--out", name)
        assert (code, "replaces nothing" in err) == (19, True), err
    assert (tmp_path / "file").read_text() == "mine"
    assert not list((tmp_path / "folder").iterdir())
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("form", "absent"), [("onnx", "onnx"), ("onnx", "onnxruntime"), ("pycox", "pycox.models"), ("mlflow", "onnx")]
)
def test_a_missing_package_is_named_with_its_extra(
    form: str, absent: str, haemfed: Haemfed, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    more = ["--onnx"] if form == "mlflow" else []

    code, _, err = haemfed("model", "export", model, "--format", form, "--out", "export", *more)

    assert (code, "pip install 'haemfed[interop]'" in err) == (10, True), err
    assert not (tmp_path / "export").exists()


def test_mlflow_alone_needs_no_other_package(
    haemfed: Haemfed, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for absent in ("mlflow", "onnx", "onnxruntime", "pycox.models"):
        monkeypatch.setitem(sys.modules, absent, None)

    assert haemfed("model", "export", model, "--format", "mlflow", "--out", "export")[0] == 0
    assert (tmp_path / "export" / "MLmodel").exists()


def test_an_export_that_predicts_something_else_is_not_written(
    haemfed: Haemfed, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def differs(*_: object) -> float:
        raise Impossible("the export would give other hazards than the model")

    monkeypatch.setattr(interop.trial, "agreed", differs)
    for form in ("onnx", "pycox"):
        code, _, err = haemfed("model", "export", model, "--format", form, "--out", "export")
        assert (code, "other hazards" in err) == (10, True)
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("form", list(Format))
def test_a_full_disk_leaves_nothing_behind(form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = files.write, []

    def full(path: Path, data: bytes, *, private: bool = False) -> None:
        if len(written) == (2 if form is Format.MLFLOW else 0):
            raise StorageProblem(f"{path}: no space left")
        written.append(path)
        write(path, data, private=private)

    monkeypatch.setattr(files, "write", full)
    made = survival()
    loaded = LoadedModel(made, card("aml_core"), artefact.to_bytes(made, card("aml_core")))

    with pytest.raises(StorageProblem, match="no space"):
        export_model(loaded, form, tmp_path / "export")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [("--format", "pickle"), ("--format", "onnx", "--onnx"), ()])
def test_a_command_line_that_makes_no_sense(wrong: tuple[str, ...], haemfed: Haemfed, model: Path) -> None:
    assert haemfed("model", "export", model, *wrong, "--out", "export")[0] == 2


@pytest.mark.parametrize(
    "command",
    [
        ("model", "export", "--format", "onnx", "--out", "export"),
        ("model", "predict"),
        ("model", "predict", "--personal"),
        ("model", "personalise"),
        ("model", "show"),
    ],
    ids=" ".join,
)
def test_a_generator_is_called_one_and_sent_to_its_own_commands(
    command: tuple[str, ...], haemfed: Haemfed, tmp_path: Path
) -> None:
    write_generator(tmp_path / "generator.safetensors")

    code, out, err = haemfed(*command[:2], "generator.safetensors", *command[2:])

    assert (code, out) == (17, "")
    assert "the file holds a generator of synthetic patients, not a survival model" in err
    assert "`haemfed synth sample`" in err
    assert "`haemfed synth export`" in err
    assert [each.name for each in tmp_path.iterdir()] == ["generator.safetensors"]


def test_a_damaged_generator_is_retired_by_nobody_and_says_what_is_wrong(haemfed: Haemfed, tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    write_generator(path)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)

    code, _, err = haemfed("model", "retire", path, "--reason", "damaged")

    assert (code, "edited" in err, "not a survival model" in err) == (17, True, False)
