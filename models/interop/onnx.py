"""A survival model as an ONNX graph in double precision, for programs that have no Python or no haemfed.

| input or output | type                 | what                                                            |
|-----------------|----------------------|-----------------------------------------------------------------|
| x               | double[patients, p]  | values scaled by the profile                                    |
| observed        | bool[patients, p]    | whether x holds a measured value; what is not is never read     |
| hazards         | double[patients, K]  | deaths per year in each interval of the grid, recalibrated      |
| risk            | double[patients]     | log-risk, higher = earlier death                                |
| survival        | double[patients, K+1]| P(alive) at each edge of the grid, 1 at the first               |

Where the model completes records, the graph does so, too. A patient with an observed value that is no finite number
gets nan everywhere. The facts of `models.interop.facts` are the file's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from models.data import DAYS_PER_YEAR, Bool, Float64
from models.errors import ConfigError
from models.interop import trial
from models.interop.facts import facts, haemfed
from models.interop.graph import Graph, completed, finite_or_nan, log_relative
from models.predict import SurvivalModel

__all__ = ["Exported", "run", "to_onnx"]

OPSET: Final = 18
IR_VERSION: Final = 8  # of the first release that had this opset: readers of it and of later ones take the file
_OUTPUTS: Final = ("hazards", "risk", "survival")
_MISSING: Final = "onnx and onnxruntime are not installed here: pip install 'haemfed[interop]'"


@dataclass(frozen=True)
class Exported:
    """A file in another format, checked.

    Args:
        data: its bytes.
        difference: largest relative difference from the model on the invented patients of `models.interop.trial`.
    """

    data: bytes = field(repr=False)
    difference: float


def to_onnx(model: SurvivalModel, card: Mapping[str, Any]) -> Exported:
    """The graph, run by onnxruntime and compared with the model.

    Args:
        model: of any network of `models.networks`, recalibrated or not, with or without imputation.
        card: of its file.

    Raises:
        ConfigError: onnx or onnxruntime is not installed, or the graph would predict something else.
    """
    data = _build(model, facts(model, card))
    x, observed = trial.invented(model)
    return Exported(data, trial.agreed(model, run(data, x, observed), x, observed))


def run(data: bytes, x: Float64, observed: Bool) -> dict[str, Float64]:
    """Hazards, risk and survival as onnxruntime computes them on a CPU.

    Args:
        data: an exported file.
        x: float64[n, p], scaled by the profile.
        observed: bool[n, p].

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - heavy, and an extra
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return dict(zip(_OUTPUTS, session.run(list(_OUTPUTS), {"x": x, "observed": observed}), strict=True))


def _build(model: SurvivalModel, stated: Mapping[str, str]) -> bytes:
    try:
        import onnx  # noqa: PLC0415 - heavy, and an extra
        import onnx.checker  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    graph = Graph(onnx)
    x, observed = "x", "observed"
    if model.imputation is not None:
        x, observed = completed(graph, model.imputation, len(model.features), x, observed)
    relative = finite_or_nan(graph, x="x", observed="observed", values=log_relative(graph, model, x, observed))
    _outputs(graph, model, relative)
    helper, double = onnx.helper, onnx.TensorProto.DOUBLE
    info, p, k = helper.make_tensor_value_info, len(model.features), model.intervals
    body = helper.make_graph(
        graph.nodes,
        "haemfed survival model",
        [info("x", double, ["patients", p]), info("observed", onnx.TensorProto.BOOL, ["patients", p])],
        [
            info("hazards", double, ["patients", k]),
            info("risk", double, ["patients"]),
            info("survival", double, ["patients", k + 1]),
        ],
        graph.constants,
    )
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    made.producer_name, _, made.producer_version = haemfed().partition("==")
    made.doc_string = f"{stated['haemfed.protection']}. {stated['haemfed.inputs']}. {stated['haemfed.outputs']}."
    helper.set_model_props(made, dict(stated))
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString(deterministic=True))


def _outputs(graph: Graph, model: SurvivalModel, relative: str) -> None:
    """Hazards, risk and survival from g; see `SurvivalModel`."""
    years = np.diff(np.asarray(model.grid)) / DAYS_PER_YEAR
    hazards = graph.named("hazards", graph.apply("Mul", graph.apply("Exp", relative), graph.constant(model.hazard)))
    expected = graph.apply("Mul", hazards, graph.constant(years))
    until = np.triu(np.ones((model.intervals, model.intervals + 1)), 1)  # column k: the intervals before edge k
    graph.named(
        "survival", graph.apply("Exp", graph.apply("Neg", graph.apply("MatMul", expected, graph.constant(until))))
    )
    rows = graph.constant([1], np.int64)
    if trial.proportional(model):
        graph.named("risk", graph.apply("Squeeze", relative, rows))
        return
    total = graph.apply("ReduceSum", expected, rows, keepdims=0)
    graph.named("risk", graph.apply("Log", graph.apply("Max", total, graph.constant(np.finfo(np.float64).tiny))))
