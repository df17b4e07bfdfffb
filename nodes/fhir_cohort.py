"""What of a FHIR server belongs to a cohort: a few searches that a profile determines.

1. Conditions with a code of the index diagnosis say who the patients are.
2. Patient, and of these patients alone: Observations and Procedures with codes that the profile knows, Conditions of
   its other outcomes, Encounters.

Nobody else's record is asked for. Resources come as streams of lines, nothing is written to disk.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from harmonize.mapping import Server
from harmonize.profile import Profile
from nodes import files
from nodes.errors import ConfigError, DataProblem
from nodes.fhir_client import FhirClient, Limits

__all__ = ["fetching", "streams"]

_AT_ONCE: Final = 40  # patients of one search: servers bound the length of a list
_CODES_AT_ONCE: Final = 60
_GENETICS: Final = ("69548-6", "53041-0", "33893-9", "29770-5", "62356-1")
_LOINC: Final = "http://loinc.org"
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")


class _Reference(Struct, frozen=True):
    reference: str | None = None


class _Subject(Struct, frozen=True):
    subject: _Reference | None = None


_SUBJECT: Final = msgspec.json.Decoder(_Subject)


def fetching(folder: Path, profile: Profile) -> Callable[[Server], Iterator[BinaryIO]]:
    """Return what searches the servers of a mapping file.

    Args:
        folder: of the mapping file: token and certificates lie beside it.
        profile: says who belongs to the cohort and what of them is asked for.
    """
    hosts: Counter[str] = Counter()

    def fetch(source: Server) -> Iterator[BinaryIO]:
        token = None
        if source.token_file is not None:
            token = files.read_private(folder / source.token_file, limit=1 << 16).decode("ascii", "replace").strip()
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise ConfigError(f"{source.token_file}: holds no bearer token; it is one line, without 'Bearer'")
        verify = True if source.ca_file is None else str(folder / source.ca_file)
        with FhirClient(source.url, token=token, limits=Limits(page=source.page_size), verify=verify) as client:
            hosts[client.name] += 1
            again = hosts[client.name]
            yield from streams(client, profile, client.name if again == 1 else f"{client.name} ({again})")

    return fetch


def streams(client: FhirClient, profile: Profile, server: str = "") -> Iterator[BinaryIO]:
    """Yield one stream of NDJSON for each resource type; each has a `name` for reports and is to be read to its end.

    Names differ: a fact is known by stream and line, and one that is withdrawn must take no other with it.

    Args:
        client: of the server.
        profile: says who belongs to the cohort and what of them is asked for.
        server: what reports call it; its host if "".

    Raises:
        DataProblem: as `FhirClient.search`, while a stream is read; nobody has the diagnosis.
    """
    client.require_r4()
    server = server or client.name
    patients: dict[str, None] = {}
    yield _stream(f"Condition (diagnosis) of {server}", _diagnoses(client, profile, patients))
    if not patients:
        raise DataProblem(f"{client.name}: no Condition with a diagnosis of {profile.profile}; check codes and token")
    groups = list(_grouped(list(patients), _AT_ONCE))
    yield _stream(f"Patient of {server}", _found(client, "Patient", [{"_id": ",".join(group)} for group in groups]))
    for kind, codes in _wanted(profile).items():
        searches = [
            {"patient": ",".join(group)} | ({"code": ",".join(part)} if part else {})
            for group in groups
            for part in (_grouped(codes, _CODES_AT_ONCE) if codes else [[]])
        ]
        yield _stream(f"{kind} of {server}", _found(client, kind, searches))


def _wanted(profile: Profile) -> dict[str, list[str]]:
    """Resource type → codes to ask for, as `system|code`; no codes: all resources of the patients."""
    observations = [
        *(f"{system}|{code}" for system, code in profile.coded),
        *(f"{_LOINC}|{code}" for code in _GENETICS),
    ]
    wanted = {"Observation": sorted(set(observations)), "Encounter": []}
    for outcome in profile.outcomes:
        found = [f"{profile.systems[system]}|{code}" for system, codes in outcome.codes.items() for code in codes]
        if found:
            kind = outcome.resource.title()
            wanted[kind] = sorted({*wanted.get(kind, []), *found})
    return wanted


def _diagnoses(client: FhirClient, profile: Profile, patients: dict[str, None]) -> Iterator[bytes]:
    """Conditions of the index diagnosis; who has one is written down."""
    codes = sorted(f"{system}|{code}" for system, code in profile.diagnoses)
    for line in _found(client, "Condition", [{"code": ",".join(part)} for part in _grouped(codes, _CODES_AT_ONCE)]):
        try:
            subject = _SUBJECT.decode(line).subject
        except msgspec.DecodeError:
            subject = None
        place, _, identifier = (subject.reference or "" if subject else "").rpartition("Patient/")
        identifier = identifier.split("/_history/")[0]
        # Anything else would be read as more of the search: "," begins another patient.
        if _ID.fullmatch(identifier) and (not place or place.endswith("/")):
            patients.setdefault(identifier)
        yield line


def _found(client: FhirClient, kind: str, searches: Iterable[dict[str, str]]) -> Iterator[bytes]:
    for search in searches:
        yield from client.search(kind, search)


def _grouped(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _stream(name: str, lines: Iterator[bytes]) -> BinaryIO:
    return io.BufferedReader(_Lines(name, lines), buffer_size=1 << 18)


class _Lines(io.RawIOBase):
    """Lines of an iterator as a stream of octets."""

    def __init__(self, name: str, lines: Iterator[bytes]) -> None:
        self.name = name
        self._lines = lines
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: WriteableBuffer
        while not self._rest:
            line = next(self._lines, None)
            if line is None:
                return 0
            self._rest = line + b"\n"
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
