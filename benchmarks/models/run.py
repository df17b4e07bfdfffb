"""Measure the models: one table on the terminal, ``benchmarks/results/models.json`` for everybody else.

    make bench-models        (or: python -m benchmarks.models.run [--quick] [--only centres,mm] [--data DIR])

See `benchmarks.sections` for what the flags do.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from benchmarks import sections
from benchmarks.report import Row
from benchmarks.sections import Asked, Benchmark, Section


def _centres(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import centres

    return centres.rows(asked)


def _left_out(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import left_out

    return left_out.rows(asked)


def _aml(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import diseases

    return diseases.aml(asked)


def _cmml(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import diseases

    return diseases.cmml(asked)


def _mm(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import diseases

    return diseases.mm(asked)


def _savae(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import savae

    return savae.rows(asked)


def _drugs(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import drugs

    return drugs.rows(asked)


def _embeddings(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import embeddings

    return embeddings.rows(asked)


def _nine(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import nine

    return nine.rows(asked)


def _generator(title: str, asked: Asked) -> Iterable[Row]:
    from benchmarks.models import synthetic

    return synthetic.rows(title, asked)


def _bayesnet(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import synthetic

    return synthetic.tvd_rows(asked)


def _gap(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import gap

    return gap.rows(asked)


def _wall(asked: Asked) -> Iterable[Row]:
    from benchmarks.models import wall

    return wall.rows(asked)


def _facts() -> dict[str, Any]:
    from benchmarks.models import settings

    return {
        "settings": {
            "deepsurv": settings.of_disease("MDS").to_json(),
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
        "left-out": Section(("6.21", "6.22"), _left_out),
        "savae": Section(("6.1b", "6.4"), _savae),
        "aml": Section(("6.11",), _aml),
        "drugs": Section(("6.11b",), _drugs),
        "cmml": Section(("6.12",), _cmml),
        "mm": Section(("6.13",), _mm),
        "embeddings": Section(("6.14a", "6.14b", "6.14c"), _embeddings),
        "savae9": Section(("6.15",), _nine),
        "generators": Section(("6.16a", "6.17a", "6.17b"), partial(_generator, "Bayesian network")),
        "vaebgm": Section(("6.16b", "6.17c", "6.17d"), partial(_generator, "VAE-BGM")),
        "ctgan": Section(("6.16c", "6.17e", "6.17f"), partial(_generator, "CTGAN")),
        "bayesnet": Section(("6.18",), _bayesnet),
        "calibration": Section(("6.19",), _gap),
        "wall": Section(("6.20",), _wall, alone=True),
    },
    _facts,
)


if __name__ == "__main__":
    sections.main(BENCHMARK, __doc__)
