"""A registry's CSV of 5,000 rows and 150 columns to table, and the exercise of the data manager's guide: figures 5.7.

Every variable of the profile has a column; the rest are columns that no mapping names. What is invented has no meaning:
sizes and shapes are what is measured.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.cohorts import CohortMissing
from benchmarks.report import Row
from benchmarks.sections import Asked
from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources, table
from harmonize.mapping.targets import Kind, kind
from harmonize.profile import Profile
from harmonize.sources import csv as csv_source
from harmonize.variables import CodeVariable, LabVariable

__all__ = ["rows", "write"]

SEED: Final = 20260607
_ROWS, _COLUMNS = 5000, 150
_GUIDE: Final = Path(__file__).resolve().parents[2] / "docs" / "guides" / "map-your-data.md"
_KEY: Final = bytes(range(32))


def rows(asked: Asked) -> Iterable[Row]:
    """Measure the CSV reader, and do the exercise."""
    profile = profiles.load("mds")
    data, text = write(profile, 200 if asked.quick else _ROWS, _COLUMNS)
    (source,) = mappings.loads(text, profile).sources
    if not isinstance(source, mappings.Csv):
        raise TypeError(source.format)
    best = float("inf")
    for _ in range(1 if asked.quick else 3):
        begun = time.process_time()
        cohort, quality = table.build(csv_source.read(io.BytesIO(data), source, profile), profile, _KEY)
        cohort.to_parquet_bytes()
        best = min(best, time.process_time() - begun)
        asked.tell(f"{len(cohort)} of {quality.flow.seen} patients")
    cells = f"{quality.flow.seen:,} rows of {_COLUMNS} columns, {len(source.columns)} of them mapped"
    yield Row("5.7", f"CSV to table, report and Parquet: {cells}", best, "CPU s", 1.0, "lower")
    begun = time.process_time()
    events = sum(1 for _ in csv_source.read(io.BytesIO(data), source, profile))
    yield Row("5.7", f"of it, reading the file to {events:,} items", time.process_time() - begun, "CPU s")
    yield from _exercise(asked)


def write(profile: Profile, patients: int, columns: int) -> tuple[bytes, str]:
    """A CSV file with every scalar variable of a profile and as many other columns, and its mapping."""
    rng = np.random.default_rng(SEED)
    targets = {"index_date": "2015-06-01", "birth_date": "1950-01-01", "last_follow_up": "2018-01-01"}
    cells: dict[str, list[str]] = {name: [date] * patients for name, date in targets.items()}
    lines = [f'{name} = {{ column = "{name}" }}' for name in targets]
    for variable in profile.scalars:
        what = kind(variable.name, profile)
        if isinstance(variable, LabVariable):
            low, high = map(float, variable.soft)
            cells[variable.name] = [f"{value:.1f}" for value in rng.uniform(low, high, patients)]
            lines.append(f'{variable.name} = {{ column = "{variable.name}", unit = "{variable.unit}" }}')
        elif isinstance(variable, CodeVariable):
            cells[variable.name] = list(rng.choice([*variable.values, ""], patients))
            lines.append(f'{variable.name} = {{ column = "{variable.name}" }}')
        elif what is Kind.FINDING or (what is Kind.VARIANT and not variable.name.endswith("_vaf")):
            cells[variable.name] = list(rng.choice(["0", "1", ""], patients, p=[0.7, 0.1, 0.2]))
            lines.append(f'{variable.name} = {{ column = "{variable.name}", present = "1", absent = "0" }}')
    names = ["id", *cells, *(f"other_{number}" for number in range(columns - 1 - len(cells)))]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    spare = ["of no use"] * (len(names) - 1 - len(cells))
    writer.writerows([f"P{number:05d}", *row, *spare] for number, row in enumerate(zip(*cells.values(), strict=True)))
    head = f'format = "csv"\nprofile = "{profile.profile}"\nfiles = ["registry.csv"]\n'
    patient = '[patient]\nsystem = "urn:bench:hospital"\ncolumn = "id"\n[columns]\n'
    return text.getvalue().encode(), head + patient + "\n".join(lines) + "\n"


def _exercise(asked: Asked) -> Iterable[Row]:
    """The guide's own mapping of a registry that its authors had not seen before."""
    exercise = _GUIDE.read_text(encoding="utf-8").partition("## An exercise")[2]
    text = re.findall(r"```toml\n(.*?)```", exercise, flags=re.DOTALL)[-1]
    yield Row(
        "5.7", "steps of the guide's exercise", len(re.findall(r"^\d+\. ", exercise, flags=re.MULTILINE)), "steps"
    )
    yield Row("5.7", "lines of its mapping file", sum(bool(line) for line in text.splitlines()), "lines")
    folder = asked.folder / "mm_mmrf"
    if not folder.is_dir():
        raise CohortMissing("the folder mm_mmrf is not among the cohorts")
    profile = profiles.load("mm")
    _, quality = table.build(sources.read(folder, mappings.loads(text, profile), profile), profile, _KEY)
    yield Row("5.7", f"its patients in the table, of {quality.flow.seen}", quality.flow.usable, "patients", 994)
    yield Row("5.7", "its deaths (the cohort has 191)", quality.flow.deaths, "deaths", 191)
