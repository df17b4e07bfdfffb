"""FHIR R4 Bundles: one JSON document a file, entries decoded one by one."""

__all__ = ["read"]

from collections.abc import Iterator
from typing import Final

import msgspec

from harmonize.errors import SourceError
from harmonize.events import Issue, Item, Pointer
from harmonize.mapping import Bundles
from harmonize.profile import Profile
from harmonize.resources import Bundle
from harmonize.sources.depth import DEEPEST, nested, steep
from harmonize.sources.fhir import Reader, Undecodable
from harmonize.sources.files import Readable, Strikes, opened
from harmonize.sources.text import without_mark
from harmonize.sources.typed import foreign, release_of

MAX_BYTES: Final = 256 << 20  # one Bundle is decoded in memory; larger exports come as NDJSON

_BUNDLE = msgspec.json.Decoder(Bundle)


def read(source: Readable, mapping: Bundles, profile: Profile, reader: Reader | None = None) -> Iterator[Item]:
    """Read one Bundle file, or gzip of one.

    Args:
        source: a path, or a stream of bytes.
        mapping: which identifier is the hospital's own.
        profile: codes to look for.
        reader: of the source that this file belongs to, which then finishes it; its own if None.

    Raises:
        SourceError: not JSON, not a Bundle, of another FHIR release, too large, or more than 1 % of its
            entries unreadable.
    """
    with opened(source) as (stream, name):
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise SourceError(f"{name}: larger than {MAX_BYTES >> 20} MiB; export as NDJSON instead")
    raw, marked = without_mark(raw, name)
    if marked:
        yield Issue("byte-order-mark", Pointer(name))
    own = Reader(mapping.patient, profile) if reader is None else reader
    yield from _entries(_decode(raw, name), own, name)
    if reader is None:
        yield from own.finish()


def _entries(bundle: Bundle, reader: Reader, name: str) -> Iterator[Item]:
    strikes = Strikes(name, "entry")
    ignored: set[bytes] = set()  # types of which one was looked at: they may betray another release
    for number, entry in enumerate(bundle.entry, start=1):
        resource = entry.resource
        if resource is msgspec.UNSET:  # a deletion or a bare response
            continue
        if (kind := foreign(resource)) is not None:
            if kind in ignored and not reader.line_by_line:  # whole JSON, as the Bundle was
                reader.ignore(name, number)
                strikes.total += 1
                continue
            ignored.add(kind)
        try:
            items = reader.items(resource, name, number, entry.full_url)
        except Undecodable as error:
            yield error.issue
            strikes.strike(number)
        else:
            strikes.total += 1
            if items:
                yield from items
    strikes.verdict()


def _decode(raw: bytes, name: str) -> Bundle:
    if steep(raw) and nested(raw) > DEEPEST:
        raise SourceError(f"{name}: is nested deeper than {DEEPEST} levels; not an export")
    try:
        if not raw.isascii():
            raw.decode()  # fields that are skipped are not looked at by the decoder
        bundle = _BUNDLE.decode(raw)
    except msgspec.ValidationError:
        raise SourceError(f"{name}: not a FHIR Bundle; a mapping of format bundle reads Bundles only") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceError(f"{name}: not JSON, not UTF-8, or cut off; export the file again") from None
    if release := release_of(bundle):
        raise SourceError(f"{name}: the Bundle is FHIR {release}; export as FHIR R4 (4.0.1)")
    if bundle.resource_type != "Bundle":
        raise SourceError(f"{name}: not a FHIR Bundle; a mapping of format bundle reads Bundles only")
    return bundle
