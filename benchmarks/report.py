"""What every benchmark leaves: rows, one table on the terminal, one JSON file in benchmarks/results.

A row is a figure (number of the claim), a name, a value with its unit and, where something was promised, a bar. A bar
that is missed stays in the table as missed; nothing is left out because of its value.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from cryptography.hazmat.backends.openssl import backend as openssl

__all__ = ["Row", "machine", "missed", "table", "write"]

RESULTS: Final = Path(__file__).resolve().parent / "results"

_FLAGS: Final = ("aes", "vaes", "vpclmulqdq", "avx2", "avx512f", "avx512vl", "sha_ni", "asimd", "pmull")
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")


@dataclass(frozen=True)
class Row:
    """One line of a results table.

    Args:
        figure: number of the claim, e.g. ``"3.1"``; rows without a bar explain the ones with.
        name: what was measured.
        value: the median or the count.
        unit: ``"times"``, ``"ms"``, ``"s-eq"``, ``"B/parameter"``, …
        bar: what was promised, in the same unit; None for a row that only explains.
        better: on which side of the bar the value has to be.
        aim: what we hope for; not judged.
    """

    figure: str
    name: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["higher", "lower"] = "higher"
    aim: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the bar is reached (exactly on it counts); None without a bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar

    def to_json(self) -> dict[str, Any]:
        """Return the row as it stands in a results file."""
        return {
            "figure": self.figure,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "bar": self.bar,
            "better": None if self.bar is None else self.better,
            "aim": self.aim,
            "passed": self.passed,
        }


def missed(rows: Iterable[Row]) -> list[Row]:
    """Return the rows whose bar is not reached."""
    return [row for row in rows if row.passed is False]


def table(title: str, rows: Sequence[Row]) -> str:
    """Return the rows as one table for a terminal, with missed bars named again below it."""
    head = ("figure", "what", "value", "bar", "aim", "")
    lines = [head, *(_cells(row) for row in rows)]
    width = [max(len(line[column]) for line in lines) for column in range(len(head))]
    out = [title, ""]
    for number, line in enumerate(lines):
        out.append("  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip())
        if number == 0:
            out.append("  ".join("-" * w for w in width))
    judged = [row for row in rows if row.bar is not None]
    below = missed(rows)
    out += ["", f"{len(judged) - len(below)} of {len(judged)} bars reached"]
    out += [f"MISSED {row.figure} {row.name}: {_number(row.value)} {row.unit}, bar {_bar(row)}" for row in below]
    return "\n".join(out)


def write(name: str, rows: Sequence[Row], facts: Mapping[str, Any]) -> Path:
    """Write ``results/<name>.json``: the rows, then the machine, then what the benchmark adds, and return its path.

    Args:
        name: of the benchmark.
        rows: the table.
        facts: seeds, calibration, settings; a key of :func:`machine` given here replaces it.
    """
    record = {"rows": [row.to_json() for row in rows], **machine(), **facts}
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def machine(packages: Sequence[str] = ("numpy", "cryptography", "grpcio", "protobuf")) -> dict[str, Any]:
    """Return date, versions, cores and processor: what a reader needs to judge the numbers."""
    model, flags = _processor()
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in packages},
            "openssl": openssl.openssl_version_text(),
        },
        "cores": os.cpu_count(),
        "cpu": model,
        "cpu_flags": flags,
        "environment": {name: os.environ[name] for name in _THREADS if name in os.environ},
        "platform": f"{sys.platform} {platform.machine()}",
    }


def _processor() -> tuple[str, list[str]]:
    """Return the processor's name and those of its flags that matter here; both may be unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown", []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    have = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name", "unknown"), [flag for flag in _FLAGS if flag in have]


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "ok", False: "MISSED"}[row.passed]
    aim = "" if row.aim is None else _number(row.aim)
    return row.figure, row.name, f"{_number(row.value)} {row.unit}", _bar(row), aim, verdict


def _bar(row: Row) -> str:
    if row.bar is None:
        return ""
    return f"{'≥' if row.better == 'higher' else '≤'} {_number(row.bar)}"


def _number(value: float) -> str:
    """Write a number with three significant digits or more, and whole where it is whole."""
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.5g}" if abs(value) >= 1 else f"{value:.3g}"
