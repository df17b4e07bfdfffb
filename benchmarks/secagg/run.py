"""Measure secure aggregation: one table on the terminal, ``benchmarks/results/secagg.json`` for everybody else.

    make bench-secagg        (or: python -m benchmarks.secagg.run [--only kernels,flower])

Takes about ten minutes on two cores. Numbers of rows are those of the claims in docs; a missed bar stays in the table.
The exit status is 0 whenever the table was made.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

from benchmarks import calibrate, report, timing
from benchmarks.calibrate import Calibration
from benchmarks.report import Row
from benchmarks.secagg import contributions, federation, fuzz, kernels, memory
from benchmarks.secagg.flower_process import Flower, NotInstallable, interpreter
from secagg import masks
from secagg.masks import Backend

SECTIONS: Final = ("kernels", "costs", "set-up", "flower", "fuzz", "memory")
_SECONDS: Final = "CPU s"  # as measured; the table shows s-equivalents
_NUMBER: Final = {figure: place for place, figure in enumerate(
    ("3.1", "3.2", "3.3", "3.3a", "3.3b", "3.3c", "3.4", "3.5", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11")
)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    chosen = parser.parse_args().only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        sys.exit(f"no section {', '.join(sorted(unknown))}: {', '.join(SECTIONS)}")
    timing.single_threaded()
    cores = os.sched_getaffinity(0)
    backend = masks.fastest(time.perf_counter)
    rows: list[Row] = []
    notes: list[str] = []
    calibrations: dict[str, Calibration] = {}
    start = time.monotonic()
    for section in SECTIONS:
        if section not in chosen:
            notes.append(f"{section}: left out by --only")
            continue
        # What is timed stays on one core; what fails, restarts and fills memory may use them all.
        os.sched_setaffinity(0, cores)
        if section not in ("fuzz", "memory"):
            timing.own_core()
        before = calibrate.seconds()
        try:
            found = _measure(section, backend)
        except NotInstallable as error:
            notes.append(str(error))
            continue
        calibrations[section] = Calibration(before, calibrate.seconds())
        rows += _in_units(found, calibrations[section])
    rows.sort(key=lambda row: _NUMBER[row.figure])
    print(report.table("Secure aggregation", rows))
    for name, taken in calibrations.items():
        print(f"unit of {name}: {taken.unit:.3f} CPU s, drift {100 * taken.drift:+.1f} %")
    for note in notes:
        print(f"NOT MEASURED {note}")
    if chosen == list(SECTIONS):
        path = report.write("secagg", rows, _facts(backend, calibrations, notes, time.monotonic() - start))
        print(f"written: {path.relative_to(report.RESULTS.parent.parent)}")


def _measure(section: str, backend: Backend) -> list[Row]:
    tell = _teller(section)
    match section:
        case "kernels":
            return kernels.rows(report.machine()["cpu_flags"])
        case "costs":
            return [*federation.octets(backend), *federation.overlap(backend), *federation.verification(backend)]
        case "set-up":
            return federation.set_up(backend)
        case "flower":
            with Flower(interpreter()) as flower:
                return federation.against_flower(flower, backend, tell)
        case "fuzz":
            return fuzz.rows(tell)
        case "memory":
            return memory.rows(backend, tell)
    raise ValueError(section)


def _teller(section: str) -> Callable[[str], None]:
    """Return what says on the terminal's other stream what is going on: standard output has the table alone."""

    def tell(what: str) -> None:
        print(f"{section}: {what}", file=sys.stderr, flush=True)

    tell("measuring")
    return tell


def _in_units(rows: list[Row], taken: Calibration) -> list[Row]:
    """Turn CPU seconds into s-equivalents."""
    return [replace(row, value=row.value / taken.unit, unit="s-eq") if row.unit == _SECONDS else row for row in rows]


def _facts(
    backend: Backend, calibrations: dict[str, Calibration], notes: list[str], seconds: float
) -> dict[str, object]:
    return {
        "backend": backend.name,
        "peer": "flwr==1.41.0 (benchmarks/requirements-flower.txt)",
        "seeds": {"vectors": contributions.SEED, "fuzz": fuzz.SEED},
        "calibration": {
            name: asdict(taken) | {"unit": taken.unit, "drift": taken.drift} for name, taken in calibrations.items()
        },
        "not_measured": notes,
        "seconds": round(seconds),
    }


if __name__ == "__main__":
    main()
