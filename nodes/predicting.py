"""Patients as a model's card asks for them, and what the model says about each."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harmonize import mapping as mappings
from harmonize.errors import ProfileMismatch
from harmonize.profile import Profile, load
from harmonize.sources import bundle
from harmonize.table import Matrix, Table, build
from models.data import Float64
from models.predict import SurvivalModel
from nodes import files
from nodes.config import SiteConfig
from nodes.errors import ConfigError, DataProblem
from nodes.places import Places, load_secrets

__all__ = ["Predictions", "bundle_matrix", "own_matrix", "predict", "profile_of", "table_matrix", "to_csv"]

DAYS = (365.25, 730.5)
"""Horizons where nobody asks for others; those beyond the model's own are left out."""
_MOST_HORIZONS = 100


@dataclass(frozen=True)
class Predictions:
    """What a model says, for this site only.

    Args:
        pids: pseudonyms.
        days: horizons.
        survival: float64[n, m], P(alive at each horizon).
        risk: float64[n], log-risk, higher = earlier death.
    """

    pids: Sequence[str] = field(repr=False)
    days: tuple[float, ...]
    survival: Float64 = field(repr=False)
    risk: Float64 = field(repr=False)


def profile_of(card: Mapping[str, Any]) -> Profile:
    """The profile that a model was trained with.

    Raises:
        DataProblem: the card names none, or this version ships another.
    """
    match card.get("profile"):
        case {"name": str(name), "digest": str(wanted)} if name.isidentifier():
            profile = load(name)
        case _:
            raise DataProblem(
                "the model's card names no profile of this version; nothing can be said about its columns"
            )
    if profile.digest != wanted:
        raise DataProblem(
            f"the model needs profile {profile.profile!r} with digest {wanted[:16]}…, this version ships another; "
            "use the version of haemfed that the study was run with"
        )
    return profile


def own_matrix(config: SiteConfig, card: Mapping[str, Any]) -> Matrix:
    """Read this site's table under the profile that a model was trained with.

    Raises:
        DataProblem: the model needs another profile than this version ships or the table has.
        StorageProblem: there is no table.
    """
    profile = profile_of(card)
    return _matrix(Places(config.paths).table(profile.profile), profile, "run `haemfed harmonize run` again")


def table_matrix(table: Path, card: Mapping[str, Any]) -> Matrix:
    """Read any canonical table, as of a hospital outside the study.

    Raises:
        DataProblem: no canonical table, or of another profile than the model's.
        StorageProblem: it cannot be read.
    """
    return _matrix(table, profile_of(card), "harmonise its source under the model's profile")


def bundle_matrix(config: SiteConfig, path: Path, mapping: Path, card: Mapping[str, Any]) -> Matrix:
    """Read one FHIR R4 Bundle, one patient or many, as a harmonisation would; nothing is stored.

    Args:
        config: the site, whose key makes the pseudonyms.
        path: the Bundle.
        mapping: a mapping file with one source of format "bundle"; its `files` are not looked at.
        card: of the model.

    Raises:
        ConfigError: the mapping does not fit.
        DataProblem: the Bundle cannot be read, or holds no usable patient; says why, by counts.
    """
    profile = profile_of(card)
    plan = mappings.load(mapping, profile)
    sources = [source for source in plan.sources if isinstance(source, mappings.Bundles)]
    if len(sources) != 1 or len(plan.sources) != 1:
        raise ConfigError(f'{mapping.name}: needs exactly one source, of format "bundle", to read a Bundle')
    with files.storage_errors(path):
        table, quality = build(
            bundle.read(path, sources[0], profile), profile, load_secrets(Places(config.paths)).pseudonym
        )
    if not len(table):
        why = ", ".join(f"{code}: {count}" for code, count in quality.flow.left_out.items() if count)
        raise DataProblem(f"{path.name}: no usable patient ({why or 'none in it'})")
    return table.matrix()


def predict(model: SurvivalModel, matrix: Matrix, days: Sequence[float] | None) -> Predictions:
    """Predict survival of every patient.

    Args:
        model: the model.
        matrix: of its profile; columns are found by name.
        days: horizons; None: `DAYS` as far as the model reaches.

    Raises:
        ConfigError: a horizon below 0 or beyond the model's, or too many of them.
        DataProblem: the table has no column that the model needs.
    """
    horizon = model.grid[-1]
    chosen = tuple(days or [day for day in DAYS if day <= horizon] or [horizon])
    if len(chosen) > _MOST_HORIZONS or not all(0 <= day <= horizon for day in chosen):
        raise ConfigError(
            f"--days takes 0 to {horizon:g} (the model says nothing beyond), at most {_MOST_HORIZONS} times"
        )
    if lacking := [name for name in model.features if name not in matrix.names]:
        raise DataProblem(f"the model needs {', '.join(lacking)}, which its profile does not have as an input")
    columns = [matrix.names.index(name) for name in model.features]
    x, observed = matrix.x[:, columns], matrix.observed[:, columns]
    return Predictions(matrix.pid, chosen, model.survival(x, observed, np.array(chosen)), model.risk(x, observed))


def to_csv(found: Predictions) -> bytes:
    """One row a patient: pseudonym, P(alive) at each horizon, log-risk."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["pseudonym", *(f"alive_at_{day:g}_days" for day in found.days), "log_risk"])
    for pid, row, risk in zip(found.pids, found.survival, found.risk, strict=True):
        writer.writerow([pid, *(f"{value:.6f}" for value in row), f"{risk:.6f}"])
    return sink.getvalue().encode()


def _matrix(path: Path, profile: Profile, remedy: str) -> Matrix:
    try:
        return Table.from_parquet(files.read(path), profile).matrix()
    except ProfileMismatch as error:
        raise DataProblem(f"{path}: {error}; {remedy}") from error
