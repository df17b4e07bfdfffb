"""Published prognostic scores of a site's own table: computed, written and counted here, never sent."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmonize.buffers import to_numpy
from harmonize.errors import ProfileMismatch
from harmonize.events import State
from harmonize.layout import USABLE, one
from harmonize.profile import CodeVariable, LabVariable, Profile, Variable
from harmonize.table import Table
from models.prognostic import NOT_GIVEN, Input, Patients, Result, Scenario, Score
from nodes import files, harmonising
from nodes.config import SiteConfig
from nodes.errors import ConfigError, DataProblem, StorageProblem
from nodes.places import Places

__all__ = ["Scored", "check", "patients_of", "run"]


@dataclass(frozen=True)
class Scored:
    """What was written, for the person at this site only.

    Args:
        path: the file.
        patients: rows of it.
        categories: patients by category, from the lowest risk to the highest; a category without any is there, too.
        points_open: patients whose category is given though their points are not.
        not_given: patients without category.
        excluded: of those, for whom the score is not meant.
        missing: of the others of those, patients by the input that is not known; most frequent first.
    """

    path: Path
    patients: int
    categories: Mapping[str, int]
    points_open: int
    not_given: int
    excluded: int
    missing: Mapping[str, int]


def run(config: SiteConfig, score: Score, profile_name: str | None, target: Path, *, force: bool = False) -> Scored:
    """Score every patient of this site's table and write one row a patient, mode 0600.

    Args:
        config: the site.
        score: which one.
        profile_name: a shipped profile or a path; None means the only one that there is a table for.
        target: the CSV file; its folder exists.
        force: replace the file.

    Raises:
        ConfigError: no such profile, several tables and none named, or the profile does not have what the score needs.
        DataProblem: the table was made under another profile, or is none.
        StorageProblem: there is no table; the file exists, or cannot be written. Nothing was replaced.
    """
    places = Places(config.paths)
    profile = harmonising.stored_profile(places, profile_name)
    check(score, profile)
    files.refuse_existing(target, force=force)
    table = _table(places.table(profile.profile), profile)
    result = score.of(patients_of(table, score.inputs))
    files.write(target, _csv(table.pids, result), private=True)
    return _counted(target, result)


def check(score: Score, profile: Profile) -> None:
    """Whether tables of a profile hold what a score reads.

    Raises:
        ConfigError: another disease; a variable is not there, or is not what the score means by its name.
    """
    if not set(score.diagnoses) & set(profile.diagnosis.codes.get("snomed", ())):
        raise ConfigError(f"{score.name} is for {score.diseases}; profile {profile.profile} is for {profile.title}")
    variables = {variable.name: variable for variable in profile.scalars}
    if lacking := [each.name for each in score.inputs if each.required and each.name not in variables]:
        raise ConfigError(f"profile {profile.profile} has no {', '.join(lacking)}, which {score.name} needs")
    for each in score.inputs:
        if each.name in variables:
            _check_meaning(score, each, variables[each.name])


def _check_meaning(score: Score, wanted: Input, found: Variable) -> None:
    if isinstance(found, LabVariable) and found.unit != wanted.unit:
        raise ConfigError(f"{found.name} is in {found.unit}, {score.name} needs {wanted.unit}; use the shipped profile")
    if wanted.codes is not None and not (isinstance(found, CodeVariable) and dict(found.values) == dict(wanted.codes)):
        raise ConfigError(f"{found.name} does not have the categories {', '.join(wanted.codes)} of {score.name}")


def patients_of(table: Table, inputs: Sequence[Input]) -> Patients:
    """The inputs of a table, NaN where it has no usable value; limits of detection as such."""
    names = set(table.profile.names)
    values: dict[str, NDArray[np.float64]] = {}
    below: dict[str, NDArray[np.bool_]] = {}
    above: dict[str, NDArray[np.bool_]] = {}
    for each in inputs:
        if each.name not in names:
            values[each.name] = np.full(len(table), np.nan)
            continue
        states = table.states(each.name)
        number = to_numpy(one(table.arrow, each.name)).astype(np.float64)
        # What stands under a gap is 0: a gene that was not tested must not become one that is not mutated.
        values[each.name] = np.where(np.isin(states, USABLE), number, np.nan)
        below[each.name] = states == State.BELOW_LIMIT
        above[each.name] = states == State.ABOVE_LIMIT
    return Patients(values, below, above)


def _table(path: Path, profile: Profile) -> Table:
    if not path.exists():
        raise StorageProblem(
            f"{path}: no table under profile {profile.profile} yet; run: haemfed harmonize run MAPPING"
        )
    try:
        return Table.from_parquet(files.read(path), profile)
    except ProfileMismatch as error:
        raise DataProblem(f"{path}: {error}; run `haemfed harmonize run` again") from error


def _csv(pids: Sequence[str], result: Result) -> bytes:
    scenarios = {"best": result.best, "mean": result.mean, "worst": result.worst}
    given = {name: each for name, each in scenarios.items() if each is not None}
    columns: dict[str, Sequence[str]] = {"pseudonym": pids}
    columns |= _columns("", Scenario(result.points, result.category), result)
    for name, each in given.items():
        columns |= _columns(f"{name}_", each, result)
    names = np.array(result.inputs)
    columns["missing"] = [" ".join(names[row]) for row in result.missing]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return sink.getvalue().encode()


def _columns(prefix: str, scenario: Scenario, result: Result) -> dict[str, list[str]]:
    points = ["" if np.isnan(each) else f"{each:.10g}" for each in scenario.points]
    return {f"{prefix}points": points, f"{prefix}category": result.label(scenario.category)}


def _counted(target: Path, result: Result) -> Scored:
    given = result.category != NOT_GIVEN
    gaps = result.missing[~given & ~result.excluded].sum(axis=0)
    missing = Counter({name: int(count) for name, count in zip(result.inputs, gaps, strict=True) if count})
    return Scored(
        path=target,
        patients=len(result.points),
        categories={label: int((result.category == index).sum()) for index, label in enumerate(result.labels)},
        points_open=int((given & np.isnan(result.points)).sum()),
        not_given=int((~given).sum()),
        excluded=int(result.excluded.sum()),
        missing=dict(missing.most_common()),
    )
