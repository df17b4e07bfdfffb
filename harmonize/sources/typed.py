"""From JSON to typed resources: one decoding each, and a close look only at what does not decode."""

__all__ = [
    "Modified",
    "OtherRelease",
    "contained_observations",
    "decode",
    "decode_contained",
    "decode_foreign",
    "decode_lines",
    "foreign",
    "release_of",
]

import re
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from harmonize.resources import Bundle, Contained, Foreign, Head, Identifier, Meta, Observation, Odd, Resource


class OtherRelease(Exception):  # noqa: N818  reads as the fact it states
    """A resource is not FHIR R4; the text says what it is and how it showed, as "R5 (Encounter.actualPeriod)"."""


class Modified(Exception):  # noqa: N818  reads as the fact it states
    """A resource has a modifier extension."""


_RESOURCE: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Resource)
_HEAD: Final = msgspec.json.Decoder(Head)
_ODD: Final = msgspec.json.Decoder(Odd)
_PARTS: Final = msgspec.json.Decoder(tuple[Raw, ...])
_CONTAINED: Final = msgspec.json.Decoder(tuple[Contained, ...])
_USED: Final = frozenset({"Patient", "Condition", "Observation", "Procedure", "Encounter", "DiagnosticReport"})
_USED_BYTES: Final = frozenset(name.encode() for name in _USED)
_TYPE: Final = re.compile(rb'\s*\{\s*"resourceType"\s*:\s*"([A-Za-z]{1,64})"')
_MARKS: Final = {
    "Patient": {"animal": "STU3"},
    "Condition": {"asserted_date": "STU3", "context": "STU3", "participant": "R5"},
    "Observation": {"context": "STU3", "triggered_by": "R5", "body_structure": "R5"},
    "Procedure": {"context": "STU3", "not_done": "STU3"},
    "DiagnosticReport": {"context": "STU3"},
    "Encounter": {"incoming_referral": "STU3", "actual_period": "R5"},
}
# HL7's own profile addresses carry the version either as a folder or after a bar.
_PROFILE_VERSION = re.compile(
    r"http://hl7\.org/fhir/(?:(?P<folder>[0-9]\.[0-9])/)?StructureDefinition/[^|]*(?:\|(?P<bar>[0-9]\.[0-9]))?.*"
)
_RELEASES: Final = {"3.0": "STU3", "5.0": "R5", "6.0": "R6"}


def decode(raw: bytes | Raw) -> Resource | Foreign:
    """Decode one resource.

    Raises:
        OtherRelease: it is of FHIR STU3, R5 or R6.
        Modified: it has a modifier extension, or one of its components has.
        msgspec.ValidationError: a field has another type than R4 says; the message has the path, and may have the
            value: take the path only.
        msgspec.DecodeError, UnicodeDecodeError: not JSON, not UTF-8.
        RecursionError: nested absurdly deep.
    """
    if foreign(raw) is None:
        try:
            resource: Resource = _RESOURCE.decode(raw)
        except msgspec.ValidationError as error:
            return _explained(raw, error)
        if resource.meta is not None and resource.meta.profile:
            _refuse_release(resource.meta)
        return resource
    return _foreign(_HEAD.decode(raw))


def decode_lines(lines: bytes) -> list[Resource]:
    """Decode lines that all hold resources of used types, as fast as can be; else raise something.

    Blank lines are left out, so compare the counts before counting lines.

    Raises:
        Exception: as `decode`; then decode them one by one to learn which one and why.
    """
    found: list[Resource] = _RESOURCE.decode_lines(lines)
    for resource in found:
        if resource.meta is not None and resource.meta.profile:
            _refuse_release(resource.meta)
    return found


def decode_foreign(lines: bytes) -> int | None:
    """The number of resources in lines none of which holds a used type; None if one does."""
    heads = _HEAD.decode_lines(lines)
    for head in heads:
        if head.resource_type in _USED:
            return None
        _foreign(head)
    return len(heads)


def foreign(raw: bytes | Raw) -> bytes | None:
    """The type of a resource that says with its first key that profiles do not use it; else None."""
    match = _TYPE.match(raw)
    return match[1] if match is not None and match[1] not in _USED_BYTES else None


def decode_contained(raw: Raw, name: str) -> Identifier | None:
    """The identifier of a contained Patient.

    Args:
        raw: `contained` of a resource.
        name: the id, as in a reference "#name".
    """
    try:
        found = [part for part in _CONTAINED.decode(raw) if part.id == name and part.resource_type == "Patient"]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if len(found) != 1 or isinstance(found[0].identifier, Raw) or len(found[0].identifier) != 1:
        return None
    return found[0].identifier[0]


def contained_observations(raw: Raw) -> list[Observation]:
    """The Observations among the resources inside another one.

    Args:
        raw: `contained` of a resource.

    Raises:
        OtherRelease, Modified, msgspec.DecodeError, UnicodeDecodeError, RecursionError: as `decode`, of any of them.
    """
    observed = (part for part in _PARTS.decode(raw) if _HEAD.decode(part).resource_type == "Observation")
    return [found for found in map(decode, observed) if isinstance(found, Observation)]


def release_of(bundle: Bundle) -> str | None:
    """How a Bundle shows that it is not FHIR R4; None if it may be."""
    if bundle.issues is not UNSET:
        return "R5 (Bundle.issues)"
    return _release_of_meta(bundle.meta)


def _foreign(head: Head) -> Foreign:
    if head.fhir_version and (release := _RELEASES.get(head.fhir_version[:3])):
        raise OtherRelease(f"{release} (fhirVersion)")
    if head.meta is not None and head.meta.profile:
        _refuse_release(head.meta)
    return Foreign(head.resource_type)


def _explained(raw: bytes | Raw, error: msgspec.ValidationError) -> Foreign:
    """Say why a resource did not decode, or that its type is not used."""
    odd = _ODD.decode(raw)
    if odd.resource_type not in _USED:
        return _foreign(odd)
    if odd.meta is not None:
        _refuse_release(odd.meta)
    for mark, release in _MARKS[odd.resource_type].items():
        if getattr(odd, mark) is not UNSET:
            raise OtherRelease(f"{release} ({odd.resource_type}.{_camel(mark)})")
    if odd.resource_type == "Encounter" and odd.class_ is not UNSET and bytes(odd.class_)[:1] == b"[":
        raise OtherRelease("R5 (Encounter.class is a list)")
    status = odd.verification_status
    if odd.resource_type == "Condition" and status is not UNSET and bytes(status)[:1] == b'"':
        raise OtherRelease("STU3 (Condition.verificationStatus is a code)")
    if odd.modifier_extension is not UNSET or "modifierExtension`" in str(error):
        raise Modified
    raise error


def _refuse_release(meta: Meta) -> None:
    if release := _release_of_meta(meta):
        raise OtherRelease(release)


def _release_of_meta(meta: Meta | None) -> str | None:
    for profile in meta.profile if meta else ():
        if release := _release_of_profile(profile):
            return f"{release} (meta.profile)"
    return None


@lru_cache(maxsize=1024)
def _release_of_profile(profile: str) -> str | None:
    match = _PROFILE_VERSION.fullmatch(profile)
    return _RELEASES.get(match["folder"] or match["bar"] or "") if match else None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
