"""Forest plots: one line for each hospital, with its interval, and one for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Line", "draw"]

_INK: Final = "#1f3b57"
_PALE: Final = "#8fa7bd"


@dataclass(frozen=True)
class Line:
    """One line of a forest plot.

    Args:
        name: on the left.
        value, low, high: estimate and its 95 % interval.
        ahead: a wider interval behind it, in which the next one is to be expected; None without.
    """

    name: str
    value: float
    low: float
    high: float
    ahead: tuple[float, float] | None = None


def draw(path: Path, panels: Sequence[tuple[str, Sequence[Line]]], marks: Sequence[float]) -> None:
    """Write panels side by side as a PNG.

    Args:
        path: of the picture.
        panels: (title, lines from top to bottom); all have the same names.
        marks: where each panel has its dashed line.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [line.name for line in panels[0][1]]
    figure, axes = plt.subplots(
        1, len(panels), sharey=True, figsize=(4.0 * len(panels) + 2, 0.3 * len(names) + 1.2), layout="constrained"
    )
    for axis, (title, lines), mark in zip(axes, panels, marks, strict=True):
        for y, line in enumerate(lines):
            if line.ahead is not None:
                axis.plot(line.ahead, (y, y), color=_PALE, linewidth=5, solid_capstyle="butt")
            axis.plot((line.low, line.high), (y, y), color=_INK, linewidth=1.4)
            axis.plot(line.value, y, "D" if line.ahead else "s", color=_INK, markersize=5)
        axis.axvline(mark, color="0.5", linestyle="--", linewidth=0.8)
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
