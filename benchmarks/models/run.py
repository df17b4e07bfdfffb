"""Measure the models: one table on the terminal, ``benchmarks/results/models.json`` for everybody else.

    make bench-models        (or: python -m benchmarks.models.run [--quick] [--only centres,mm] [--data DIR])

See `benchmarks.sections` for what the flags do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks import sections
from benchmarks.report import Row
from benchmarks.sections import Asked, Benchmark, NotThere, Section


def _centres(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import centres

    return centres.rows(asked)


def _aml(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import diseases

    return diseases.aml(asked)


def _cmml(_: Asked) -> Iterable[Row]:
    raise NotThere("CPSS needs the scores of models.prognostic")


def _mm(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import diseases

    return diseases.mm(asked)


def _facts() -> dict[str, Any]:
    from benchmarks.models import settings

    return {
        "settings": {
            "deepsurv": vars(settings.DEEPSURV),
            "private": vars(settings.PRIVATE),
            "found": settings.FOUND,
        },
        "intervals": "corrected resampled t (Nadeau & Bengio 2003) over folds and seeds",
    }


BENCHMARK = Benchmark(
    "models",
    "Models",
    {
        "centres": Section(
            ("6.1a", "6.1c", "6.1d", "6.1e", "6.1f", "6.2", "6.3", "6.5", "6.6", "6.7", "6.8", "6.9", "6.10", "6.arms"),
            _centres,
        ),
        "aml": Section(("6.11",), _aml),
        "cmml": Section(("6.12",), _cmml),
        "mm": Section(("6.13",), _mm),
    },
    _facts,
)


if __name__ == "__main__":
    sections.main(BENCHMARK, __doc__)
