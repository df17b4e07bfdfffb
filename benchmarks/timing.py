"""How benchmarks measure: CPU time, one core, one BLAS thread, candidates side by side, medians.

Machines are shared. What is compared is therefore measured in one run, interleaved (A B A B …), on one core, in CPU
time; the median of each is taken and only ratios are claimed.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

__all__ = ["cpu", "interleaved", "median", "own_core", "single_threaded"]

T = TypeVar("T")

_QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GRPC_VERBOSITY": "NONE"}


def single_threaded() -> None:
    """Start this program again with one BLAS thread and a silent gRPC, unless that is how it was started.

    Call it first: libraries read their environment once.
    """
    if any(os.environ.get(name) != value for name, value in _QUIET.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | _QUIET)  # noqa: S606 - ourselves


def own_core(which: int = 0) -> int:
    """Pin this process and its children to one of the cores it may use, and return that core's number."""
    core = sorted(os.sched_getaffinity(0))[which]
    os.sched_setaffinity(0, {core})
    return core


def cpu(work: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds of a call, all threads of this process together, and what the call returned."""
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def interleaved(candidates: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return CPU seconds of each candidate, `repeats` times in the order A B C A B C …, after one untimed turn."""
    for work in candidates.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, work in candidates.items():
            taken[name].append(cpu(work)[0])
    return taken


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)
