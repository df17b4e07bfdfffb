from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models import portable
from models.presets import preset
from models.training import initial_weights


@given(st.floats(-30, 30))
def test_exp_is_exp(x: float) -> None:
    ours = float(portable.exp(np.array([x]))[0])

    assert abs(ours - np.exp(x)) <= 1e-13 * np.exp(x)


def test_uniforms_are_sha256_in_counter_mode() -> None:
    head = hashlib.sha256(b"haemfed/initial-weights/v1" + (3).to_bytes(8, "little") + b"abc").digest()
    second = hashlib.sha256(head + (1).to_bytes(8, "little")).digest()

    drawn = portable.uniforms(b"abc", 6)

    assert drawn[4] == (int.from_bytes(second[:8], "little") >> 11) / 2**53
    assert np.array_equal(drawn[:3], portable.uniforms(b"abc", 3))


def test_uniforms_look_uniform() -> None:
    drawn = portable.uniforms(b"", 20_000)

    assert 0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01
    assert abs(drawn.var() - 1 / 12) < 0.002


def test_initial_weights_are_frozen() -> None:
    """These bytes are in studies: a change of algorithm needs a new label and a new name."""
    weights = initial_weights(preset("aml-small"), 4, b"a public seed")

    assert hashlib.sha256(weights).hexdigest() == FROZEN
    assert weights != initial_weights(preset("aml-small"), 4, b"another seed")


FROZEN = "274ef0d97184777efdfb874c68dc8290f7bc33d9cda841084ddff880ac46da51"
