"""FHIR R4 Bundles: one JSON document a file, entries decoded one by one."""

__all__ = ["read"]

from collections.abc import Iterator
from typing import Final

import msgspec

from harmonize.errors import SourceError
from harmonize.events import Issue, Item, Pointer
from harmonize.mapping import Bundles
from harmonize.profile import Profile
from harmonize.resources import Bundle, Head, wrong_version
from harmonize.sources.fhir import Undecodable, translate
from harmonize.sources.files import Readable, Strikes, opened
from harmonize.sources.text import without_mark

MAX_BYTES: Final = 256 << 20  # one Bundle is decoded in memory; larger exports come as NDJSON

_BUNDLE = msgspec.json.Decoder(Bundle)


def read(source: Readable, mapping: Bundles, profile: Profile) -> Iterator[Item]:
    """Read one Bundle file.

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
    bundle = _decode(raw, name)
    strikes = Strikes(name, "entry")
    for number, entry in enumerate(bundle.entry, start=1):
        if entry.resource is msgspec.UNSET:  # a deletion or a bare response
            continue
        where = Pointer(name, number)
        try:
            yield from translate(entry.resource, where, mapping.patient, profile, entry.full_url)
        except Undecodable as error:
            yield error.issue
            strikes.strike(number)
        else:
            strikes.good()
    strikes.verdict()


def _decode(raw: bytes, name: str) -> Bundle:
    try:
        bundle = _BUNDLE.decode(raw)
    except msgspec.ValidationError:
        raise SourceError(f"{name}: not a FHIR Bundle; a mapping of format bundle reads Bundles only") from None
    except (msgspec.DecodeError, RecursionError):
        raise SourceError(f"{name}: not JSON, not UTF-8, or cut off; export the file again") from None
    if release := wrong_version(Head(bundle.resource_type, bundle.meta), bundle):
        raise SourceError(f"{name}: the Bundle is FHIR {release}; export as FHIR R4 (4.0.1)")
    if bundle.resource_type != "Bundle":
        raise SourceError(f"{name}: not a FHIR Bundle; a mapping of format bundle reads Bundles only")
    return bundle
