"""Sources: FHIR Bundles, FHIR NDJSON and CSV, each an iterator of the same items.

`read` serves a whole source folder; `bundle.read`, `ndjson.read` and `csv.read` one file or stream.
"""

from collections.abc import Iterator
from pathlib import Path

from harmonize.events import Item
from harmonize.mapping import Bundles, Csv, Mapping, Ndjson
from harmonize.profile import Profile
from harmonize.sources import bundle, csv, ndjson
from harmonize.sources.files import find

__all__ = ["bundle", "csv", "ndjson", "read"]


def read(folder: Path, mapping: Mapping, profile: Profile) -> Iterator[Item]:
    """Read every file that a mapping names, in the order of their names.

    Args:
        folder: the folder of the mapping file.
        mapping: from `harmonize.mapping.load`.
        profile: the study's profile.

    Raises:
        MappingError: a name matches no file, or a file lacks a mapped column.
        SourceError: a file cannot be read or trusted.
    """
    for path in find(folder, mapping.files):
        match mapping:
            case Bundles():
                yield from bundle.read(path, mapping, profile)
            case Ndjson():
                yield from ndjson.read(path, mapping, profile)
            case Csv():
                yield from csv.read(path, mapping, profile)
