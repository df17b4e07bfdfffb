"""The generator's file: what is read draws the same patients; nothing else is opened."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.central import UnprotectedSum
from models.container import head_of, pack, tensors_of
from models.errors import ArtefactError, MisuseError
from models.generators.bayesnet import TABLES, BayesianNetwork, train
from models.generators.file import FORMAT, from_bytes, load, to_bytes
from tests.models.generators.cohorts import DICTIONARY, cohort
from tests.sweeps import examples

CARD = {
    "profile": "00", "study": "11", "transcript": "22", "metrics": {}, "intended_use": "research",
    "limits": ["adults"], "privacy": {"epsilon": 1.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> BayesianNetwork:
    multipliers = {"histogram": 1.0, "marginals": 1.0, "sum": 1.0}
    return train(TABLES, DICTIONARY, multipliers, 4096, b"", cohort(300), UnprotectedSum())


@pytest.fixture(scope="module")
def good(network: BayesianNetwork) -> bytes:
    return to_bytes(network, CARD)


def rewritten(good: bytes, **change: Any) -> bytes:
    """The same file, honestly packed, with another description of the generator."""
    head = head_of(good, FORMAT)
    return pack(head | {"generator": head["generator"] | change}, tensors_of(good))


def test_what_is_read_draws_the_same_patients(network: BayesianNetwork, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(good)

    back, card = load(path)

    assert card == CARD
    assert back.digest == network.digest
    assert back.dictionary == network.dictionary
    one, other = (each.draw(50, np.random.default_rng(3)) for each in (network, back))
    assert np.array_equal(one.x, other.x)
    assert np.array_equal(one.duration, other.duration)


def test_same_generator_same_bytes(network: BayesianNetwork, good: bytes) -> None:
    assert to_bytes(network, dict(reversed(CARD.items()))) == good


def test_an_edited_number_is_refused(good: bytes) -> None:
    data = bytearray(good)
    data[-1 - 8 * 3] ^= 1

    with pytest.raises(ArtefactError, match=r"edited|contradicts itself|not finite"):
        from_bytes(bytes(data))


def test_an_edited_dictionary_is_refused(good: bytes) -> None:
    columns = json.loads(json.dumps(head_of(good, FORMAT)["generator"]["dictionary"]))
    columns["columns"][0]["low"] -= 0.5

    with pytest.raises(ArtefactError, match="edited"):
        from_bytes(rewritten(good, dictionary=columns))


def _without(columns: dict[str, Any]) -> None:
    del columns["columns"][0]["edges"]


def _more(columns: dict[str, Any]) -> None:
    columns["columns"][0]["code"] = "import os"


def _twice(columns: dict[str, Any]) -> None:
    columns["columns"][1]["name"] = columns["columns"][0]["name"]


def _kind(columns: dict[str, Any]) -> None:
    columns["columns"][0]["kind"] = "text"


def _true(columns: dict[str, Any]) -> None:
    columns["columns"][0]["high"] = True


def _huge(columns: dict[str, Any]) -> None:
    columns["columns"][0]["high"] = 10**400


def _falling(columns: dict[str, Any]) -> None:
    columns["columns"][0]["edges"].reverse()


def _grid(columns: dict[str, Any]) -> None:
    columns["grid"] = list(range(1001))


def _many(columns: dict[str, Any]) -> None:
    columns["columns"] = [
        column | {"name": f"{column['name']}{k}"} for k in range(400) for column in columns["columns"]
    ]


def _none(columns: dict[str, Any]) -> None:
    columns["columns"] = []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without, "a column of its dictionary is malformed"),
        (_more, "a column of its dictionary is malformed"),
        (_kind, "a column of its dictionary is malformed"),
        (_true, "a column of its dictionary is malformed"),
        (_huge, "a column of its dictionary is malformed"),
        (_twice, "each named once"),
        (_falling, "increasing numbers"),
        (_grid, "its dictionary is malformed"),
        (_many, "its dictionary is malformed"),
        (_none, "its dictionary is malformed"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_malformed_dictionary_is_refused(change: Any, says: str, good: bytes) -> None:
    columns = json.loads(json.dumps(head_of(good, FORMAT)["generator"]["dictionary"]))
    change(columns)

    with pytest.raises(ArtefactError, match=f"contradicts itself: .*{says}"):
        from_bytes(rewritten(good, dictionary=columns))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learner": "os.system"}, "names no learner of this version: bayesnet"),
        ({"learner": ["bayesnet"]}, "malformed"),
        ({"structure": []}, "malformed"),
        ({"structure": {"order": [0], "parents": []}}, "contradicts itself"),
        ({"code": 1}, "malformed"),
    ],
)
def test_a_malformed_description_is_refused(change: dict[str, object], says: str, good: bytes) -> None:
    with pytest.raises(ArtefactError, match=says):
        from_bytes(rewritten(good, **change))


def test_a_learner_that_is_not_installed_says_so(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "models.generators.ctgan", None)
    monkeypatch.setitem(sys.modules, "models.generators.ctgan.model", None)

    with pytest.raises(ArtefactError, match=r"cannot draw from a model of ctgan.*install"):
        from_bytes(rewritten(good, learner="ctgan"))


def test_only_listed_learners_with_complete_cards_are_stored(network: BayesianNetwork) -> None:
    with pytest.raises(MisuseError, match="transcript"):
        to_bytes(network, {key: value for key, value in CARD.items() if key != "transcript"})

    class Other(BayesianNetwork):
        learner = "other"

    other = Other(network.frequencies, network.order, network.parents, network.tables)
    with pytest.raises(MisuseError, match="'other'"):
        to_bytes(other, CARD)


def test_tensors_of_another_learner_are_refused(good: bytes) -> None:
    head, tensors = head_of(good, FORMAT), tensors_of(good)

    for wrong in ({"patients": tensors["patients"]}, tensors | {"more": np.ones(1)}, tensors | {"tables": np.ones(3)}):
        with pytest.raises(ArtefactError, match="contradicts itself"):
            from_bytes(pack(head, wrong))


def test_reading_and_drawing_load_no_torch(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(good)
    program = (
        "import sys, pathlib, numpy\n"
        "from models.generators.file import load\n"
        f"load(pathlib.Path({str(path)!r}))[0].draw(5, numpy.random.default_rng(1))\n"
        "sys.exit('torch' in sys.modules)\n"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@given(data=st.data())
@settings(max_examples=examples(150), deadline=None)
def test_any_damage_is_an_artefact_error_or_harmless(
    data: st.DataObject, network: BayesianNetwork, good: bytes
) -> None:
    bad = bytearray(good)
    # Every second time in the header, where a change says something else instead of another number.
    end = data.draw(st.sampled_from([len(good), int.from_bytes(good[:8], "little")]))
    bad[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    try:
        back, _ = from_bytes(bytes(bad))
    except ArtefactError:
        return
    assert back.digest == network.digest  # only the card's text or padding changed


def test_truncation_is_refused(good: bytes) -> None:
    for cut in range(0, len(good), 997):
        with pytest.raises(ArtefactError):
            from_bytes(good[:cut])
