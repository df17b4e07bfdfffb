from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save

from models.artefact import FORMAT, MAX_BYTES, from_bytes, load, to_bytes
from models.completion import Completion
from models.errors import ArtefactError, MisuseError
from models.gaussian import Covariate, JointNormal
from models.predict import SurvivalModel
from models.training import initial_weights
from tests.models.support import FEATURES, patients, small
from tests.sweeps import examples

CARD = {
    "profile": "00", "study": "11", "transcript": "22", "metrics": {"concordance": None},
    "intended_use": "research", "limits": ["adults"], "privacy": "ε = 2, δ = 1e-5",
}  # fmt: skip


COVARIATES = (Covariate("age", 0, -2.5, 2.0), Covariate("sex", 1, -1.0, 1.0, two_valued=True))
FILLING = Completion(JointNormal(COVARIATES, np.array([0.1, -0.2]), np.array([[0.9, 0.3], [0.3, 0.8]])), ("sex",))


def model(filling: Completion | None = None) -> SurvivalModel:
    chosen = small()
    weights = initial_weights(chosen, 4, b"s")
    return SurvivalModel.as_trained(FEATURES, chosen.network, chosen.grid, weights, filling)


@pytest.mark.parametrize("filling", [None, FILLING], ids=["masks", "imputes"])
def test_round_trip_predicts_the_same_bits(tmp_path: Path, filling: Completion | None) -> None:
    path, trained = tmp_path / "model.safetensors", steep(filling)
    path.write_bytes(to_bytes(trained, CARD))
    data = patients(20, missing=0.4)

    back, card = load(path)

    assert card == CARD
    assert back.digest == trained.digest
    assert (back.imputation is None) is (filling is None)
    assert np.array_equal(back.risk(data.x, data.observed), trained.risk(data.x, data.observed))
    times = np.array([100.0, 800.0])
    assert np.array_equal(back.survival(data.x, data.observed, times), trained.survival(data.x, data.observed, times))


def steep(filling: Completion | None) -> SurvivalModel:
    """One that ranks patients, so that what fills a gap is seen."""
    plain = model()
    params = np.random.default_rng(1).normal(size=len(plain.params) // 8).astype("<f8").tobytes()
    return SurvivalModel.as_trained(FEATURES, plain.network, plain.grid, params, filling)


def test_what_fills_a_gap_is_in_the_file() -> None:
    data, times = patients(20, missing=0.4), np.array([800.0])
    plain, filling = (from_bytes(to_bytes(steep(each), CARD))[0] for each in (None, FILLING))

    assert not np.array_equal(
        plain.survival(data.x, data.observed, times), filling.survival(data.x, data.observed, times)
    )


def test_same_model_same_bytes() -> None:
    for filling in (None, FILLING):
        assert to_bytes(model(filling), CARD) == to_bytes(model(filling), dict(reversed(CARD.items())))


def test_files_of_earlier_versions_are_read_and_written_to_the_same_bytes() -> None:
    known = json.loads((Path(__file__).parents[1] / "vectors/models/survival-model-2.json").read_text())

    assert known["format"] == FORMAT
    for case in known["cases"]:
        data = bytes.fromhex(case["file"])
        back, card = from_bytes(data)
        assert back.digest == case["digest"], case["name"]
        assert np.array_equal(np.frombuffer(back.params), [1.0, 2.0, 3.0, 4.0])
        assert to_bytes(back, card) == data, case["name"]


def test_an_imputation_that_contradicts_itself_is_refused() -> None:
    good = to_bytes(model(FILLING), CARD)
    size = int.from_bytes(good[:8], "little")
    head = json.loads(json.loads(good[8 : 8 + size])["__metadata__"]["haemfed"])
    tensors = load_tensors(good)
    stated = head["model"]["imputation"]
    first, second = stated["covariates"]

    def file(stated: object, **change: np.ndarray | None) -> bytes:
        kept = {name: each for name, each in (tensors | change).items() if each is not None}
        shape = head["model"] | {"imputation": stated}
        return save(kept, metadata={"haemfed": json.dumps(head | {"model": shape})})

    mean, covariance = "impute.mean", "impute.covariance"
    assert from_bytes(file(stated))[0].digest == model(FILLING).digest
    for data, word in (
        (file(stated, **{mean: None}), "exactly"),
        (file(stated, **{covariance: None}), "exactly"),
        (file(None), "exactly"),
        (file(None, **{mean: None, covariance: None}), "edited"),
        (file(stated, **{mean: np.eye(2)}), "exactly"),
        (file(stated, **{covariance: np.eye(2, dtype=np.float32)}), "exactly"),
        (file(stated, **{mean: np.zeros(3)}), "contradicts itself"),
        (file(stated, **{mean: np.array([0.1, np.nan])}), "not finite"),
        (file(stated, **{mean: np.array([0.1, 0.2])}), "edited"),
        (file(stated, **{covariance: np.ones((2, 2))}), "contradicts itself"),
        (file(stated, **{covariance: np.array([[1.0, 0.5], [0.4, 1.0]])}), "contradicts itself"),
        (file(stated, **{covariance: np.full((2, 2), 1e308)}), "contradicts itself"),
        (file(3), "contradicts itself"),
        (file(stated | {"kept": []}), "edited"),
        (file(stated | {"kept": ["wbc"]}), "contradicts itself"),
        (file(stated | {"covariates": [first]}), "contradicts itself"),
        (file(stated | {"covariates": [first, first]}), "contradicts itself"),
        (file(stated | {"covariates": [first, second | {"column": 2}]}), "contradicts itself"),
        (file(stated | {"covariates": [first, second | {"column": 10**9}]}), "contradicts itself"),
        (file(stated | {"covariates": [first, second | {"two_valued": False}]}), "edited"),
        (file(stated | {"covariates": [first | {"high": 1.5}, second]}), "edited"),
    ):
        with pytest.raises(ArtefactError, match=word):
            from_bytes(data)


def test_an_edited_weight_is_refused() -> None:
    data = bytearray(to_bytes(model(), CARD))
    data[-8 * 10] ^= 1

    with pytest.raises(ArtefactError, match="edited"):
        from_bytes(bytes(data))


def test_pickle_is_not_opened() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (os._exit, (3,))

    with pytest.raises(ArtefactError, match="not a haemfed model file"):
        from_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}"])
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(ArtefactError, match="not a haemfed model file"):
        from_bytes(data)


