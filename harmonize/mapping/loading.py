"""From TOML text to a mapping that fits its profile."""

__all__ = ["load", "loads"]

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from harmonize.errors import MappingError
from harmonize.mapping.fitting import fit
from harmonize.mapping.model import (
    Bulk,
    Bundles,
    Column,
    Csv,
    CsvPatient,
    Dialect,
    Features,
    FhirPatient,
    Long,
    Mapping,
    Ndjson,
    Redcap,
    Server,
    Source,
    Variants,
)
from harmonize.mapping.names import nearest
from harmonize.profile import Profile

_ADAPTER: TypeAdapter[Source] = TypeAdapter(Annotated[Source, Field(discriminator="format")])
_CLASSES: Final[dict[str, type[BaseModel]]] = {
    "bundle": Bundles,
    "ndjson": Ndjson,
    "bulk": Bulk,
    "fhir-server": Server,
    "csv": Csv,
    "variants": Variants,
    "features": Features,
}
_PARTS: Final[dict[str, type[BaseModel]]] = {"csv": Dialect, "long": Long, "redcap": Redcap, "columns": Column}


def load(path: Path, profile: Profile) -> Mapping:
    """Read a mapping file.

    Raises:
        MappingError: missing, not TOML, an unknown key, or not fitting the profile; names the file and the
            key, and the nearest known name.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MappingError(f"{path.name}: not found; write a mapping file beside the data") from None
    except UnicodeDecodeError:
        raise MappingError(f"{path.name}: not UTF-8; save the mapping file as UTF-8") from None
    except OSError as error:
        raise MappingError(f"{path.name}: {error.strerror}; give the mapping file, not its folder") from None
    return loads(text, profile, name=path.name)


def loads(text: str, profile: Profile, name: str = "mapping.toml") -> Mapping:
    """As `load`, from text."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{name}: not TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of 4,300 digits, a thousand brackets
        raise MappingError(f"{name}: not a mapping file: nested too deep, or an absurd number") from None
    declared = raw.pop("profile", None)
    if not isinstance(declared, str):
        raise MappingError(f'{name}: profile is missing; write profile = "{profile.profile}"')
    sources = tuple((place, _source(table, f"{name}: {place}")) for place, table in _tables(raw, name))
    if declared != profile.profile:
        raise MappingError(f"{name}: profile is {declared}, the study uses {profile.profile}")
    fit(sources, profile, name)
    return Mapping(declared, tuple(source for _, source in sources))


def _tables(raw: dict[str, Any], name: str) -> list[tuple[str, Any]]:
    """(place for messages, table) of each source: one of the flat form, or each [[source]]."""
    if "source" not in raw:
        return [("", raw)]
    tables = raw.pop("source")
    if raw:
        raise MappingError(
            f"{name}: {next(iter(raw))}: stands beside [[source]]; only profile may, all else belongs into a [[source]]"
        )
    if not isinstance(tables, list) or not tables:
        raise MappingError(f"{name}: source: write [[source]], with two brackets, once for each source")
    return [(f"source {number}: ", table) for number, table in enumerate(tables, start=1)]


def _source(table: object, place: str) -> Source:
    if not isinstance(table, dict):
        raise MappingError(f"{place}source: write [[source]], with two brackets, once for each source")
    try:
        return _ADAPTER.validate_python(table)
    except ValidationError as error:
        findings = "; ".join(_finding(part, table) for part in error.errors(include_url=False))
        raise MappingError(f"{place}{findings}") from None


def _finding(part: Any, table: dict[str, Any]) -> str:
    place, message = part["loc"], str(part["msg"]).removeprefix("Value error, ")
    # pydantic puts the union member's name first; a reader of the file has never heard of it.
    if place and place[0] == table.get("format"):
        place = place[1:]
    if part["type"] == "extra_forbidden":
        message = f"unknown key{_known_keys(table, place)}"
    return f"{'.'.join(str(each) for each in place) or 'format'}: {message}"


def _known_keys(table: dict[str, Any], place: tuple[str | int, ...]) -> str:
    """The nearest key that may stand at a place."""
    if len(place) == 1:
        part: type[BaseModel] = _CLASSES[table["format"]]
    elif place[0] == "patient":
        part = FhirPatient if table["format"] in {"bundle", "ndjson", "bulk", "fhir-server"} else CsvPatient
    else:
        part = _PARTS[str(place[0])]
    return nearest(str(place[-1]), part.model_fields)
