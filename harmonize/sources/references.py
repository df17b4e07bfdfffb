"""Who a resource is about: one key for every way of pointing to a Patient."""

__all__ = ["References"]

import re
from typing import Final

from msgspec import UNSET

from harmonize.mapping import FhirPatient
from harmonize.resources import Mark, Reference
from harmonize.sources.typed import decode_contained

_PATIENT: Final = re.compile(r"(?:.*/)?(Patient/[A-Za-z0-9.-]{1,64})(?:/_history/.*)?")
_MOST: Final = 1 << 16  # texts remembered; then the memory is cleared: it must not grow with the file


class References:
    """Keys of patients, each text worked out once.

    | reference | key |
    |---|---|
    | `Patient/1`, `https://…/Patient/1`, `Patient/1/_history/3` | `Patient/1` |
    | `urn:uuid:…` | itself: the fullUrl of a Bundle's entry |
    | logical, by identifier | `system|value` |
    | `#p` | `system|value` of the contained Patient's only identifier |
    | conditional (`Patient?identifier=…`), nothing | None |
    """

    def __init__(self, mapping: FhirPatient) -> None:
        self._mapping = mapping
        self.known: dict[str | None, str] = {}

    def key(self, subject: Reference | None, contained: Mark = UNSET) -> str | None:
        """The key that a reference means, or None if it leads nowhere."""
        if subject is None:
            return None
        text = subject.reference
        if text:
            known = self.known.get(text)
            return self._literal(text, contained) if known is None else known
        if subject.identifier is not None and subject.identifier.value:
            return f"{subject.identifier.system or ''}|{subject.identifier.value}"
        return None

    def _literal(self, text: str, contained: Mark) -> str | None:
        if text.startswith("#"):  # means another Patient in every resource: never remembered
            found = None if contained is UNSET else decode_contained(contained, text[1:])
            return None if found is None or not found.value else f"{found.system or ''}|{found.value}"
        if "?" in text:
            return None
        match = _PATIENT.fullmatch(text)
        key = match[1] if match else text
        if len(self.known) >= _MOST:
            self.known.clear()
        self.known[text] = key
        return key
