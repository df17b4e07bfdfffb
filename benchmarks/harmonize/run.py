"""Measure harmonisation: one table on the terminal, ``benchmarks/results/harmonize.json`` for everybody else.

    make bench-harmonize        (or: python -m benchmarks.harmonize.run [--quick] [--only fhir,fuzz] [--data DIR])

Takes about five minutes on one core. See `benchmarks.sections` for what the flags do.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import sections
from benchmarks.report import Row
from benchmarks.sections import Asked, Benchmark, Section


def _fhir(asked: Asked) -> Iterable[Row]:
    from benchmarks.harmonize import fhir

    return fhir.rows(asked)


def _cohort(asked: Asked) -> Iterable[Row]:
    from benchmarks.harmonize import cohort

    return cohort.rows(asked)


def _examples(asked: Asked) -> Iterable[Row]:
    from benchmarks.harmonize import examples

    return examples.rows(asked)


def _karyotype(asked: Asked) -> Iterable[Row]:
    from benchmarks.harmonize import karyotype

    return karyotype.rows(asked.folder)


def _fuzz(asked: Asked) -> Iterable[Row]:
    from benchmarks.harmonize import fuzz

    return fuzz.rows(asked)


def _imputation(asked: Asked) -> Iterable[Row]:
    from benchmarks.harmonize import imputation

    return imputation.rows(asked)


def _csv(asked: Asked) -> Iterable[Row]:
    from benchmarks.harmonize import csv

    return csv.rows(asked)


BENCHMARK = Benchmark(
    "harmonize",
    "Harmonisation",
    {
        "fhir": Section(("5.1", "5.2"), _fhir, alone=True),
        "cohort": Section(("5.3a", "5.3b", "5.3c"), _cohort, alone=True),
        "examples": Section(("5.4a", "5.4b"), _examples),
        "karyotype": Section(("5.5a", "5.5b", "5.5c", "5.5d"), _karyotype),
        "fuzz": Section(("5.6a", "5.6b", "5.6c"), _fuzz),
        "imputation": Section(("5.8",), _imputation),
        "csv": Section(("5.7",), _csv, alone=True),
    },
)


if __name__ == "__main__":
    sections.main(BENCHMARK, __doc__)
