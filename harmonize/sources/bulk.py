"""FHIR bulk exports: a manifest, and beside it the files that it lists (HL7 Bulk Data Access 2.0.0).

A server lists addresses; whoever downloads an export keeps the last part of each as the file's name. Nothing is fetched
here, and nothing outside the manifest's folder is opened.
"""

__all__ = ["read"]

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
from msgspec import Struct

from harmonize.errors import SourceError
from harmonize.events import Issue, Item, Pointer
from harmonize.mapping import Bulk
from harmonize.profile import Profile
from harmonize.sources import ndjson
from harmonize.sources.fhir import Reader
from harmonize.sources.files import Place, opened

_MOST: Final = 16 << 20  # bytes of a manifest or of a line
_SCHEME: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
_WAY_OUT: Final = "list names beside the manifest, or addresses as the server gave them"


class _File(Struct, frozen=True, rename="camel"):
    """One file of the export."""

    url: str
    count: int | None = None


class _Manifest(Struct, frozen=True, rename="camel"):
    """What the server says about an export."""

    transaction_time: str
    output: tuple[_File, ...]
    deleted: tuple[_File, ...] = ()
    error: tuple[_File, ...] = ()


class _Request(Struct, frozen=True):
    """What was done to a resource."""

    method: str = ""
    url: str = ""


class _Deletion(Struct, frozen=True):
    """One entry of a Bundle of deletions."""

    request: _Request = _Request()


class _Deletions(Struct, frozen=True):
    """One line of a file of deletions."""

    entry: tuple[_Deletion, ...] = ()


_MANIFEST: Final = msgspec.json.Decoder(_Manifest)
_DELETIONS: Final = msgspec.json.Decoder(_Deletions)


def read(manifests: Sequence[Place], mapping: Bulk, profile: Profile, reader: Reader | None = None) -> Iterator[Item]:
    """Read the exports of one hospital, oldest first.

    What a later export says is deleted is left out of it and of all earlier ones.

    Args:
        manifests: manifest files; what they list is named by its path from where their names begin.
        mapping: which identifier is the hospital's own.
        profile: codes to look for.
        reader: of the source that this file belongs to, which then finishes it; its own if None.

    Raises:
        SourceError: a manifest cannot be read; it lists a file that is missing, listed twice (in another manifest,
            too), outside its folder, or has another number of resources than it says; or a file cannot be trusted,
            see `ndjson.read`.
    """
    own = Reader(mapping.patient, profile) if reader is None else reader
    exports = sorted(((place, *_load(place)) for place in manifests), key=lambda export: (export[1], export[0].name))
    listed = [_local(place, manifest.output) for place, _, manifest in exports]
    _check_apart([(place, files) for (place, _, _), files in zip(exports, listed, strict=True)])
    deletions = [_deleted(place, manifest) for place, _, manifest in exports]
    for number, (place, _, manifest) in enumerate(exports):
        own.deleted = frozenset().union(*deletions[number:])
        for file in listed[number]:
            count = yield from ndjson.lines(file[0], own)
            if file[1].count is not None and file[1].count != count:
                raise SourceError(
                    f"{file[0].name}: {count} resources, and {place.name} says {file[1].count}; download it again"
                )
        for found, _ in _local(place, manifest.error):
            if problems := sum(1 for _ in _lines(found)):
                yield Issue("bulk-error", Pointer(found.name, 1), count=problems)
    own.deleted = frozenset()
    if reader is None:
        yield from own.finish()


def _load(place: Place) -> tuple[dt.datetime, _Manifest]:
    with opened(place) as (stream, name):
        raw = stream.read(_MOST + 1)
    if len(raw) > _MOST:
        raise SourceError(f"{name}: larger than {_MOST >> 20} MiB; not the manifest of a bulk export")
    try:
        manifest = _MANIFEST.decode(raw)
        moment = dt.datetime.fromisoformat(manifest.transaction_time)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise SourceError(f"{name}: not the manifest of a bulk export (transactionTime, output)") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC), manifest


def _local(manifest: Place, files: Sequence[_File]) -> list[tuple[Place, _File]]:
    """The files beside a manifest, each once, in its order."""
    folder = manifest.path.parent.resolve()
    found: dict[Path, _File] = {}
    seen: set[Path] = set()
    for number, file in enumerate(files, start=1):
        path = folder / _name(file.url, manifest.name, number)
        if not path.is_file() and path.with_name(f"{path.name}.gz").is_file():
            path = path.with_name(f"{path.name}.gz")
        end = path.resolve()  # a link may lead anywhere
        if not end.is_relative_to(folder):
            raise SourceError(f"{manifest.name}: file {number} lies outside its folder; {_WAY_OUT}")
        if not path.is_file():
            raise SourceError(f"{manifest.name}: file {number} is not beside it; download it, too")
        if end in seen:
            raise SourceError(f"{manifest.name}: file {number} is the same file as an earlier one; {_WAY_OUT}")
        seen.add(end)
        found[path] = file
    named = PurePosixPath(manifest.name).parent
    return [(Place(path, str(named / path.relative_to(folder).as_posix())), file) for path, file in found.items()]


def _check_apart(exports: Sequence[tuple[Place, Sequence[tuple[Place, _File]]]]) -> None:
    """Refuse a file of two exports: it can be of one of them only, and nothing says which was written over."""
    owners: dict[Path, str] = {}
    for manifest, files in exports:
        for place, _ in files:
            owner = owners.setdefault(place.path.resolve(), manifest.name)
            if owner != manifest.name:
                raise SourceError(
                    f"{manifest.name}: lists {place.name}, as {owner} does; keep each export in a folder of its own, "
                    "with one manifest"
                )


def _name(url: str, manifest: str, number: int) -> PurePosixPath:
    """Where a file lies below the manifest's folder."""
    address = _SCHEME.fullmatch(url)
    if address is not None:
        if address["name"].lower() not in {"http", "https"}:
            raise SourceError(f"{manifest}: file {number} is no web address and no name; {_WAY_OUT}")
        url = re.split("[?#]", address["rest"], maxsplit=1)[0].rpartition("/")[2]
    path = PurePosixPath(url)
    if not url or path.is_absolute() or ".." in path.parts or "\\" in url or "\0" in url or not path.name:
        raise SourceError(f"{manifest}: file {number} lies outside its folder; {_WAY_OUT}")
    return path


def _deleted(place: Place, manifest: _Manifest) -> frozenset[str]:
    """Each resource that a manifest says is deleted, as "Type/id"."""
    found: set[str] = set()
    for file, _ in _local(place, manifest.deleted):
        for number, line in enumerate(_lines(file), start=1):
            try:
                bundle = _DELETIONS.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # Half a list of deletions would bring back whom the hospital has deleted.
                raise SourceError(f"{file.name}: line {number} is no Bundle of deletions; download it again") from None
            found.update(
                "/".join(entry.request.url.split("/")[-2:])
                for entry in bundle.entry
                if entry.request.method == "DELETE"
            )
    return frozenset(found)


def _lines(place: Place) -> Iterator[bytes]:
    with opened(place) as (stream, name):
        while line := stream.readline(_MOST + 1):
            if len(line) > _MOST:
                raise SourceError(f"{name}: a line is longer than {_MOST >> 20} MiB; not an NDJSON export")
            if line.strip():
                yield line
