"""Write a table as FHIR Bundles or CSV, and a profile's views, into a new folder: whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from harmonize import export, synthetic, views
from harmonize.parquet import reader
from harmonize.profile import Profile, load
from harmonize.table import Table
from nodes import files
from nodes.errors import ConfigError, DataProblem, StorageProblem

__all__ = ["Form", "export_table", "export_views", "profile_name", "refuse_any", "write_folder"]

# A table may come from anywhere, and its pids become names of files and cells of a CSV file.
_PID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Form(StrEnum):
    """What a table can become."""

    FHIR = "fhir"
    CSV = "csv"


def export_table(
    source: Path,
    profile_name: str,
    form: Form,
    system: str,
    target: Path,
    *,
    beside: Callable[[Mapping[str, Any] | None], Mapping[str, bytes]] = lambda _: {},
) -> int:
    """Write a table, with the mapping file that reads it back; return the number of patients.

    Args:
        source: a canonical table (Parquet).
        profile_name: the profile that it was made under.
        form: FHIR Bundles, one file a patient, or one CSV file.
        system: identifier system of the exported patients.
        target: folder, which must not exist yet.
        beside: from where a synthetic table came from (None: it is none) to further files by name; may refuse.

    Raises:
        ConfigError: the identifier system is no text.
        DataProblem: (of harmonize, too) not a table, or of another profile; a pid that is no pseudonym.
        StorageProblem: the folder exists, or cannot be written.
    """
    if not system or not system.isprintable():
        raise ConfigError("the identifier system is one line of printable text, as urn:haemfed:synthetic")
    profile = load(profile_name)
    table = Table.from_parquet(files.read(source, limit=1 << 33), profile)
    if not all(map(_PID.fullmatch, table.pids)):
        raise DataProblem(f"{source.name}: its pids are no pseudonyms (letters, digits, _ . -); nothing is exported")
    more = beside(synthetic.provenance_of(table))
    found = _bundles(table, profile, system) if form is Form.FHIR else _csv(table, system)
    write_folder(target, chain(more.items(), found))
    return len(table)


def profile_name(source: Path) -> str:
    """The profile that a table says it was made under; whether that is so is checked when it is read.

    Raises:
        StorageProblem: it cannot be read.
        DataProblem: not a canonical table.
    """
    with files.storage_errors(source), source.open("rb") as stream:
        try:
            metadata = reader(stream).schema_arrow.metadata or {}
            return str(json.loads(metadata[b"haemfed"])["profile"])
        except (pa.ArrowException, KeyError, TypeError, ValueError):
            raise DataProblem(f"{source.name}: not a canonical table; nothing is exported") from None


def export_views(profile_name: str, target: Path) -> int:
    """Write a profile's SQL-on-FHIR ViewDefinitions; return how many.

    Raises:
        ProfileError: there is no such profile.
        StorageProblem: the folder exists, or cannot be written.
    """
    found = [(f"{view['name']}.json", _json(view)) for view in views.views(load(profile_name))]
    write_folder(target, found)
    return len(found)


def _bundles(table: Table, profile: Profile, system: str) -> Iterable[tuple[str, bytes]]:
    yield (
        "mapping.toml",
        f'format = "bundle"\nprofile = {json.dumps(profile.profile)}\nfiles = ["*.json"]\n\n'
        f"[patient]\nsystem = {json.dumps(system, ensure_ascii=False)}\n".encode(),
    )
    for bundle in export.bundles(table, system):
        yield f"{bundle['id']}.json", _json(bundle)


def _csv(table: Table, system: str) -> Iterable[tuple[str, bytes]]:
    exported = export.delimited(table, system)
    return [("patients.csv", exported.csv.encode()), ("mapping.toml", exported.mapping.encode())]


def _json(resource: object) -> bytes:
    return (json.dumps(resource, ensure_ascii=False, indent=1) + "\n").encode()


def refuse_any(target: Path) -> None:
    """Refuse to write where something is.

    Raises:
        StorageProblem: a file, a folder or a link is there.
    """
    if target.exists() or target.is_symlink():
        raise StorageProblem(f"{target}: exists; name one that does not, an export replaces nothing")


def write_folder(target: Path, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write files into a new folder, mode 0700: who finds the folder finds all of it.

    Args:
        target: what must not exist yet; its parents are made.
        contents: names and bytes.

    Raises:
        StorageProblem: it exists, or cannot be written.
    """
    refuse_any(target)
    partial = target.with_name(f".{target.name}.partial")
    with files.storage_errors(partial):
        shutil.rmtree(partial, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)  # refuses a link that somebody left there: it would lead the patients elsewhere
    try:
        for name, octets in contents:
            files.write(partial / name, octets, private=True)
        with files.storage_errors(target):
            partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
