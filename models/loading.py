"""A survival model file, opened for use: what it says about the patients of a table or of a FHIR Bundle.

Reading a model runs no code from it. Whether it *may* be used here (audit, retirement) is not looked at: certificates
and notes lie beside a file and at a site, and `haemfed model predict` looks for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harmonize import mapping as mappings
from harmonize.errors import ConfigError as MappingError
from harmonize.errors import TableError
from harmonize.matrix import Matrix
from harmonize.modalities import listed
from harmonize.profile import Profile
from harmonize.sources import bundle
from harmonize.table import Table, build
from models import artefact, cards
from models.container import read
from models.data import Float64
from models.errors import ArtefactError, ConfigError
from models.predict import SurvivalModel

__all__ = ["DAYS", "LoadedModel", "Predictions", "horizons", "load"]

DAYS = (365.25, 730.5)
"""Horizons where nobody asks for others; those beyond the model's own are left out."""
_MOST_HORIZONS = 100


@dataclass(frozen=True)
class Predictions:
    """What a model says of patients; as confidential as they are.

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


@dataclass(frozen=True)
class LoadedModel:
    """A survival model with its card.

    Args:
        model: what predicts, from scaled numbers.
        card: profile, study, metrics, intended use, limits, privacy.
        data: the file.
    """

    model: SurvivalModel
    card: Mapping[str, Any] = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the file, hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def protection(self) -> str:
        """The guarantee in one line; see `models.cards.protection`."""
        return cards.protection(self.card)

    @property
    def profile(self) -> Profile:
        """The profile that the model was trained under.

        Raises:
            ArtefactError: the card names none, or this version ships another.
        """
        return cards.profile_of(self.card)

    @property
    def calibrated_days(self) -> tuple[float, ...]:
        """Horizons at which the study released how predicted risks compare with observed ones; () if at none."""
        return tuple(sorted(set(_calibrated(self.card))))

    def predict(self, patients: Path | str | Table | Matrix, days: Sequence[float] | None = None) -> Predictions:
        """Predict survival of every patient.

        Args:
            patients: a canonical table or the path of one (Parquet), or its matrix, of the model's profile.
            days: horizons; None: `DAYS` as far as the model reaches.

        Raises:
            ConfigError: a horizon below 0 or beyond the model's, or too many of them.
            ArtefactError: the profile of this version has no input that the model needs, or is another one.
            HarmonizeError: no canonical table (`TableError`), or of another profile (`ProfileMismatch`).
            OSError: the path cannot be read.
        """
        return _predict(self.model, self._matrix(patients), days)

    def predict_bundle(
        self, path: Path | str, mapping: Path | str, pseudonym_key: bytes, days: Sequence[float] | None = None
    ) -> Predictions:
        """Predict for the patients of one FHIR R4 Bundle, one or many; it is read as a harmonisation would.

        Args:
            path: the Bundle.
            mapping: a mapping file with one source of format "bundle"; its `files` are not looked at.
            pseudonym_key: 32 secret bytes of whoever predicts; they make the pseudonyms.
            days: as in `predict`.

        Raises:
            ConfigError: (of `harmonize`) the mapping does not fit; (of `models`) a horizon does not.
            HarmonizeError: the Bundle cannot be read, or holds no usable patient; says why, by counts.
            ArtefactError: as in `predict`.
        """
        return self.predict(_of_bundle(Path(path), Path(mapping), self.profile, pseudonym_key), days)

    def _matrix(self, patients: Path | str | Table | Matrix) -> Matrix:
        match patients:
            case Matrix():
                return patients
            case Table():
                return Table(patients.arrow, self.profile).matrix()
            case _:
                profile = self.profile
                with Path(patients).open("rb") as stream:
                    return Table.from_parquet(stream, profile).matrix()


def load(path: Path | str) -> LoadedModel:
    """Open a model file.

    Raises:
        ArtefactError: it cannot be read, is damaged, edited, too large or of another format.
    """
    data = read(Path(path))
    return LoadedModel(*artefact.from_bytes(data), data)


def horizons(model: SurvivalModel, days: Sequence[float] | None) -> tuple[float, ...]:
    """The days to predict at: those asked for, else `DAYS` as far as the model reaches.

    Raises:
        ConfigError: a horizon below 0 or beyond the model's, or too many of them.
    """
    horizon = model.grid[-1]
    chosen = tuple(days if days is not None and len(days) else [day for day in DAYS if day <= horizon] or [horizon])
    if len(chosen) > _MOST_HORIZONS or not all(0 <= day <= horizon for day in chosen):
        raise ConfigError(
            f"horizons lie between 0 and {horizon:g} days (the model says nothing beyond), {_MOST_HORIZONS} at most"
        )
    return chosen


def _predict(model: SurvivalModel, matrix: Matrix, days: Sequence[float] | None) -> Predictions:
    chosen = horizons(model, days)
    if lacking := matrix.lacking(model.features):
        raise ArtefactError(f"the model needs {listed(lacking)}, which its profile does not have as an input")
    x, observed = matrix.columns(model.features)
    return Predictions(matrix.pid, chosen, model.survival(x, observed, np.array(chosen)), model.risk(x, observed))


def _of_bundle(path: Path, mapping: Path, profile: Profile, key: bytes) -> Table:
    plan = mappings.load(mapping, profile)
    sources = [source for source in plan.sources if isinstance(source, mappings.Bundles)]
    if len(sources) != 1 or len(plan.sources) != 1:
        raise MappingError(f'{mapping.name}: needs exactly one source, of format "bundle", to read a Bundle')
    table, quality = build(bundle.read(path, sources[0], profile), profile, key)
    if not len(table):
        why = ", ".join(f"{code}: {count}" for code, count in quality.flow.left_out.items() if count)
        raise TableError(f"{path.name}: no usable patient ({why or 'none in it'})")
    return table


def _calibrated(card: Mapping[str, Any]) -> Iterator[float]:
    """The days of the card's overall calibration, whatever else stands there."""
    match card.get("metrics"):
        case {"calibration": {"overall": list(points)}}:
            for point in points:
                match point:
                    case {"days": float() | int() as days, "observed": float() | int()}:
                        yield float(days)
