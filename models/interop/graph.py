"""The numpy forms of `models.networks` as ONNX operators, in double precision.

What stands here follows `Network.log_relative` of each form line by line; an export is compared with it before anybody
gets it. Operators are those of opset 18.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.completion import Completion
from models.data import DAYS_PER_YEAR, Float64
from models.errors import ConfigError
from models.networks import RISK_BOUND, Arrays, Ensemble, FusedBlocks, Hazards, LatentWeibull
from models.networks.savae import LOG_SHAPE_BOUND
from models.predict import SurvivalModel

__all__ = ["Graph", "completed", "finite_or_nan", "log_relative"]


@dataclass
class Graph:
    """Nodes in order, and the constants that they read.

    Args:
        onnx: the package; whoever builds a graph has imported it.
        prefix: of the names in it; those of a loop's body may not be names outside.
    """

    onnx: Any
    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, values: object, kind: type = np.float64) -> str:
        """Name of an array that is part of the file."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def apply(self, operator: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Name of an operator's first output."""
        names = [f"{self.prefix}{operator.lower()}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def named(self, name: str, values: str) -> str:
        """Give an array the name of an output."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [values], [name]))
        return name

    def sum(self, first: str, *others: str) -> str:
        """All of them added, from the left."""
        for other in others:
            first = self.apply("Add", first, other)
        return first

    def product(self, values: str, weight: Float64) -> str:
        """X Wᵀ."""
        return self.apply("MatMul", values, self.constant(weight.T))

    def dense(self, values: str, arrays: Arrays, name: str) -> str:
        """Tanh(X Wᵀ + b)."""
        linear = self.sum(self.product(values, arrays[f"{name}.weight"]), self.constant(arrays[f"{name}.bias"]))
        return self.apply("Tanh", linear)

    def clipped(self, values: str, low: object, high: object) -> str:
        """Between the bounds, per column if they are arrays."""
        return self.apply("Min", self.apply("Max", values, self.constant(low)), self.constant(high))

    def columns(self, values: str, places: object) -> str:
        """Some columns, in this order."""
        return self.apply("Gather", values, self.constant(places, np.int64), axis=1)

    def over_columns(self, operator: str, values: str) -> str:
        """ReduceMax and the like of each row, [n, 1]."""
        return self.apply(operator, values, self.constant([1], np.int64), keepdims=1)

    def number(self, truth: str) -> str:
        """1 where true, 0 where not."""
        return self.apply("Cast", truth, to=self.onnx.TensorProto.DOUBLE)

    def inputs(self, x: str, observed: str) -> str:
        """(x · observed, 1 − observed); see `models.data.inputs`."""
        missing = self.apply("Sub", self.constant(1.0), self.number(observed))
        return self.apply("Concat", self.apply("Where", observed, x, self.constant(0.0)), missing, axis=1)


def log_relative(graph: Graph, model: SurvivalModel, x: str, observed: str) -> str:
    """Name of g: [n, 1] under proportional hazards, else [n, K].

    Raises:
        ConfigError: a network that no graph is known of.
    """
    network, arrays = model.network, model.arrays
    match network:
        case Hazards():
            return _hazards(graph, network, arrays, graph.inputs(x, observed))
        case Ensemble():
            u = graph.inputs(x, observed)
            risks = [
                _hazards(graph, network.member, _below(arrays, f"members.{e}."), u) for e in range(network.members)
            ]
            return graph.apply("Div", graph.sum(*risks), graph.constant(float(network.members)))
        case FusedBlocks():
            return _fusion(graph, network, arrays, (x, observed), len(model.features))
        case LatentWeibull():
            return _weibull(graph, network, arrays, graph.inputs(x, observed), model.grid)
        case _:
            raise ConfigError(f"no ONNX graph is known of a network {network.learner!r}; use the model file itself")


def completed(graph: Graph, filling: Completion, features: int, x: str, observed: str) -> tuple[str, str]:
    """Names of x and observed with the conditional means of what is missing.

    The regression of a patient's missing covariates on the observed ones by conditioning on one after the other:
    m ← m + g (x_k − m_k), Σ ← Σ − g Σ_k, g = Σ_k / Σ_kk for every k that is observed. It needs n · q² numbers.
    """
    normal, places = filling.normal, [c.column for c in filling.normal.covariates]
    q = len(places)
    own, seen = graph.columns(x, places), graph.columns(observed, places)
    inside = graph.clipped(graph.apply("Where", seen, own, graph.constant(0.0)), *normal.bounds)
    nothing = graph.apply("Mul", graph.number(seen), graph.constant(0.0))
    mean = graph.apply("Add", nothing, graph.constant(normal.mean))
    spread = graph.apply(
        "Add", graph.apply("Unsqueeze", nothing, graph.constant([2], np.int64)), graph.constant(normal.covariance)
    )
    go_on = graph.constant(True, np.bool_)  # noqa: FBT003 - a constant of the graph
    body = _conditioning(graph, inside, seen)
    expected = graph.apply("Loop", graph.constant(q, np.int64), go_on, mean, spread, outputs=2, body=body)
    filled = graph.constant([c.name not in filling.kept for c in normal.covariates], np.bool_)
    wanted = graph.apply("And", graph.apply("Not", seen), filled)
    own = graph.apply("Where", wanted, graph.clipped(expected, *normal.bounds), own)
    source = np.arange(features)
    source[places] = features + np.arange(q)
    return (
        graph.columns(graph.apply("Concat", x, own, axis=1), source),
        graph.columns(graph.apply("Concat", observed, graph.apply("Or", seen, wanted), axis=1), source),
    )


def finite_or_nan(graph: Graph, x: str, observed: str, values: str) -> str:
    """The values, nan for a patient with an observed value that is no finite number: minimum and maximum lose it."""
    read = graph.apply("Where", observed, x, graph.constant(0.0))
    broken = graph.number(graph.apply("IsNaN", graph.apply("Sub", read, read)))  # inf − inf is nan, too
    any_broken = graph.apply("Greater", graph.over_columns("ReduceMax", broken), graph.constant(0.5))
    return graph.apply("Where", any_broken, graph.constant(math.nan), values)


def _hazards(graph: Graph, network: Hazards, arrays: Arrays, u: str) -> str:
    risk = graph.product(u, arrays["skip.weight"])
    active = u
    for i in range(len(network.hidden)):
        active = graph.dense(active, arrays, f"hidden.{i}")
    if network.hidden:
        risk = graph.sum(risk, graph.product(active, arrays["out.weight"]))
    return graph.clipped(risk, -RISK_BOUND, RISK_BOUND)


def _fusion(graph: Graph, network: FusedBlocks, arrays: Arrays, table: tuple[str, str], features: int) -> str:
    blocks, absent, codes = [], [], []
    first = 0
    for j, width in enumerate(network.widths(features)):
        places = list(range(first, first + width))
        block, seen = (graph.columns(each, places) for each in table)
        vector = j in network.vectors
        there = graph.over_columns("ReduceMin" if vector else "ReduceMax", graph.number(seen))
        whole = graph.apply("Div", block, graph.constant(math.sqrt(width))) if vector else graph.inputs(block, seen)
        present = graph.apply("Greater", there, graph.constant(0.5))
        blocks.append(graph.apply("Where", present, whole, graph.constant(0.0)))
        absent.append(graph.apply("Sub", graph.constant(1.0), there))
        codes.append(graph.apply("Mul", graph.dense(blocks[-1], arrays, f"encoders.{j}"), there))
        first += width
    u = graph.apply("Concat", *blocks, *absent, axis=1)
    active = graph.apply("Concat", *codes, axis=1)
    for i in range(len(network.hidden)):
        active = graph.dense(active, arrays, f"head.{i}")
    risk = graph.sum(graph.product(u, arrays["skip.weight"]), graph.product(active, arrays["out.weight"]))
    return graph.clipped(risk, -RISK_BOUND, RISK_BOUND)


def _weibull(graph: Graph, network: LatentWeibull, arrays: Arrays, u: str, grid: tuple[float, ...]) -> str:
    active = u
    for i in range(len(network.hidden)):
        active = graph.dense(active, arrays, f"encoder.{i}")
    z = graph.sum(graph.product(u, arrays["mean.weight"]), graph.product(active, arrays["code.weight"]))
    curve = graph.dense(z, arrays, "curve")
    law = graph.sum(
        graph.product(z, arrays["time.weight"]),
        graph.constant(arrays["time.bias"]),
        graph.product(curve, arrays["bend.weight"]),
    )
    shape = graph.apply("Exp", graph.clipped(graph.columns(law, [0]), -LOG_SHAPE_BOUND, LOG_SHAPE_BOUND))
    log_scale = graph.clipped(graph.columns(law, [1]), -RISK_BOUND, RISK_BOUND)
    edges = np.asarray(grid) / DAYS_PER_YEAR
    later = graph.apply("Mul", shape, graph.apply("Sub", graph.constant(np.log(edges[1:])), log_scale))
    # log(1 − (lo/hi)^α); of the first interval, where lo = 0, it is 0
    ratio = np.concatenate([[-math.inf], np.log(edges[1:-1] / edges[2:])])
    earlier = graph.apply("Exp", graph.apply("Mul", shape, graph.constant(ratio)))
    share = graph.apply("Log", graph.apply("Sub", graph.constant(1.0), earlier))
    return graph.apply("Sub", graph.sum(later, share), graph.constant(np.log(np.diff(edges))))


def _conditioning(outer: Graph, inside: str, seen: str) -> Any:
    """The loop's body: condition on covariate k if it is observed. `inside` and `seen` are names outside of it."""
    onnx = outer.onnx
    graph, helper, double = Graph(onnx, "loop_"), onnx.helper, onnx.TensorProto.DOUBLE
    column, last = graph.constant([1], np.int64), graph.constant([2], np.int64)

    def of_k(values: str) -> str:  # [n, 1]
        return graph.apply("Unsqueeze", graph.apply("Gather", values, "k", axis=1), column)

    row = graph.apply("Gather", "spread", "k", axis=1)
    gain = graph.apply("Where", of_k(seen), graph.apply("Div", row, of_k(row)), graph.constant(0.0))
    shift = graph.apply("Mul", gain, graph.apply("Sub", of_k(inside), of_k("mean")))
    mean = graph.apply("Add", "mean", shift)
    both = graph.apply("Mul", graph.apply("Unsqueeze", gain, last), graph.apply("Unsqueeze", row, column))
    spread = graph.apply("Sub", "spread", both)
    going = graph.apply("Identity", "going")
    info = helper.make_tensor_value_info
    truth, whole = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
    return helper.make_graph(
        graph.nodes,
        "condition on one covariate",
        [info("k", whole, []), info("going", truth, []), info("mean", double, None), info("spread", double, None)],
        [info(going, truth, []), info(mean, double, None), info(spread, double, None)],
        graph.constants,
    )


def _below(arrays: Arrays, head: str) -> Arrays:
    return {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}
