"""Attempts to break the claims: figures 4.10 and 4.11, by the adversary and the planted bugs of tests/dp."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from benchmarks.report import Row
from benchmarks.sections import NotThere

__all__ = ["mutants", "pairs"]

SEED: Final = 20260204
PAIRS: Final = 100_000


def pairs(*, quick: bool) -> list[Row]:
    """Count adversarial pairs of neighbours whose releases differ by more than the declared sensitivity."""
    run = _function("tests.dp.adversary", "run")
    count = 1000 if quick else PAIRS
    report = run(pairs=count, seed=SEED)
    worst = max(report.worst, key=report.worst.__getitem__)
    return [
        Row(
            "4.10",
            f"sensitivity violations, {report.pairs:,} adversarial pairs",
            report.violations,
            "pairs",
            0,
            "lower",
        ),
        Row("4.10", f"largest movement against its bound ({worst})", report.worst[worst], "times"),
    ]


def mutants() -> list[Row]:
    """Count planted bugs that the tests of differential privacy catch."""
    caught, planted = _function("tests.dp.mutants", "run")()
    return [Row("4.11", f"planted bugs caught, of {planted}", caught, "bugs", max(25, planted))]


def _function(module: str, name: str) -> Callable[..., Any]:
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise NotThere(f"{module.replace('.', '/')}.py is not in this checkout") from None
        raise
    if found is None:
        raise NotThere(f"{module} has no function {name!r}")
    return found
