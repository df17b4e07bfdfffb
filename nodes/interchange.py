"""A survival model written in another tool's format: whole or not at all, and compared with the model before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from models.errors import ConfigError as Impossible
from models.interop import mlflow, onnx, pycox
from models.interop.onnx import Exported
from models.loading import LoadedModel
from nodes import files
from nodes.errors import ConfigError
from nodes.exporting import refuse_any, write_folder

__all__ = ["Format", "Written", "export_model"]


class Format(StrEnum):
    """What a survival model can become."""

    ONNX = "onnx"
    MLFLOW = "mlflow"
    PYCOX = "pycox"


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        path: a file, or a folder of MLflow.
        difference: largest relative difference from the model on invented patients; None: it is the model file itself.
        protection: the guarantee in one line, as it stands in the export.
    """

    path: Path
    difference: float | None
    protection: str


def export_model(loaded: LoadedModel, form: Format, target: Path, *, onnx_beside: bool = False) -> Written:
    """Write a model that may be used at this site.

    Args:
        loaded: the model.
        form: the format.
        target: what must not exist yet.
        onnx_beside: of MLflow, the flavour "onnx" beside the model file.

    Raises:
        ConfigError: a package is not installed (extra `interop`), or the format cannot say what the model says.
        StorageProblem: the target exists, or cannot be written.
    """
    refuse_any(target)
    try:
        found = _converted(loaded, Format.ONNX if onnx_beside else form)
    except Impossible as error:
        raise ConfigError(str(error)) from error
    if form is Format.MLFLOW:
        write_folder(target, mlflow.directory(loaded, found).items())
    elif found is not None:
        with files.storage_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        files.write(target, found.data, private=True)
    return Written(target, None if found is None else found.difference, loaded.protection)


def _converted(loaded: LoadedModel, form: Format) -> Exported | None:
    """One file; None of MLflow, whose directory holds the model file itself."""
    match form:
        case Format.ONNX:
            return onnx.to_onnx(loaded.model, loaded.card)
        case Format.PYCOX:
            return pycox.to_torchscript(loaded.model, loaded.card)
        case Format.MLFLOW:
            return None
