"""Measure differential privacy: one table on the terminal, ``benchmarks/results/dp.json`` for everybody else.

    make bench-dp        (or: python -m benchmarks.dp.run [--quick] [--only steps,gain] [--data DIR])

Takes one to two hours on two cores, most of it for the histories of 4.9 and the intervals of 4.6 (``--most``), and
with ``--quick`` a few minutes: smaller counts, and nothing is written. With ``--only`` these sections are measured anew
and the results file keeps the others; it says of every section when it was measured. Numbers of rows are those of
the claims in docs; a missed bar stays in the table, and what a missing cohort or file keeps from being measured is
listed as not measured. The exit status is 0 whenever the table was made.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import calibrate, report, timing
from benchmarks.calibrate import Calibration
from benchmarks.cohorts import CohortMissing, folder
from benchmarks.report import Row

SECTIONS: Final = {
    "steps": ("4.1", "4.2", "4.3", "4.4"),
    "study": ("4.5",),
    "exact": ("4.6a",),
    "equivalence": ("4.6b", "4.6c", "4.6d", "4.6e", "4.6f", "4.6g", "4.6h", "4.6i", "4.6j"),
    "gain": ("4.7",),
    "accounting": ("4.8", "4.9"),
    "pairs": ("4.10",),
    "mutants": ("4.11",),
    "plan": ("plan",),
}
"""Sections, each with the figures that are not measured where it cannot run."""

_ALONE: Final = ("steps", "study")  # timed: on one core, with nothing beside it
_SECONDS: Final = "CPU s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="small counts; write nothing")
    parser.add_argument("--data", type=Path, help="folder of the public cohorts; HAEMFED_DATA by default")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes of untimed parts")
    parser.add_argument("--most", type=int, default=2000, help="seeds of one interval of 4.6 at most")
    asked = parser.parse_args()
    chosen = asked.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        sys.exit(f"no section {', '.join(sorted(unknown))}: {', '.join(SECTIONS)}")
    timing.single_threaded()
    logging.disable(logging.WARNING)  # a library says for every order that it leaves out that it does
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # how Opacus works
    rows, missing, facts = _everything(asked, [name for name in SECTIONS if name in chosen])
    print(report.table("Differential privacy", rows))
    for figure, reason in missing.items():
        print(f"NOT MEASURED {figure}: {reason}")
    if not asked.quick:
        path = report.write("dp", rows, kept(facts, listed(rows, missing), chosen))
        print(f"written: {path.relative_to(report.RESULTS.parent.parent)}")


def _everything(asked: argparse.Namespace, sections: Iterable[str]) -> tuple[list[Row], dict[str, str], dict[str, Any]]:
    from benchmarks.dp.attacks import NotThere

    cores = os.sched_getaffinity(0)
    rows: list[Row] = []
    sections_done: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    units: dict[str, Calibration] = {}
    for section in sections:
        os.sched_setaffinity(0, cores)
        begun = time.monotonic()
        if section in _ALONE:
            timing.own_core()
        before = calibrate.seconds() if section in _ALONE else None
        try:
            found = list(_measure(section, asked))
        except (CohortMissing, NotThere) as error:
            missing |= dict.fromkeys(SECTIONS[section], str(error))
            continue
        except Exception as error:  # noqa: BLE001 -- an hour of other figures must not go with one of them
            traceback.print_exc()
            missing |= dict.fromkeys(SECTIONS[section], f"failed with {type(error).__name__}: see the terminal")
            continue
        if before is not None:
            units[section] = Calibration(before, calibrate.seconds())
            found = [in_units(row, units[section]) for row in found]
        rows += found
        sections_done[section] = {"date": report.machine()["date"], "seconds": round(time.monotonic() - begun)}
        if section in units:
            unit = units[section]
            sections_done[section]["calibration"] = asdict(unit) | {"unit": unit.unit, "drift": unit.drift}
    facts = {"preset": _presets(), "sections": sections_done}
    return sorted(rows, key=lambda row: place(row.figure)), missing, facts


def _measure(section: str, asked: argparse.Namespace) -> Iterable[Row]:
    tell = _teller(section)
    quick, workers = asked.quick, asked.workers
    match section:
        case "steps":
            from benchmarks.dp import steps

            return steps.rows(quick=quick)
        case "study":
            from benchmarks.dp import study_cost

            return study_cost.rows(_backend(), quick=quick)
        case "exact":
            from benchmarks.dp import exact

            return exact.rows(folder(asked.data), _backend())
        case "equivalence":
            from benchmarks.dp import utility

            return utility.equivalences(folder(asked.data), tell, most=4 if quick else asked.most, workers=workers)
        case "gain":
            from benchmarks.dp import utility

            return utility.gain(folder(asked.data), tell, seeds=2 if quick else 20, workers=workers)
        case "accounting":
            from benchmarks.dp import accounting

            return accounting.rows(quick=quick, tell=tell, workers=workers)
        case "pairs":
            from benchmarks.dp import attacks

            return attacks.pairs(quick=quick)
        case "mutants":
            from benchmarks.dp import attacks

            return attacks.mutants()
        case "plan":
            from benchmarks.dp import planning

            return planning.rows(folder(asked.data), tell, quick=quick, workers=workers)
    raise ValueError(section)


def listed(rows: Iterable[Row], missing: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows of the results file, in order, what was not measured among them with its reason."""
    found = [row.to_json() for row in rows]
    found += [
        Row(figure, "not measured", 0.0, "").to_json() | {"value": None, "unit": None, "not_measured": reason}
        for figure, reason in missing.items()
    ]
    return sorted(found, key=lambda row: place(row["figure"]))


def kept(facts: dict[str, Any], rows: list[dict[str, Any]], chosen: Iterable[str]) -> dict[str, Any]:
    """Return what to write: the new rows, and those of the sections that were not measured this time."""
    try:
        old = json.loads((report.RESULTS / "dp.json").read_text())
    except (OSError, ValueError):
        old = {"rows": [], "sections": {}}
    others = set(SECTIONS) - set(chosen)
    rows = rows + [row for row in old["rows"] if section_of(row["figure"]) in others]
    sections = {name: done for name, done in old["sections"].items() if name in others} | facts["sections"]
    return facts | {"rows": sorted(rows, key=lambda row: place(row["figure"])), "sections": sections}


def section_of(figure: str) -> str:
    """Return the section that a figure belongs to."""
    for name, figures in SECTIONS.items():
        if figure in figures or figure.rstrip("abcdefghij") in figures:
            return name
    raise ValueError(figure)


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


def _backend() -> Any:
    from secagg import masks

    return masks.fastest(time.perf_counter)


def _presets() -> dict[str, Any]:
    """Say which hyper-parameters the utility rows used and where they were chosen."""
    from benchmarks.dp.settings import WAYS

    return {
        "chosen_on": "METABRIC alone, by benchmarks.dp.choose; never on a cohort that is reported here",
        "why_not_aml_small": "it was chosen for five or six columns on two of the reported cohorts",
        "ways": {name: vars(way) for name, way in WAYS.items()},
    }


if __name__ == "__main__":
    main()
