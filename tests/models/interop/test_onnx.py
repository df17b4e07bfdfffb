"""ONNX: the same numbers by another program, what stands in the file, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

from models.errors import ConfigError
from models.interop import onnx as interop
from models.interop import trial
from models.interop.facts import facts
from models.networks import Hazards, LatentWeibull, parameter_count
from models.predict import SurvivalModel
from tests.models.interop.invented import FEATURES, GRID, NETWORKS, OPEN, card, extreme, model, patients


@pytest.mark.parametrize("imputes", [False, True], ids=["masks", "imputes"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_predicts_the_same(kind: str, imputes: bool) -> None:
    made = model(kind, imputes=imputes)
    exported = interop.to_onnx(made, card())

    assert exported.difference < 1e-12
    for n in (1, 50):
        x, observed = patients(n)
        found = interop.run(exported.data, x, observed)
        for name, wanted in trial.outputs(made, x, observed).items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-12, atol=1e-13, err_msg=name)
    assert np.ptp(found["risk"]) > 0.5, "a model that ranks nobody proves nothing"


def test_what_is_filled_and_what_was_recalibrated_is_in_the_graph() -> None:
    x, observed = patients(50)
    plain, filling = model("deepsurv"), model("deepsurv", imputes=True)
    trained = SurvivalModel.as_trained(FEATURES, plain.network, GRID, plain.params)
    one, two, three = (
        interop.run(interop.to_onnx(each, card()).data, x, observed) for each in (plain, filling, trained)
    )

    assert np.abs(one["risk"] - two["risk"]).max() > 0.1
    assert np.abs(one["hazards"] / three["hazards"] - 1).max() > 0.1
    np.testing.assert_array_equal(one["risk"], three["risk"])


@pytest.mark.parametrize("grid", [(0.0, 1826.25), (0.0, 1.0, 1.001, 3000.0)], ids=["one interval", "narrow"])
@pytest.mark.parametrize("network", [Hazards((3,)), LatentWeibull((3,), 2, ())], ids=["deepsurv", "savae"])
def test_other_grids(network: Hazards | LatentWeibull, grid: tuple[float, ...]) -> None:
    count = parameter_count(network.layout(2, len(grid) - 1))
    params = np.random.default_rng(2).normal(size=count).astype("<f8").tobytes()

    assert interop.to_onnx(SurvivalModel.as_trained(("a", "b"), network, grid, params), card()).difference < 1e-9


@pytest.mark.parametrize("kind", NETWORKS)
def test_bounds_and_intervals_without_deaths(kind: str) -> None:
    made = extreme(kind)
    x, observed = patients(200)
    reach = np.abs(made.risk(x, observed)).max()

    assert interop.to_onnx(made, card()).difference < 1e-9
    assert interop.to_onnx(made.with_hazard(np.zeros(made.intervals)), card()).difference < 1e-9
    assert reach == pytest.approx(8.0) if trial.proportional(made) else reach > 8.0


def test_a_value_that_is_no_finite_number_gives_no_prediction() -> None:
    x, observed = np.zeros((4, len(FEATURES))), np.ones((4, len(FEATURES)), dtype=np.bool_)
    x[0, 0], x[1, 1], x[2, 0] = np.nan, np.inf, np.nan
    observed[2, 0] = False

    found = interop.run(interop.to_onnx(model("cox"), card()).data, x, observed)

    for values in found.values():
        whole = values.reshape(4, -1)
        assert np.isnan(whole[:2]).all()
        assert np.isfinite(whole[2:]).all()


@pytest.mark.parametrize(("privacy", "says"), [(OPEN, OPEN["protection"]), ({}, "not differentially private")])
def test_a_model_without_protection_says_so(privacy: dict[str, Any], says: str) -> None:
    read = onnx.load_from_string(interop.to_onnx(model("cox"), card(privacy=privacy)).data)

    assert read.doc_string.startswith(f"{says}.")
    assert {each.key: each.value for each in read.metadata_props}["haemfed.protection"] == says


def test_the_facts_are_in_the_file() -> None:
    made = model("savae", imputes=True)
    read = onnx.load_from_string(interop.to_onnx(made, card()).data)
    stated = {each.key: each.value for each in read.metadata_props}

    assert stated == facts(made, card())
    assert stated["haemfed.model_digest"] == made.digest
    assert json.loads(stated["haemfed.features"]) == list(FEATURES)
    assert json.loads(stated["haemfed.grid_days"]) == list(GRID)
    assert json.loads(stated["haemfed.imputes"]) == ["platelets", "age", "blasts"]
    assert json.loads(stated["haemfed.card"]) == card()
    assert stated["haemfed.protection"].startswith("differentially private: ε = 2 ")
    assert "haemfed.scaling" not in stated, "nobody knows the profile"
    assert [each.version for each in read.opset_import] == [interop.OPSET]


def test_the_same_model_gives_the_same_bytes() -> None:
    first, again = (interop.to_onnx(model("fusion", imputes=True), card()).data for _ in range(2))

    assert first == again


def test_a_graph_that_predicts_something_else_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    build = interop._build
    monkeypatch.setattr(interop, "_build", lambda _, stated: build(model("deepsurv", seed=4), stated))

    with pytest.raises(ConfigError, match="would give other hazards"):
        interop.to_onnx(model("deepsurv"), card())


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, absent, None)

    with pytest.raises(ConfigError, match=r"pip install 'haemfed\[interop\]'"):
        interop.to_onnx(model("cox"), card())


def test_an_unknown_network_is_refused() -> None:
    @dataclass(frozen=True)
    class Other:
        inside: Hazards

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inside, name)

    plain = model("cox")
    other: Any = Other(Hazards(()))

    with pytest.raises(ConfigError, match="no ONNX graph is known"):
        interop.to_onnx(SurvivalModel(FEATURES, other, GRID, plain.params, plain.hazard), card())
