"""Sources: FHIR Bundles, exports and servers, CSV, variant and feature files, each an iterator of the same items.

`read` serves a whole source folder; `bundle.read`, `ndjson.read` and `csv.read` one file or stream.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from harmonize.errors import MisuseError
from harmonize.events import Item, PatientRecord, Pointer
from harmonize.mapping import Bulk, Bundles, Csv, Features, Mapping, Ndjson, Server, Source, Variants
from harmonize.profile import Profile
from harmonize.sources import bulk, bundle, csv, features, ndjson, variants
from harmonize.sources.fhir import Reader
from harmonize.sources.files import Place, find
from harmonize.sources.strict import Strict

__all__ = ["bulk", "bundle", "csv", "features", "ndjson", "read", "variants"]


Fetch = Callable[[Server], Iterable[BinaryIO]]
"""What a server has of the cohort: streams of NDJSON with a name each, read one after the other, each to its end."""


def read(
    folder: Path, mapping: Mapping, profile: Profile, *, strict: bool = False, fetch: Fetch | None = None
) -> Iterator[Item]:
    """Read every file that a mapping names: source by source, and in each in the order of their names.

    Feature files come last: they belong to the patients that the other sources have.

    Args:
        folder: the folder of the mapping file.
        mapping: from `harmonize.mapping.load`.
        profile: the study's profile.
        strict: judge every FHIR resource by the whole of FHIR R4B, too; adds findings, changes no table.
        fetch: searches FHIR servers; this package has no network.

    Raises:
        ConfigError: strict mode needs a package that is not installed.
        MappingError: a name matches no file, or a file lacks a mapped column.
        SourceError: a file cannot be read or trusted.
    """
    items = _chained(folder, mapping, profile, Strict() if strict else None, fetch)
    for source in mapping.sources:
        if isinstance(source, Variants) and source.everyone_tested:
            items = variants.everyone(items, source, profile)
    return items


def _chained(
    folder: Path, mapping: Mapping, profile: Profile, strict: Strict | None, fetch: Fetch | None
) -> Iterator[Item]:
    cohort: dict[str, Pointer] = {}
    features_wanted = any(isinstance(source, Features) for source in mapping.sources)
    for source in mapping.sources:
        if isinstance(source, Features):
            continue
        if isinstance(source, Server):
            items = _served(source, profile, strict, fetch)
        else:
            items = _items(find(folder, source.files), source, profile, strict)
        yield from (_noted(items, source, cohort) if features_wanted else items)
    for source in mapping.sources:
        if isinstance(source, Features):
            yield from features.read(find(folder, source.files), source, profile, cohort)


def _served(source: Server, profile: Profile, strict: Strict | None, fetch: Fetch | None) -> Iterator[Item]:
    if fetch is None:
        raise MisuseError("a FHIR server needs somebody who searches it")
    reader = Reader(source.patient, profile, strict)
    for stream in fetch(source):
        yield from ndjson.read(stream, source, profile, reader)
    yield from reader.finish()


def _noted(items: Iterator[Item], source: Source, cohort: dict[str, Pointer]) -> Iterator[Item]:
    """The same items; every patient whom they introduce is written down."""
    for item in items:
        if isinstance(item, PatientRecord):
            cohort.setdefault(source.patient.key(item.identifier), item.where)
        yield item


def _items(paths: list[Place], source: Source, profile: Profile, strict: Strict | None) -> Iterator[Item]:
    match source:
        case Bundles() | Ndjson() | Bulk():
            # One reader for all files: a resource may be in several of them.
            reader = Reader(source.patient, profile, strict)
            yield from _fhir(paths, source, profile, reader)
            yield from reader.finish()
        case Csv():
            for path in paths:
                yield from csv.read(path, source, profile)
        case Variants():
            for path in paths:
                yield from variants.read(path, source, profile)
        case _:
            raise MisuseError(f"no reader for {source.format}")


def _fhir(paths: list[Place], source: Bundles | Ndjson | Bulk, profile: Profile, reader: Reader) -> Iterator[Item]:
    match source:
        case Bulk():
            yield from bulk.read(paths, source, profile, reader)
        case Bundles():
            for path in paths:
                yield from bundle.read(path, source, profile, reader)
        case Ndjson():
            for path in paths:
                yield from ndjson.read(path, source, profile, reader)
