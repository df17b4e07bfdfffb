"""Public constants that every training by gradient descent has, and their ranges."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["UPDATES", "Descent", "out_of_range", "too_few_uploads"]

UPDATES: Final = ("sgd-momentum", "adam")


class Descent(Protocol):
    """Public constants of a training by gradient descent; see `models.presets.Preset` for each."""

    @property
    def steps(self) -> int:
        """T, completed sums that training wants."""
        ...

    @property
    def uploads(self) -> int:
        """U ≥ T, uploads that a site may make."""
        ...

    @property
    def clip(self) -> float:
        """C, L2 bound of one patient's gradient."""
        ...

    @property
    def update(self) -> str:
        """Rule of the public update."""
        ...

    @property
    def learning_rate(self) -> float:
        """Its step size."""
        ...

    @property
    def momentum(self) -> float:
        """Of "sgd-momentum"."""
        ...

    @property
    def averaging(self) -> float:
        """η of the polynomial-decay average."""
        ...

    @property
    def normaliser(self) -> float:
        """Public constant that divides the noisy sum."""
        ...


def out_of_range(descent: Descent, most: int) -> dict[str, bool]:
    """What can be wrong with the constants, and whether it is.

    Args:
        descent: the constants, each finite.
        most: steps that are allowed.
    """
    return {
        **too_few_uploads(descent.steps, descent.uploads, most),
        f"update must be one of {', '.join(UPDATES)}": descent.update not in UPDATES,
        "clip, learning_rate and normaliser must be positive": min(
            descent.clip, descent.learning_rate, descent.normaliser
        )
        <= 0,
        "momentum must be in [0, 1) and averaging at least 0": not 0 <= descent.momentum < 1 or descent.averaging < 0,
    }


def too_few_uploads(steps: int, uploads: int, most: int) -> dict[str, bool]:
    """Whether steps are not 1 … `most`, or uploads fewer than 1.1 times as many: one in eleven may be lost."""
    problem = f"steps must be 1 … {most} and uploads at least 1.1 times as many"
    return {problem: not 1 <= steps <= most or 10 * uploads < 11 * steps}
