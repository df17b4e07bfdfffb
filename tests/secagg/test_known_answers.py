"""Standards' own answers, transcribed by script; :mod:`tests.secagg.transcribe` says from where."""

import re
from pathlib import Path
from typing import Any

import pytest

from secagg import keys, masks
from secagg.errors import BadKey
from secagg.keys import Ephemeral
from tests.secagg import primitives, transcribe
from tests.secagg.vectors import cases, load


@pytest.mark.parametrize("name", transcribe.SOURCES)
def test_every_answer_names_where_it_comes_from(name: str) -> None:
    content = load(name)
    assert list(content)[:6] == ["source", "package", "version", "licence", "file", "sha256"]
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8")
    assert f"cryptography=={content['version']}" in pinned, "transcribe again from the version that is installed"
    assert content["cases"]


def test_response_files_are_read_group_by_group() -> None:
    text = "# about\n\n[PTlen = 16]\nCount = 0\nKey = 0A\nsalt =\n\nCount = 1\nKey  = 0b\n"
    assert list(transcribe.blocks(text)) == [
        {"ptlen": "16", "count": "0", "key": "0A", "salt": ""},
        {"count": "1", "key": "0b"},
    ]


@pytest.mark.parametrize("case", cases("fips203_mlkem768.json"))
def test_mlkem(case: dict[str, Any]) -> None:
    ephemeral = Ephemeral(bytes(32), case["seed"])
    assert ephemeral.public()[1] == case["encapsulation_key"]
    assert ephemeral.decapsulate(case["ciphertext"], "a peer") == case["shared_secret"]
    # Implicit rejection: a ciphertext that was not made for this key yields a secret of its own, in silence.
    assert ephemeral.decapsulate(case["foreign_ciphertext"], "a peer") == case["rejection_secret"]
    secret, ciphertext = keys.encapsulate(case["encapsulation_key"], "a peer")
    assert ephemeral.decapsulate(ciphertext, "a peer") == secret


@pytest.mark.parametrize("case", cases("fips203_mlkem768.json", "encapsulation_keys"), ids=lambda case: case["why"])
def test_mlkem_keys_with_a_coefficient_beyond_the_modulus_are_refused(case: dict[str, Any]) -> None:
    if case["valid"]:
        assert len(keys.encapsulate(case["encapsulation_key"], "a peer")[1]) == keys.CIPHERTEXT_SIZE
        return
    with pytest.raises(BadKey, match="a peer"):
        keys.encapsulate(case["encapsulation_key"], "a peer")


@pytest.mark.parametrize("case", [*cases("aes-256-ctr.json"), *cases("rfc3686-aes-256-ctr.json")])
def test_counter_mode(case: dict[str, Any]) -> None:
    key, text, first = case["key"], case["plaintext"], case["counter"]
    assert masks._counter_mode(key, first).update(text) == case["ciphertext"]
    assert primitives.counter_mode(key, first, text) == case["ciphertext"]


@pytest.mark.parametrize("case", cases("aes-256-gcm.json"))
def test_gcm_without_its_tag_is_the_counter_mode_of_a_stream(case: dict[str, Any]) -> None:
    key, text, first = case["key"], case["plaintext"], case["nonce"] + (2).to_bytes(4, "big")
    assert masks._counter_mode(key, first).update(text) == case["ciphertext"]
    assert primitives.counter_mode(key, first, text) == case["ciphertext"]


def test_no_vector_is_left_over() -> None:
    files = [Path(__file__), Path(__file__).parent / "test_keys.py"]
    used = {name for file in files for name in re.findall(r"[a-z0-9_-]+\.json", file.read_text(encoding="utf-8"))}
    assert set(transcribe.SOURCES) <= used
