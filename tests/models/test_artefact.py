from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from models.artefact import FORMAT, MAX_BYTES, from_bytes, load, to_bytes
from models.errors import ArtefactError, MisuseError
from models.predict import SurvivalModel
from models.training import initial_weights
from tests.models.support import FEATURES, patients, small
from tests.sweeps import examples

CARD = {
    "profile": "00", "study": "11", "transcript": "22", "metrics": {"concordance": None},
    "intended_use": "research", "limits": ["adults"], "privacy": "ε = 2, δ = 1e-5",
}  # fmt: skip


def model() -> SurvivalModel:
    chosen = small()
    return SurvivalModel.as_trained(FEATURES, chosen.network, chosen.grid, initial_weights(chosen, 4, b"s"))


def test_round_trip_predicts_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(model(), CARD))
    data = patients(20)

    back, card = load(path)

    assert card == CARD
    assert back.digest == model().digest
    assert np.array_equal(back.risk(data.x, data.observed), model().risk(data.x, data.observed))
    times = np.array([100.0, 800.0])
    assert np.array_equal(back.survival(data.x, data.observed, times), model().survival(data.x, data.observed, times))


def test_same_model_same_bytes() -> None:
    assert to_bytes(model(), CARD) == to_bytes(model(), dict(reversed(CARD.items())))


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
    good = to_bytes(model(), CARD)
    position = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[position] = data.draw(st.integers(0, 255))
    try:
        back, _ = from_bytes(bytes(bad))
    except ArtefactError:
        return
    assert back.digest == model().digest  # only the card's text or padding changed


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
