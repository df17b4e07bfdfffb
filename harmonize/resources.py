"""The parts of FHIR R4 resources that a profile can use, decoded once, lazily and typed.

Partial on purpose: names, addresses and narrative have no field here, so they are never in memory as objects.
Fields that only R5 or STU3 have, and modifier extensions, are of a type that nothing fits: a resource that has one
fails to decode, and only then is it looked at closely (`harmonize.sources.typed`). What is as it should be pays nothing
for the check.
"""

__all__ = [
    "Bundle",
    "Code",
    "CodeableConcept",
    "Coding",
    "Concept",
    "Condition",
    "Contained",
    "DiagnosticReport",
    "Encounter",
    "Entry",
    "Extension",
    "Foreign",
    "Head",
    "Identifier",
    "Mark",
    "Meta",
    "Observation",
    "ObservationPart",
    "Odd",
    "Patient",
    "Period",
    "Primitive",
    "Procedure",
    "Quantity",
    "Reference",
    "ReferenceRange",
    "Resource",
]

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

# A field whose content is of no interest, only that it is there.
Mark = Raw | UnsetType
# A field that must not be there: no JSON fits the type.
Never = Literal["\0 never"] | UnsetType


class _Part(Struct, frozen=True, rename="camel", gc=False):
    """Unknown fields are skipped without being decoded."""


