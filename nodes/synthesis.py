"""Synthetic patients from a released generator: drawn, kept by the rules, written with where they came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import models.errors
from harmonize import synthetic
from harmonize.profile import Profile
from models.cards import profile_of, protection
from models.container import contents, read
from models.data import Bool, SurvivalData
from models.generators import file
from models.generators.generator import LARGEST, sample
from nodes import files
from nodes.errors import ConfigError, DataProblem
from nodes.exporting import Form, export_table, profile_name

__all__ = ["Asked", "Drawn", "draw", "export", "opened", "protection"]

SYSTEM: Final = "urn:haemfed:synthetic"
SIDECAR: Final = "provenance.json"
_VECTORS: Final = 1 << 27  # numbers of feature vectors in one table


@dataclass(frozen=True)
class Asked:
    """What a person asks for.

    Args:
        patients: 1 … `models.generators.generator.LARGEST`; fewer where the profile has long vectors.
        seed: public, 0 … 2⁶³ − 1.
        variables: to write; None: all that the generator has.
        complete: every value observed.
    """

    patients: int
    seed: int
    variables: tuple[str, ...] | None = None
    complete: bool = False


@dataclass(frozen=True)
class Drawn:
    """What was written.

    Args:
        path: the table.
        patients: rows.
        variables: columns with values.
        drawn: patients drawn for it.
        rejected: of those, how many broke a rule.
        protection: one line, as `protection`.
    """

    path: Path
    patients: int
    variables: int
    drawn: int
    rejected: int
    protection: str


@dataclass(frozen=True)
class Model:
    """A generator's file, read.

    Args:
        generator: the generator.
        card: its card.
        profile: that it was trained under.
        sha256: of the file, hex.
    """

    generator: file.StoredGenerator
    card: Mapping[str, Any]
    profile: Profile
    sha256: str


def opened(path: Path) -> Model:
    """Read a generator's file.

    Raises:
        ArtefactError: damaged, or no generator.
        DataProblem: its profile is not one of this version, or has not the generator's columns.
    """
    data = read(path)
    generator, card = file.from_bytes(data)
    profile = profile_of(card)
    known = {variable.name for variable in profile.scalars}
    if lacking := [name for name in generator.dictionary.names if name not in known]:
        raise DataProblem(f"{path.name}: draws {', '.join(lacking)}, which profile {profile.profile} does not have")
    return Model(generator, card, profile, hashlib.sha256(data).hexdigest())


def draw(model: Model, asked: Asked, target: Path, *, force: bool = False) -> Drawn:
    """Draw a table and write it, mode 0600.

    Guarantee: everything in it is a function of the model, the seed and the version of this software; drawing and
        refusing patients who cannot be is post-processing and costs no privacy.

    Args:
        model: from `opened`.
        asked: how many of what.
        target: the Parquet file; its folder exists.
        force: replace the file.

    Raises:
        ConfigError: a number out of range, or a variable that the generator lacks.
        DataProblem: hardly any patient keeps the rules.
        StorageProblem: the file exists, or cannot be written. Nothing was replaced.
    """
    files.refuse_existing(target, force=force)
    names = model.generator.dictionary.names
    kept = _chosen(asked.variables, names)
    most = _most(model.profile)
    if not 1 <= asked.patients <= most:
        raise ConfigError(f"--patients takes 1 to {most:,} here; draw several tables with other seeds for more")
    if not 0 <= asked.seed < 2**63:
        raise ConfigError("--seed takes a whole number from 0 to 2^63 - 1")
    generator = _completed(model.generator) if asked.complete else model.generator
    rule = _Rule(model.profile, names)
    try:
        found = sample(generator, asked.patients, asked.seed, rule)
    except models.errors.ConfigError as error:
        raise DataProblem(str(error)) from error
    table = synthetic.table_of(
        model.profile, names, found.x, found.observed, found.duration, found.event,
        pids=synthetic.pseudonyms(generator.digest, asked.seed, asked.patients),
        provenance=_provenance(model, asked, kept, rule), kept=kept,
    )  # fmt: skip
    files.write(target, table.to_parquet_bytes(), private=True)
    return Drawn(target, len(table), len(kept), rule.drawn, rule.rejected, protection(model.card))


def export(source: Path, form: Form, target: Path) -> int:
    """Write a synthetic table as FHIR or CSV into a new folder; return the number of patients.

    A CSV has `SIDECAR` beside it; a Bundle carries its origin in `meta`.

    Raises:
        DataProblem: no canonical table (of a model file, says what that holds), or one of real patients:
            `haemfed harmonize export` is for those.
        StorageProblem: the folder exists, or cannot be written.
    """
    try:
        name = profile_name(source)
    except DataProblem as error:
        if held := contents(read(source)):
            raise DataProblem(f"{source.name}: no table but {held}") from error
        raise

    def origin(found: Mapping[str, Any] | None) -> Mapping[str, bytes]:
        if found is None:
            raise DataProblem(
                f"{source.name}: is not marked as synthetic, so it may hold patients; use haemfed harmonize export"
            )
        text = json.dumps(found, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
        return {SIDECAR: text.encode()} if form is Form.CSV else {}

    return export_table(source, name, form, SYSTEM, target, beside=origin)


class _Rule:
    """The clinical rules, counting whom they refuse."""

    def __init__(self, profile: Profile, names: Sequence[str]) -> None:
        self._profile, self._names = profile, names
        self.drawn = self.rejected = 0

    def __call__(self, data: SurvivalData) -> Bool:
        broken = synthetic.broken(self._profile, self._names, data.x, data.observed)
        self.drawn += len(data)
        self.rejected += int(broken.sum())
        return broken


def _chosen(variables: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    if variables is None:
        return tuple(names)
    if not variables or len(set(variables)) != len(variables):
        raise ConfigError("--variables names at least one variable, and each once")
    if unknown := [name for name in variables if name not in names]:
        raise ConfigError(f"the generator has no {', '.join(unknown)}; it has {', '.join(names)}")
    return tuple(variables)


def _most(profile: Profile) -> int:
    """Patients that a table of this profile holds in memory: an empty vector takes its room, too."""
    return min(LARGEST, _VECTORS // max(sum(feature.length for feature in profile.features), 1))


def _completed(generator: file.StoredGenerator) -> file.StoredGenerator:
    # Every learner is a dataclass with this field; the protocol cannot say so.
    return cast("file.StoredGenerator", dataclasses.replace(cast("Any", generator), complete=True))


def _provenance(model: Model, asked: Asked, kept: Sequence[str], rule: _Rule) -> dict[str, object]:
    return {
        "synthetic": True,
        "model": model.generator.digest,
        "model_file_sha256": model.sha256,
        "learner": model.generator.learner,
        "profile": model.card["profile"],
        "study": model.card.get("study"),
        "privacy": model.card.get("privacy"),
        "protection": protection(model.card),
        "patients": asked.patients,
        "seed": asked.seed,
        "variables": list(kept),
        "complete": asked.complete,
        "drawn": rule.drawn,
        "rejected": rule.rejected,
        "software": f"haemfed {version('haemfed')}",
    }
