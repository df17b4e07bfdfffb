"""Strict mode: what is wrong with a resource by the whole of FHIR R4B, beyond what a profile uses.

Structure and types are judged by `fhir.resources.R4B`. It checks neither required bindings nor invariants, so those of
the fields that profiles use are checked here. Strict mode adds findings; it never changes the table.
"""

__all__ = ["Strict"]

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from harmonize.errors import ConfigError
from harmonize.events import Issue, Pointer

# Required bindings of FHIR 4.0.1, by resource type and field.
_BINDINGS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = MappingProxyType(
    {
        "Patient": {"gender": frozenset({"male", "female", "other", "unknown"})},
        "Observation": {
            "status": frozenset(
                {
                    "registered",
                    "preliminary",
                    "final",
                    "amended",
                    "corrected",
                    "cancelled",
                    "entered-in-error",
                    "unknown",
                }
            )
        },
        "Encounter": {
            "status": frozenset(
                {
                    "planned",
                    "arrived",
                    "triaged",
                    "in-progress",
                    "onleave",
                    "finished",
                    "cancelled",
                    "entered-in-error",
                    "unknown",
                }
            )
        },
        "Procedure": {
            "status": frozenset(
                {
                    "preparation",
                    "in-progress",
                    "not-done",
                    "on-hold",
                    "stopped",
                    "completed",
                    "entered-in-error",
                    "unknown",
                }
            )
        },
    }
)
_COMPARATORS: Final = frozenset({"<", "<=", ">=", ">"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9]{0,63}")


class Strict:
    """Judges resources one by one.

    Raises:
        ConfigError: `fhir.resources` is not installed.
    """

    def __init__(self) -> None:
        try:
            # Takes a second and 60 MB, so only who asks for strict mode pays.
            from fhir.resources.R4B import get_fhir_model_class  # noqa: PLC0415
        except ImportError:
            raise ConfigError("strict mode needs fhir.resources; install haemfed[strict], or leave it out") from None
        self._model = get_fhir_model_class

    def issues(self, raw: bytes | msgspec.Raw, file: str, number: int) -> Iterator[Issue]:
        """What is wrong with one resource; nothing if it cannot be read at all, which others say."""
        try:
            resource = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(kind, str):
            return
        try:
            model = self._model(kind)
        except (KeyError, ValueError):
            yield Issue("resource-unknown", Pointer(file, number))
            return
        for path in self._structure(model, bytes(raw)):
            yield Issue("strict-invalid", Pointer(file, number, path))
        for code, path in (*_bindings(kind, resource), *_invariants(kind, resource)):
            yield Issue(code, Pointer(file, number, path))

    def _structure(self, model: Any, raw: bytes) -> list[str]:
        try:
            model.model_validate_json(raw)
        except ValidationError as error:
            # Only place and kind: pydantic's texts echo the input.
            found = error.errors(include_input=False, include_url=False, include_context=False)
            return sorted({_path(finding["loc"], finding["type"]) for finding in found})
        except Exception:  # noqa: BLE001  it raises KeyError, TypeError and others on odd input, inside contained parts
            return ["$"]
        return []


def _path(place: tuple[int | str, ...], kind: str) -> str:
    """A JSON path; of an unknown field its parent's, for a field's name may be anything."""
    parts = place[:-1] if kind == "extra_forbidden" else place
    path = "$"
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _NAME.fullmatch(part):
            path += f".{part}"
    return path


def _bindings(kind: str, resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, values in _BINDINGS.get(kind, {}).items():
        value = resource.get(field)
        if isinstance(value, str) and value not in values:
            yield "strict-binding", f"$.{field}"
    if kind == "Observation":
        for path, part in _parts(resource):
            quantity = part.get("valueQuantity")
            comparator = quantity.get("comparator") if isinstance(quantity, dict) else None
            if comparator is not None and comparator not in _COMPARATORS:
                yield "strict-binding", f"{path}.valueQuantity.comparator"


def _invariants(kind: str, resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """obs-6: a reason only where there is no value; obs-7: no value beside a component of the same code."""
    if kind != "Observation":
        return
    for path, part in _parts(resource):
        if "dataAbsentReason" in part and _valued(part):
            yield "strict-invariant", f"{path} (obs-6)"
    components = resource.get("component")
    if _valued(resource) and isinstance(components, list) and "code" in resource:
        for number, component in enumerate(components):
            if isinstance(component, dict) and component.get("code") == resource["code"]:
                yield "strict-invariant", f"$.component[{number}] (obs-7)"


def _parts(resource: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "$", resource
    components = resource.get("component")
    for number, component in enumerate(components if isinstance(components, list) else ()):
        if isinstance(component, dict):
            yield f"$.component[{number}]", component


def _valued(part: Mapping[str, Any]) -> bool:
    return any(field.startswith("value") for field in part)
