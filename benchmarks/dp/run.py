"""Measure differential privacy: one table on the terminal, ``benchmarks/results/dp.json`` for everybody else.

    make bench-dp        (or: python -m benchmarks.dp.run [--quick] [--only steps,gain] [--data DIR])

Takes one to two hours on two cores, most of it for the histories of 4.9 and the intervals of 4.6 (``--most``), and
with ``--quick`` a few minutes. See `benchmarks.sections` for what the flags do.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable
from typing import Any

from benchmarks import sections
from benchmarks.report import Row
from benchmarks.sections import Asked, Benchmark, Section


def _steps(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import steps

    return steps.rows(quick=asked.quick)


def _study(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import study_cost

    return study_cost.rows(_backend(), quick=asked.quick)


def _exact(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import exact

    return exact.rows(asked.folder, _backend())


def _equivalence(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import utility

    most = 4 if asked.quick else asked.most
    return utility.equivalences(asked.folder, asked.tell, most=most, workers=asked.workers)


def _gain(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import utility

    return utility.gain(asked.folder, asked.tell, seeds=2 if asked.quick else 20, workers=asked.workers)


def _accounting(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import accounting

    return accounting.rows(quick=asked.quick, tell=asked.tell, workers=asked.workers)


def _pairs(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import attacks

    return attacks.pairs(quick=asked.quick)


def _mutants(_: Asked) -> Iterable[Row]:
    from benchmarks.dp import attacks

    return attacks.mutants()


def _plan(asked: Asked) -> Iterable[Row]:
    from benchmarks.dp import planning

    return planning.rows(asked.folder, asked.tell, quick=asked.quick, workers=asked.workers)


def _backend() -> Any:
    from secagg import masks

    return masks.fastest(time.perf_counter)


def _presets() -> dict[str, Any]:
    """Say which hyper-parameters the utility rows used and where they were chosen."""
    from benchmarks.dp.settings import WAYS

    return {
        "preset": {
            "chosen_on": "METABRIC alone, by benchmarks.dp.choose; never on a cohort that is reported here",
            "why_not_aml_small": "it was chosen for five or six columns on two of the reported cohorts",
            "ways": {name: vars(way) for name, way in WAYS.items()},
        }
    }


BENCHMARK = Benchmark(
    "dp",
    "Differential privacy",
    {
        "steps": Section(("4.1", "4.2", "4.3", "4.4"), _steps, alone=True),
        "study": Section(("4.5",), _study, alone=True),
        "exact": Section(("4.6a",), _exact),
        "equivalence": Section(("4.6b", "4.6c", "4.6d", "4.6e", "4.6f", "4.6g", "4.6h", "4.6i", "4.6j"), _equivalence),
        "gain": Section(("4.7",), _gain),
        "accounting": Section(("4.8", "4.9"), _accounting),
        "pairs": Section(("4.10",), _pairs),
        "mutants": Section(("4.11",), _mutants),
        "plan": Section(("plan",), _plan),
    },
    _presets,
)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # a library says for every order that it leaves out that it does
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # how Opacus works
    sections.main(BENCHMARK, __doc__)
