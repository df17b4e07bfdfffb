"""A survival model as an MLflow model directory, written without MLflow and read by our own loader.

| file                                | what                                                                          |
|-------------------------------------|-------------------------------------------------------------------------------|
| MLmodel                             | flavours, signature, and the facts of `models.interop.facts` as metadata      |
| model.safetensors                   | the model file, byte by byte: seals and digests go on to hold                 |
| model.onnx                          | if asked: the flavour "onnx"                                                  |
| requirements.txt, python_env.yaml   | this version of haemfed                                                       |

`mlflow.pyfunc.load_model(directory).predict(frame, params={"days": […]})` takes one column per feature, scaled by the
profile, NaN = not observed, and gives a frame: log_risk, and alive_at_…_days for each horizon. `_load_pyfunc` is what
MLflow calls; no pickle is written or read.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml

from models.data import INPUT_BOUND
from models.errors import ConfigError
from models.interop.facts import facts, haemfed
from models.interop.onnx import Exported
from models.loading import LoadedModel, horizons, load
from models.predict import SurvivalModel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MODEL", "ONNX", "Predictor", "directory"]

MODEL: Final = "model.safetensors"
ONNX: Final = "model.onnx"


@dataclass(frozen=True)
class Predictor:
    """What MLflow calls: a frame in, a frame out.

    Args:
        loaded: the model with its card.
    """

    loaded: LoadedModel

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Predict for one patient a row.

        Args:
            model_input: a column of each feature, scaled by the profile; NaN: not observed. Others are ignored.
            params: "days": horizons; default: `models.loading.DAYS` as far as the model reaches.

        Returns:
            log_risk, higher = earlier death, and P(alive) at each horizon, alive_at_…_days; index as that of the input.

        Raises:
            ConfigError: a column is missing, a value cannot have been scaled, or a horizon is beyond the model's.
        """
        import pandas as pd  # noqa: PLC0415 - whoever calls this has it loaded

        model = self.loaded.model
        if lacking := [name for name in model.features if name not in model_input.columns]:
            raise ConfigError(f"the model needs the columns {', '.join(lacking)}, scaled by its profile")
        x = model_input[list(model.features)].to_numpy(dtype=np.float64, na_value=np.nan)
        observed = ~np.isnan(x)
        if np.any(np.abs(x[observed]) > INPUT_BOUND):
            raise ConfigError(
                f"a value beyond ±{INPUT_BOUND:g}: inputs are scaled by the profile, (t(clip(v)) - centre) / spread; "
                "see haemfed.scaling in MLmodel"
            )
        days = horizons(model, None if params is None else params.get("days"))
        found = {"log_risk": model.risk(x, observed)}
        survival = model.survival(x, observed, np.array(days))
        found |= {_alive(day): survival[:, k] for k, day in enumerate(days)}
        return pd.DataFrame(found, index=model_input.index)


def _load_pyfunc(path: str) -> Predictor:
    """The loader that MLmodel names; MLflow looks for it by this name."""
    return Predictor(load(Path(path)))


def directory(loaded: LoadedModel, onnx: Exported | None = None) -> dict[str, bytes]:
    """The files of the directory by name; writing them, all or none, is the shell's job.

    Args:
        loaded: the model.
        onnx: of the same model, to be the flavour "onnx" beside.
    """
    needed, flavours = [haemfed()], {"python_function": _python_function()}
    files = {MODEL: loaded.data}
    if onnx is not None:
        files[ONNX] = onnx.data
        needed += [f"{name}=={version(name)}" for name in ("onnx", "onnxruntime")]
        flavours["onnx"] = {
            "code": None, "data": ONNX, "onnx_version": version("onnx"), "providers": ["CPUExecutionProvider"],
        }  # fmt: skip
    described = {
        "flavors": flavours,
        "metadata": facts(loaded.model, loaded.card),
        "model_uuid": loaded.model.digest[:32],  # 128 bits: the same model has the same name
        "signature": _signature(loaded.model),
    }
    environment = {
        "python": platform.python_version(), "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"],
    }  # fmt: skip
    return files | {
        "MLmodel": _yaml(described),
        "python_env.yaml": _yaml(environment),
        "requirements.txt": "".join(f"{line}\n" for line in needed).encode(),
    }


def _python_function() -> dict[str, object]:
    return {
        "data": MODEL,
        "env": {"virtualenv": "python_env.yaml"},
        "loader_module": "models.interop.mlflow",
        "python_version": platform.python_version(),
    }


def _signature(model: SurvivalModel) -> dict[str, str]:
    """As MLflow writes it: three JSON texts."""

    def columns(names: Sequence[str]) -> str:
        return json.dumps([{"type": "double", "name": name, "required": True} for name in names], ensure_ascii=False)

    days = horizons(model, None)
    asked = {"name": "days", "type": "double", "default": list(days), "shape": [-1]}
    return {
        "inputs": columns(model.features),
        "outputs": columns(["log_risk", *map(_alive, days)]),
        "params": json.dumps([asked]),
    }


def _alive(day: float) -> str:
    return f"alive_at_{day:g}_days"


def _yaml(content: object) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=True, width=10_000).encode()
