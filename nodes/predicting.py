"""Patients as a model's card asks for them, at this site, and what the model says about each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harmonize.errors import ProfileMismatch
from models.errors import ConfigError as Impossible
from models.loading import LoadedModel, Predictions
from nodes import files
from nodes.config import SiteConfig
from nodes.errors import ConfigError, DataProblem
from nodes.places import Places, load_secrets

__all__ = ["REFITTED", "for_bundle", "for_own", "for_table", "to_csv"]

REFITTED: Final = "not differentially private: its last layer was refitted to this site's own patients"
"""What a model is called that `nodes.personal` has refitted, whatever its file says."""


def for_own(model: LoadedModel, config: SiteConfig, days: Sequence[float] | None) -> Predictions:
    """Predict for this site's table under the profile that a model was trained with.

    Raises:
        ConfigError: a horizon that the model does not reach.
        DataProblem: the model needs another profile than this version ships or the table has.
        StorageProblem: there is no table.
    """
    path = Places(config.paths).table(model.profile.profile)
    return _of_table(model, path, days, "run `haemfed harmonize run` again")


def for_table(model: LoadedModel, table: Path, days: Sequence[float] | None) -> Predictions:
    """Predict for any canonical table, as of a hospital outside the study.

    Raises:
        ConfigError: a horizon that the model does not reach.
        DataProblem: no canonical table, or of another profile than the model's.
        StorageProblem: it cannot be read.
    """
    return _of_table(model, table, days, "harmonise its source under the model's profile")


def for_bundle(
    model: LoadedModel, config: SiteConfig, path: Path, mapping: Path, days: Sequence[float] | None
) -> Predictions:
    """Predict for one FHIR R4 Bundle, one patient or many, under this site's pseudonyms; nothing is stored.

    Raises:
        ConfigError: the mapping does not fit, or a horizon that the model does not reach.
        DataProblem: (of `harmonize`, too) the Bundle cannot be read, or holds no usable patient.
    """
    key = load_secrets(Places(config.paths)).pseudonym
    try:
        with files.storage_errors(path):
            return model.predict_bundle(path, mapping, key, days)
    except Impossible as error:
        raise ConfigError(f"--days: {error}") from error


def to_csv(found: Predictions, protection: str) -> bytes:
    """One row a patient: pseudonym, P(alive) at each horizon, log-risk, and whether the model is private.

    Args:
        found: the predictions.
        protection: of the model; its first words are in every row, because rows travel without their header.
    """
    said = protection.partition(":")[0]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["pseudonym", *(f"alive_at_{day:g}_days" for day in found.days), "log_risk", "model"])
    for pid, row, risk in zip(found.pids, found.survival, found.risk, strict=True):
        writer.writerow([pid, *(f"{value:.6f}" for value in row), f"{risk:.6f}", said])
    return sink.getvalue().encode()


def _of_table(model: LoadedModel, path: Path, days: Sequence[float] | None, remedy: str) -> Predictions:
    try:
        with files.storage_errors(path):
            return model.predict(path, days)
    except ProfileMismatch as error:
        raise DataProblem(f"{path}: {error}; {remedy}") from error
    except Impossible as error:
        raise ConfigError(f"--days: {error}") from error