@given(st.data())
@settings(max_examples=examples(150), deadline=None)
def test_any_damage_is_an_artefact_error_or_harmless(data: st.DataObject) -> None:
    trained = model(data.draw(st.sampled_from([None, FILLING])))
    good = to_bytes(trained, CARD)
    position = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[position] = data.draw(st.integers(0, 255))
    try:
        back, _ = from_bytes(bytes(bad))
    except ArtefactError:
        return
    assert back.digest == trained.digest  # only the card's text or padding changed


def test_truncation_is_refused() -> None:
    good = to_bytes(model(), CARD)
    for cut in range(0, len(good), 97):
        with pytest.raises(ArtefactError):
            from_bytes(good[:cut])


def test_other_formats_and_tensors_are_refused() -> None:
    shape = {
        "features": list(FEATURES), "learner": "deepsurv", "network": {"hidden": [3]}, "grid": list(small().grid),
    }  # fmt: skip

    def file(tensors: dict[str, np.ndarray], **change: object) -> bytes:
        chosen = small()
        head = {
            "format": FORMAT, "digest": model().digest, "card": {},
            "model": shape | {"network": {"hidden": list(chosen.hidden)}},
        }  # fmt: skip
        return save(tensors, metadata={"haemfed": json.dumps(head | change)})

    good = {"params": np.frombuffer(model().params), "hazard": np.array(model().hazard)}

    assert from_bytes(file(good))[0].digest == model().digest
    for data, word in (
        (file(good, format="haemfed/survival-model/1"), "another format"),
        (file(good, digest="00"), "edited"),
        (file(good, model=shape | {"network": {"hidden": [3, 3]}}), "contradicts itself"),
        (file(good, model=shape | {"network": {"hidden": [10**9]}}), "contradicts itself"),
        (file(good, model=shape | {"network": {"hidden": [3], "more": 1}}), "contradicts itself"),
        (file(good, model=shape | {"learner": "cox"}), "contradicts itself"),
        (file(good, model=shape | {"learner": "forest"}), "contradicts itself"),
        (file(good, model=shape | {"network": [3]}), "malformed"),
        (file(good, model=shape | {"grid": [0, 5, 1]}), "malformed"),
        (file(good, model=shape | {"grid": [0, 10**400]}), "malformed"),
        (file(good, model=[]), "no haemfed card"),
        (file(good | {"extra": np.zeros(1)}), "exactly"),
        (file({"params": good["params"].astype(np.float32), "hazard": good["hazard"]}), "exactly"),
        (file(good | {"hazard": np.full(6, np.nan)}), "not finite"),
        (file(good | {"hazard": np.full(6, -1.0)}), "contradicts itself"),
        (file(good | {"hazard": np.ones(5)}), "contradicts itself"),
    ):
        with pytest.raises(ArtefactError, match=word):
            from_bytes(data)


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 10)

    with pytest.raises(ArtefactError, match="larger than"):
        load(path)
    with pytest.raises(ArtefactError, match="cannot read model file nowhere"):
        load(tmp_path / "nowhere")


def test_a_card_must_be_complete_json() -> None:
    with pytest.raises(MisuseError, match="transcript"):
        to_bytes(model(), {k: v for k, v in CARD.items() if k != "transcript"})
    with pytest.raises(MisuseError, match="JSON"):
        to_bytes(model(), CARD | {"metrics": float("nan")})
    with pytest.raises(MisuseError, match="JSON"):
        to_bytes(model(), CARD | {"metrics": {1, 2}})


def test_other_names_or_another_grid_are_an_edited_file() -> None:
    original = to_bytes(model(), CARD)
    for old, new in ((b'\\"age\\"', b'\\"agf\\"'), (b"1826.25", b"1826.75")):
        assert old in original
        with pytest.raises(ArtefactError, match="edited"):
            from_bytes(original.replace(old, new, 1))
