"""The common frame of model files: same content same bytes, everything else refused before a tensor is built."""

import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from models.container import MAX_BYTES, REQUIRED_CARD, check_card, head_of, pack, read, tensors_of, verified
from models.errors import ArtefactError, ConfigError, MisuseError

KIND = "haemfed/test/1"
HEAD = {"format": KIND, "digest": "00", "card": {"a": 1.5}, "form": [1, 2]}
TENSORS = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones(1)}


def with_header(text: str) -> bytes:
    header = json.dumps({"__metadata__": {"haemfed": text}}).encode()
    return len(header).to_bytes(8, "little") + header


def test_what_was_packed_is_read() -> None:
    data = pack(HEAD, TENSORS)

    assert head_of(data, KIND) == HEAD
    found = tensors_of(data)
    assert set(found) == set(TENSORS)
    assert all(np.array_equal(found[name], TENSORS[name]) for name in TENSORS)
    assert data == pack(dict(reversed(HEAD.items())), dict(reversed(TENSORS.items())))


def test_a_view_is_stored_as_what_it_shows() -> None:
    turned = np.arange(6.0).reshape(2, 3).T

    assert np.array_equal(tensors_of(pack(HEAD, {"a": turned}))["a"], turned)


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", pickle.dumps([1])])
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(ArtefactError, match="not a haemfed model file"):
        head_of(data, KIND)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_head_holds_finite_numbers_only(number: str) -> None:
    text = json.dumps(HEAD).replace("1.5", number)

    with pytest.raises(ArtefactError, match="no haemfed card"):
        head_of(with_header(text), KIND)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "haemfed/test/2"}, "another format; this version reads haemfed/test/1"),
        ({"digest": 7}, "malformed"),
        ({"card": []}, "malformed"),
    ],
)
def test_format_digest_and_card_are_checked(change: dict[str, object], says: str) -> None:
    with pytest.raises(ArtefactError, match=says):
        head_of(pack(HEAD | change, TENSORS), KIND)


def test_a_head_nested_too_deep_is_refused() -> None:
    with pytest.raises(ArtefactError, match="no haemfed card"):
        head_of(with_header("[" * 100_000), KIND)


def test_tensors_are_finite_and_float64() -> None:
    for tensor, says in ((np.zeros(2, np.float32), "float64"), (np.array([1.0, np.nan]), "not finite")):
        with pytest.raises(ArtefactError, match=says):
            tensors_of(save({"a": tensor}, metadata={"haemfed": json.dumps(HEAD)}))
    with pytest.raises(ArtefactError, match="damaged"):
        tensors_of(pack(HEAD, TENSORS)[:-1])


@pytest.mark.parametrize("wanted", [{"a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 2, "c": 1}, {}])
def test_there_are_exactly_the_tensors_that_are_wanted(wanted: dict[str, int]) -> None:
    data = pack(HEAD, TENSORS)

    assert set(tensors_of(data, {"b": 2, "a": 1})) == {"a", "b"}
    with pytest.raises(ArtefactError, match="exactly the float64 tensors"):
        tensors_of(data, wanted)


def test_a_model_has_the_digest_that_its_file_states() -> None:
    class Model:
        digest = "00"

    def impossible(error: Exception) -> Model:
        raise error

    model = Model()
    assert verified(HEAD, lambda: model) is model
    with pytest.raises(ArtefactError, match="edited"):
        verified(HEAD | {"digest": "01"}, Model)
    for error in (MisuseError("two of one name"), ConfigError("two of one name")):
        with pytest.raises(ArtefactError, match="contradicts itself: two of one name"):
            verified(HEAD, partial(impossible, error))


def test_what_no_reader_would_take_is_not_packed() -> None:
    for head in (HEAD | {"card": float("nan")}, HEAD | {"card": {1, 2}}):
        with pytest.raises(MisuseError, match="JSON"):
            pack(head, TENSORS)
    with pytest.raises(MisuseError, match="too large"):
        pack(HEAD | {"card": {"text": "x" * 600_000}}, TENSORS)


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 10)

    data = read(path)
    assert len(data) == MAX_BYTES + 1
    with pytest.raises(ArtefactError, match="larger than"):
        head_of(data, KIND)
    with pytest.raises(ArtefactError, match="cannot read model file nowhere"):
        read(tmp_path / "nowhere")


def test_a_card_must_be_complete() -> None:
    check_card(dict.fromkeys(REQUIRED_CARD))
    with pytest.raises(MisuseError, match="transcript"):
        check_card({key: 0 for key in REQUIRED_CARD if key != "transcript"})
