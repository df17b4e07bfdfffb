"""Check digits of the two terminologies that have one, and the shapes of the others.

They catch typing mistakes in a profile before a hospital's data silently fails to match it. They do not prove
that a code means what its comment says.
"""

__all__ = ["RULES", "loinc_is_well_formed", "snomed_is_well_formed"]

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

_LOINC = re.compile(r"[1-9][0-9]{0,6}-[0-9]", re.ASCII)
_SNOMED = re.compile(r"[1-9][0-9]{5,17}", re.ASCII)

# The dihedral group D5 and Verhoeff's permutation (J. Verhoeff, Error Detecting Decimal Codes, 1969), the
# check that SNOMED CT identifiers carry (SNOMED CT Release File Specification, "Check-digit").
_D5 = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_PERMUTATION = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def loinc_is_well_formed(code: str) -> bool:
    """Whether `code` has the shape of a LOINC code and its last digit is the Luhn (mod 10) digit of the rest.

    >>> loinc_is_well_formed("6690-2"), loinc_is_well_formed("6690-3"), loinc_is_well_formed("74455-8")
    (True, False, False)
    """
    if not _LOINC.fullmatch(code):
        return False
    body, check = code.split("-")
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return (total + int(check)) % 10 == 0


def snomed_is_well_formed(code: str) -> bool:
    """Whether `code` has the shape of a SNOMED CT identifier and its Verhoeff digit is right.

    >>> snomed_is_well_formed("91861009"), snomed_is_well_formed("444360002")
    (True, False)
    """
    if not _SNOMED.fullmatch(code):
        return False
    state = 0
    for place, digit in enumerate(reversed(code)):
        state = int(_D5[state][int(_PERMUTATION[place % 8][int(digit)])])
    return state == 0


def _shaped(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda code: compiled.fullmatch(code) is not None


RULES: Final[Mapping[str, Callable[[str], bool]]] = MappingProxyType(
    {
        "http://loinc.org": loinc_is_well_formed,
        "http://snomed.info/sct": snomed_is_well_formed,
        "http://hl7.org/fhir/sid/icd-10": _shaped(r"[A-Z][0-9]{2}(\.[0-9]{1,2})?"),
        "http://hl7.org/fhir/sid/icd-10-cm": _shaped(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?"),
        "http://fhir.de/CodeSystem/bfarm/icd-10-gm": _shaped(r"[A-Z][0-9]{2}(\.[0-9]{1,2})?"),
        "http://www.orpha.net": _shaped(r"[1-9][0-9]{0,5}"),
        "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl": _shaped(r"C[1-9][0-9]{2,6}"),
        "urn:haemfed:codesystem:variables": _shaped(r"[a-z][a-z0-9]*(-[a-z0-9]+)*"),
    }
)
"""URI of a code system -> whether a code can be one of it: check digit where there is one, else shape."""
