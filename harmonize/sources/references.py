"""Who a resource is about: one key for every way of pointing to a Patient."""

__all__ = ["References"]

import re
from typing import Final

from msgspec import UNSET

from harmonize.mapping import FhirPatient
from harmonize.pseudonyms import normalised
from harmonize.resources import Identifier, Mark, Reference
from harmonize.sources.typed import decode_contained

_PATIENT: Final = re.compile(r"((?:.*/)?)(Patient/[A-Za-z0-9.-]{1,64})(?:/_history/.*)?")
_ENTRY: Final = re.compile(r"(https?://.*/)[A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_MOST: Final = 1 << 16  # texts remembered; then the memory is cleared: it must not grow with the file


class References:
    """Keys of patients, each text worked out once.

    | reference | key |
    |---|---|
    | `Patient/1`, `https://…/Patient/1`, `Patient/1/_history/3` | `Patient/1` |
    | `https://…/Patient/1` in a Bundle's entry whose fullUrl is on another server | itself |
    | `urn:uuid:…` | itself: the fullUrl of a Bundle's entry |
    | logical, by identifier | `system|value` |
    | `#p` | `system|value` of the contained Patient's only identifier |
    | conditional (`Patient?identifier=…`), nothing | None |
    """

    def __init__(self, mapping: FhirPatient) -> None:
        self._mapping = mapping
        self._base = ""
        self.known: dict[str | None, str] = {}

    def stand_in(self, full_url: str | None) -> None:
        """From now on references are those of an entry with this fullUrl; NDJSON has none, and no server is foreign."""
        match = _ENTRY.fullmatch(full_url) if full_url else None
        base = match[1] if match else ""
        if base != self._base:
            self._base = base
            self.known.clear()

    def key(self, subject: Reference | None, contained: Mark = UNSET) -> str | None:
        """The key that a reference means, or None if it leads nowhere."""
        if subject is None:
            return None
        text = subject.reference
        if text:
            known = self.known.get(text)
            return self._literal(text, contained) if known is None else known
        return _logical(subject.identifier)

    def _literal(self, text: str, contained: Mark) -> str | None:
        if text.startswith("#"):  # means another Patient in every resource: never remembered
            return None if contained is UNSET else _logical(decode_contained(contained, text[1:]))
        if "?" in text:
            return None
        match = _PATIENT.fullmatch(text)
        key = match[2] if match else text
        if match and self._base and "://" in match[1] and _server(match[1]) != _server(self._base):
            key = match[1] + match[2]
        if len(self.known) >= _MOST:
            self.known.clear()
        self.known[text] = key
        return key


def _server(base: str) -> str:
    return base.partition("://")[2].lower()  # one server may be called by http and by https


def _logical(identifier: Identifier | None) -> str | None:
    value = normalised(identifier.value or "") if identifier is not None else ""
    return f"{identifier.system or ''}|{value}" if identifier is not None and value else None
