"""What benchmarks/models/left_out decides. Nothing here measures."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.models.forest import Line, draw
from benchmarks.models.left_out import Effect, band, summary


def test_hospitals_that_agree_are_averaged_by_their_precision() -> None:
    found = summary([Effect(0.2, 0.1), Effect(0.2, 0.2), Effect(0.2, 0.4)])
    assert found.spread == 0
    assert found.mean == pytest.approx(0.2)
    assert found.high - found.low == pytest.approx(2 * 1.959964 / np.sqrt(100 + 25 + 6.25))


def test_the_next_hospital_is_less_certain_than_the_mean() -> None:
    found = summary([Effect(0.0, 0.05), Effect(0.3, 0.05), Effect(0.6, 0.05), Effect(0.1, 0.05)])
    assert found.spread > 0
    assert found.next_low < found.low < found.mean < found.high < found.next_high


@pytest.mark.parametrize(("patients", "expected"), [(20, "20-39"), (39, "20-39"), (40, "40-59"), (399, "200-399")])
def test_sizes_are_told_in_bands(patients: int, expected: str) -> None:
    assert band(patients) == expected
    assert band(400) == band(1500) == "400 or more"


def test_a_forest_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [Line("a", 0.1, 0.0, 0.2), Line("all", 0.1, 0.05, 0.15, (0.0, 0.2))]
    draw(tmp_path / "forest.png", [("left", lines), ("right", lines)], marks=(0.0, 0.1))
    assert (tmp_path / "forest.png").read_bytes().startswith(b"\x89PNG")
