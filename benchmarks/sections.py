"""A benchmark of several sections: measured one after the other, one table, one results file that keeps the others.

    python -m benchmarks.<name>.run [--only SECTION,…] [--quick] [--data DIR] [--workers N]

With ``--only`` these sections are measured anew and the results file keeps the rest; it says of every section when it
was measured. With ``--quick`` counts are small and nothing is written. What a missing cohort or file keeps from being
measured is listed as not measured, and a missed bar stays in the table. The exit status is 0 whenever the table was
made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import calibrate, report, timing
from benchmarks.calibrate import Calibration
from benchmarks.cohorts import CohortMissing, folder
from benchmarks.report import Row

__all__ = ["Asked", "Benchmark", "NotThere", "Section", "main"]

_SECONDS: Final = "CPU s"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


class NotThere(Exception):  # noqa: N818 - as CohortMissing
    """Something that a section needs is not on this machine; the message says what."""


@dataclass(frozen=True)
class Asked:
    """What was asked for on the command line.

    Args:
        quick: small counts.
        data: folder of the public cohorts, or None for the one that the environment names.
        workers: processes of untimed parts.
        most: seeds of one interval at most.
        tell: says on the terminal's other stream what is going on.
    """

    quick: bool = False
    data: Path | None = None
    workers: int = 1
    most: int = 2000
    tell: Callable[[str], None] = field(default=lambda _: None)

    @property
    def folder(self) -> Path:
        """Folder of the public cohorts. Raises CohortMissing."""
        return folder(self.data)


@dataclass(frozen=True)
class Section:
    """One part of a benchmark.

    Args:
        figures: what is listed as not measured where it cannot run.
        rows: measures.
        alone: timed: on one core, with nothing beside it, between two calibrations; CPU seconds become s-equivalents.
    """

    figures: tuple[str, ...]
    rows: Callable[[Asked], Iterable[Row]]
    alone: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A table and a results file.

    Args:
        name: of the file.
        title: of the table.
        sections: in the order in which they are measured.
        facts: what else the results file says.
    """

    name: str
    title: str
    sections: Mapping[str, Section]
    facts: Callable[[], dict[str, Any]] = dict


def main(benchmark: Benchmark, about: str | None) -> None:
    """Measure what the command line asks for."""
    names = ", ".join(benchmark.sections)
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(benchmark.sections), help=f"some of {names}")
    parser.add_argument("--quick", action="store_true", help="small counts; write nothing")
    parser.add_argument("--data", type=Path, help="folder of the public cohorts; HAEMFED_DATA by default")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes of untimed parts")
    parser.add_argument("--most", type=int, default=2000, help="seeds of one interval at most")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(benchmark.sections):
        sys.exit(f"no section {', '.join(sorted(unknown))}: {names}")
    timing.single_threaded()
    asked = Asked(given.quick, given.data, given.workers, given.most)
    rows, missing, facts = _measured(benchmark, asked, [name for name in benchmark.sections if name in chosen])
    print(report.table(benchmark.title, rows))
    for figure, reason in missing.items():
        print(f"NOT MEASURED {figure}: {reason}")
    if not asked.quick:
        found = kept(benchmark, benchmark.facts() | facts, listed(rows, missing), chosen)
        path = report.write(benchmark.name, rows, found)
        print(f"written: {path.relative_to(report.RESULTS.parent.parent)}")


def _measured(
    benchmark: Benchmark, asked: Asked, chosen: Iterable[str]
) -> tuple[list[Row], dict[str, str], dict[str, Any]]:
    cores = os.sched_getaffinity(0)
    rows: list[Row] = []
    done: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for name in chosen:
        section = benchmark.sections[name]
        os.sched_setaffinity(0, cores)
        begun = time.monotonic()
        if section.alone:
            timing.own_core()
        before = calibrate.seconds() if section.alone else None
        try:
            found = list(section.rows(replace(asked, tell=_teller(name))))
        except (CohortMissing, NotThere) as error:
            missing |= dict.fromkeys(section.figures, str(error))
            continue
        except Exception as error:  # noqa: BLE001 -- an hour of other figures must not go with one of them
            traceback.print_exc()
            missing |= dict.fromkeys(section.figures, f"failed with {type(error).__name__}: see the terminal")
            continue
        done[name] = {"date": report.machine()["date"], "seconds": round(time.monotonic() - begun)}
        if before is not None:
            unit = Calibration(before, calibrate.seconds())
            found = [in_units(row, unit) for row in found]
            done[name]["calibration"] = asdict(unit) | {"unit": unit.unit, "drift": unit.drift}
        rows += found
    return sorted(rows, key=lambda row: place(row.figure)), missing, {"sections": done}


def listed(rows: Iterable[Row], missing: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows of the results file, in order, what was not measured among them with its reason."""
    found = [row.to_json() for row in rows]
    found += [
        Row(figure, "not measured", 0.0, "").to_json() | {"value": None, "unit": None, "not_measured": reason}
        for figure, reason in missing.items()
    ]
    return sorted(found, key=lambda row: place(row["figure"]))


def kept(
    benchmark: Benchmark, facts: dict[str, Any], rows: list[dict[str, Any]], chosen: Iterable[str]
) -> dict[str, Any]:
    """Return what to write: the new rows, and those of the sections that were not measured this time."""
    try:
        old = json.loads((report.RESULTS / f"{benchmark.name}.json").read_text())
    except (OSError, ValueError):
        old = {"rows": [], "sections": {}}
    others = set(benchmark.sections) - set(chosen)
    rows = rows + [row for row in old["rows"] if section_of(benchmark, row["figure"]) in others]
    sections = {name: done for name, done in old["sections"].items() if name in others} | facts["sections"]
    return facts | {"rows": sorted(rows, key=lambda row: place(row["figure"])), "sections": sections}


def section_of(benchmark: Benchmark, figure: str) -> str | None:
    """Return the section that a figure belongs to; None for one that is no longer measured."""
    bare = figure.rstrip(_LETTERS)
    for fits in (
        lambda known: known == figure,
        lambda known: known == bare,
        lambda known: known.rstrip(_LETTERS) == bare,
    ):
        for name, section in benchmark.sections.items():
            if any(map(fits, section.figures)):
                return name
    return None


def place(figure: str) -> tuple[int, int, str]:
    """Return where a figure stands: 4.2b before 4.10, what has no number at the end."""
    parts = re.fullmatch(r"(\d+)\.(\d+)([a-z]?)", figure)
    return (int(parts[1]), int(parts[2]), parts[3]) if parts else (1 << 30, 0, figure)


def in_units(row: Row, taken: Calibration) -> Row:
    """Turn CPU seconds into s-equivalents."""
    return replace(row, value=row.value / taken.unit, unit="s-eq") if row.unit == _SECONDS else row


def _teller(section: str) -> Callable[[str], None]:
    def tell(what: str) -> None:
        print(f"{section}: {what}", file=sys.stderr, flush=True)

    tell("measuring")
    return tell
