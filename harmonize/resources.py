"""The parts of FHIR R4 resources that a profile can use, decoded lazily and typed.

Partial on purpose: names, addresses and narrative have no field here, so they are never in memory as objects.
Fields that only R5 or STU3 have are listed to recognise a wrong version, and are never decoded.
"""

__all__ = [
    "Bundle",
    "CodeableConcept",
    "Coding",
    "Condition",
    "Encounter",
    "Head",
    "Observation",
    "ObservationPart",
    "Patient",
    "Quantity",
    "Reference",
    "Resource",
    "decode",
    "wrong_version",
]

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

# A field whose content is of no interest, only that it is there.
Mark = Raw | UnsetType


class _Part(Struct, frozen=True, rename="camel"):
    """Unknown fields are skipped without being decoded."""


class Coding(_Part, frozen=True):
    """A code of a system."""

    system: str | None = None
    code: str | None = None


class CodeableConcept(_Part, frozen=True):
    """All codings are searched, not only the first."""

    coding: tuple[Coding, ...] = ()


class Identifier(_Part, frozen=True):
    """A business identifier."""

    system: str | None = None
    value: str | None = None


class Reference(_Part, frozen=True):
    """Literal or logical."""

    reference: str | None = None
    identifier: Identifier | None = None


class Period(_Part, frozen=True):
    """Start and end as FHIR dateTimes."""

    start: str | None = None
    end: str | None = None


class Quantity(_Part, frozen=True):
    """`value` is a JSON number: text such as "13,5" is a type error."""

    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    code: str | None = None


class Meta(_Part, frozen=True):
    """Version of the resource and the profiles that it claims."""

    last_updated: str | None = None
    profile: tuple[str, ...] = ()


class Patient(_Part, frozen=True):
    """Who, born when, alive or not."""

    id: str | None = None
    meta: Meta | None = None
    identifier: tuple[Identifier, ...] = ()
    gender: str | None = None
    birth_date: str | None = None
    deceased_boolean: bool | None = None
    deceased_date_time: str | None = None
    modifier_extension: Mark = UNSET
    animal: Mark = UNSET  # STU3


class Condition(_Part, frozen=True):
    """A diagnosis and since when."""

    subject: Reference | None = None
    code: CodeableConcept | None = None
    verification_status: CodeableConcept | str | None = None  # str: STU3
    onset_date_time: str | None = None
    onset_period: Period | None = None
    recorded_date: str | None = None
    modifier_extension: Mark = UNSET
    asserted_date: Mark = UNSET  # STU3
    context: Mark = UNSET  # STU3
    participant: Mark = UNSET  # R5


class ObservationPart(_Part, frozen=True):
    """A code and its value: the Observation itself, or one of its components."""

    code: CodeableConcept | None = None
    value_quantity: Quantity | None = None
    value_codeable_concept: CodeableConcept | None = None
    data_absent_reason: CodeableConcept | None = None


class Observation(ObservationPart, frozen=True):
    """A measurement."""

    subject: Reference | None = None
    status: str | None = None
    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: Period | None = None
    component: tuple[ObservationPart, ...] = ()
    modifier_extension: Mark = UNSET
    context: Mark = UNSET  # STU3
    triggered_by: Mark = UNSET  # R5
    body_structure: Mark = UNSET  # R5


class Encounter(_Part, frozen=True):
    """A contact: evidence that the patient was alive."""

    subject: Reference | None = None
    status: str | None = None
    period: Period | None = None
    modifier_extension: Mark = UNSET
    class_: Mark = msgspec.field(default=UNSET, name="class")  # a list in R5
    actual_period: Mark = UNSET  # R5
    incoming_referral: Mark = UNSET  # STU3


class Entry(_Part, frozen=True):
    """One entry of a Bundle; the resource stays bytes until somebody wants it."""

    full_url: str | None = None
    resource: Mark = UNSET


class Bundle(_Part, frozen=True):
    """A list of entries."""

    resource_type: str
    type: str | None = None
    meta: Meta | None = None
    entry: tuple[Entry, ...] = ()
    issues: Mark = UNSET  # R5


class Head(_Part, frozen=True):
    """What every resource has."""

    resource_type: str
    meta: Meta | None = None
    fhir_version: str | None = None  # CapabilityStatement


Resource = Patient | Condition | Observation | Encounter

_HEAD = msgspec.json.Decoder(Head)
_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "Patient": msgspec.json.Decoder(Patient),
    "Condition": msgspec.json.Decoder(Condition),
    "Observation": msgspec.json.Decoder(Observation),
    "Encounter": msgspec.json.Decoder(Encounter),
}
_R5_MARKS: Final = ("triggered_by", "body_structure", "actual_period", "participant", "issues")
_STU3_MARKS: Final = ("animal", "asserted_date", "context", "incoming_referral")
# HL7's own profile addresses carry the version either as a folder or after a bar.
_PROFILE_VERSION = re.compile(
    r"http://hl7\.org/fhir/(?:(?P<folder>[0-9]\.[0-9])/)?StructureDefinition/[^|]*(?:\|(?P<bar>[0-9]\.[0-9]))?.*"
)
_RELEASES: Final = {"3.0": "STU3", "5.0": "R5", "6.0": "R6"}


def decode(raw: bytes | Raw) -> tuple[Head, Resource | None]:
    """Decode one resource.

    Returns:
        its head, and the resource if it is of a type that profiles use.

    Raises:
        msgspec.ValidationError: a field has another type than R4 says; the message has the path, never the
        value. msgspec.DecodeError: not JSON.
        RecursionError: nested absurdly deep.
    """
    head = _HEAD.decode(raw)
    decoder = _DECODERS.get(head.resource_type)
    return head, None if decoder is None else decoder.decode(raw)


def wrong_version(head: Head | Bundle, resource: Resource | Bundle | None) -> str | None:
    """How a resource shows that it is not FHIR R4, as "R5 (Encounter.actualPeriod)"; None if it may be R4."""
    version = head.fhir_version if isinstance(head, Head) else None
    if version and (release := _RELEASES.get(version[:3])):
        return f"{release} (fhirVersion)"
    for profile in head.meta.profile if head.meta else ():
        match = _PROFILE_VERSION.fullmatch(profile)
        if match and (release := _RELEASES.get(match["folder"] or match["bar"] or "")):
            return f"{release} (meta.profile)"
    for release, marks in (("R5", _R5_MARKS), ("STU3", _STU3_MARKS)):
        for mark in marks:
            if getattr(resource, mark, UNSET) is not UNSET:
                return f"{release} ({head.resource_type}.{_camel(mark)})"
    if isinstance(resource, Encounter) and resource.class_ is not UNSET and bytes(resource.class_)[:1] == b"[":
        return "R5 (Encounter.class is a list)"
    if isinstance(resource, Condition) and isinstance(resource.verification_status, str):
        return "STU3 (Condition.verificationStatus is a code)"
    return None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