class Coding(_Part, frozen=True, gc=False):
    """A code of a system. `display` is looked at only to find contradictions; codes decide."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodeableConcept(_Part, frozen=True, gc=False):
    """All codings are searched, not only the first."""

    coding: tuple[Coding, ...] = ()
    text: str | None = None


class Code(_Part, frozen=True, gc=False):
    """A code of a system where nobody asks for its display: of every Observation there is."""

    system: str | None = None
    code: str | None = None


class Concept(_Part, frozen=True, gc=False):
    """What a resource is about: all codings are searched, not only the first."""

    coding: tuple[Code, ...] = ()


class Extension(_Part, frozen=True, gc=False):
    """Of the extensions only the reason of an absent value is read."""

    url: str | None = None
    value_code: str | None = None


class Primitive(_Part, frozen=True, gc=False):
    """What stands beside a primitive value, in `_valueInteger` and the like."""

    extension: tuple[Extension, ...] = ()


class Identifier(_Part, frozen=True, gc=False):
    """A business identifier."""

    system: str | None = None
    value: str | None = None


class Reference(_Part, frozen=True, gc=False):
    """Literal or logical."""

    reference: str | None = None
    identifier: Identifier | None = None


class Period(_Part, frozen=True, gc=False):
    """Start and end as FHIR dateTimes."""

    start: str | None = None
    end: str | None = None


class Quantity(_Part, frozen=True, gc=False):
    """`value` is a JSON number: text such as "13,5" is a type error."""

    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    code: str | None = None
    extension: tuple[Extension, ...] = ()
    beside_value: Primitive | None = msgspec.field(default=None, name="_value")


class ReferenceRange(_Part, frozen=True, gc=False):
    """What the laboratory calls normal; also the shape of a Range."""

    low: Quantity | None = None
    high: Quantity | None = None


class Meta(_Part, frozen=True, gc=False):
    """Version of the resource and the profiles that it claims."""

    last_updated: str | None = None
    profile: tuple[str, ...] = ()


class _Resource(_Part, frozen=True, gc=False, tag_field="resourceType"):
    """What resources of every type have."""

    id: str | None = None
    meta: Meta | None = None
    modifier_extension: Never = UNSET


class Patient(_Resource, frozen=True, gc=False, tag="Patient"):
    """Who, born when, alive or not."""

    identifier: tuple[Identifier, ...] = ()
    gender: str | None = None
    birth_date: str | None = None
    deceased_boolean: bool | None = None
    deceased_date_time: str | None = None
    animal: Never = UNSET  # STU3


class Condition(_Resource, frozen=True, gc=False, tag="Condition"):
    """A diagnosis and since when."""

    subject: Reference | None = None
    contained: Mark = UNSET
    code: Concept | None = None
    verification_status: Concept | None = None  # a string in STU3
    onset_date_time: str | None = None
    onset_period: Period | None = None
    recorded_date: str | None = None
    asserted_date: Never = UNSET  # STU3
    context: Never = UNSET  # STU3
    participant: Never = UNSET  # R5


class ObservationPart(_Part, frozen=True, gc=False):
    """A code and its value: the Observation itself, or one of its components."""

    code: Concept | None = None
    value_quantity: Quantity | None = None
    value_codeable_concept: CodeableConcept | None = None
    value_string: str | None = None
    value_integer: int | None = None
    value_boolean: bool | None = None
    value_range: ReferenceRange | None = None
    beside_value_string: Primitive | None = msgspec.field(default=None, name="_valueString")
    beside_value_integer: Primitive | None = msgspec.field(default=None, name="_valueInteger")
    beside_value_boolean: Primitive | None = msgspec.field(default=None, name="_valueBoolean")
    data_absent_reason: Concept | None = None
    interpretation: tuple[CodeableConcept, ...] = ()
    reference_range: tuple[ReferenceRange, ...] = ()
    modifier_extension: Never = UNSET


class Observation(ObservationPart, frozen=True, gc=False, tag="Observation", tag_field="resourceType"):
    """A measurement."""

    id: str | None = None
    meta: Meta | None = None
    subject: Reference | None = None
    contained: Mark = UNSET
    status: str | None = None
    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: Period | None = None
    component: tuple[ObservationPart, ...] = ()
    context: Never = UNSET  # STU3
    triggered_by: Never = UNSET  # R5
    body_structure: Never = UNSET  # R5


class DiagnosticReport(_Resource, frozen=True, gc=False, tag="DiagnosticReport"):
    """Only a container: what it has of Observations inside is read, and what they leave to it."""

    subject: Reference | None = None
    contained: Mark = UNSET
    status: str | None = None
    effective_date_time: str | None = None
    effective_period: Period | None = None
    context: Never = UNSET  # STU3


class Procedure(_Resource, frozen=True, gc=False, tag="Procedure"):
    """What was done and when; R5 renamed `performed`, and both names are read."""

    subject: Reference | None = None
    contained: Mark = UNSET
    status: str | None = None
    code: Concept | None = None
    performed_date_time: str | None = None
    performed_period: Period | None = None
    occurrence_date_time: str | None = None
    occurrence_period: Period | None = None
    context: Never = UNSET  # STU3
    not_done: Never = UNSET  # STU3


class Encounter(_Resource, frozen=True, gc=False, tag="Encounter"):
    """A contact: evidence that the patient was alive."""

    subject: Reference | None = None
    contained: Mark = UNSET
    status: str | None = None
    period: Period | None = None
    class_: Coding | None = msgspec.field(default=None, name="class")  # a list in R5
    actual_period: Never = UNSET  # R5
    incoming_referral: Never = UNSET  # STU3


class Entry(_Part, frozen=True, gc=False):
    """One entry of a Bundle; the resource stays bytes until somebody wants it."""

    full_url: str | None = None
    resource: Mark = UNSET


class Bundle(_Part, frozen=True, gc=False):
    """A list of entries."""

    resource_type: str
    type: str | None = None
    meta: Meta | None = None
    entry: tuple[Entry, ...] = ()
    issues: Mark = UNSET  # R5


class Head(_Part, frozen=True, gc=False):
    """What every resource has."""

    resource_type: str
    meta: Meta | None = None
    fhir_version: str | None = None  # CapabilityStatement


class Odd(Head, frozen=True, gc=False):
    """Everything that betrays another release, and modifier extensions."""

    modifier_extension: Mark = UNSET
    actual_period: Mark = UNSET
    animal: Mark = UNSET
    asserted_date: Mark = UNSET
    body_structure: Mark = UNSET
    context: Mark = UNSET
    incoming_referral: Mark = UNSET
    not_done: Mark = UNSET
    participant: Mark = UNSET
    triggered_by: Mark = UNSET
    class_: Mark = msgspec.field(default=UNSET, name="class")
    verification_status: Mark = UNSET


class Contained(_Part, frozen=True, gc=False):
    """A contained resource as far as a reference to it can use it."""

    resource_type: str
    id: str | None = None
    identifier: tuple[Identifier, ...] | Raw = ()  # one object in some types


Resource = Patient | Condition | Observation | Procedure | Encounter | DiagnosticReport
"""The types that profiles use."""


class Foreign(Struct, frozen=True, gc=False):
    """A resource of a type that profiles do not use."""

    resource_type: str
