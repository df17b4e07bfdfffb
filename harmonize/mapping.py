"""The mapping file: what a hospital's data manager writes to say how one source is to be read (TOML)."""

__all__ = ["Bundles", "Column", "Csv", "FhirPatient", "Mapping", "Ndjson", "load", "loads"]

import difflib
import re
import tomllib
from collections.abc import Iterable
from collections.abc import Mapping as ReadOnlyMapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from harmonize.errors import MappingError
from harmonize.events import FACTS, Fact
from harmonize.profile import CodeVariable, LabVariable, Profile
from harmonize.units import factor

Text = Annotated[str, StringConstraints(min_length=1)]
# The only directives that a date may use: %y would guess the century.
_DATE_DIRECTIVES = frozenset({"%d", "%m", "%Y"})


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Source(_Closed):
    profile: Text
    files: tuple[Text, ...] = Field(min_length=1)  # names or glob patterns, beside or below the mapping file

    @field_validator("files")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for name in files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise ValueError("must lie beside or below the mapping file, with / between folders")
        return files


class FhirPatient(_Closed):
    """Which identifier is the hospital's own: the one of `system`, or the resource's id."""

    system: Text
    identifier: Literal["identifier", "resource-id"] = "identifier"


class CsvPatient(_Closed):
    """The column with the hospital's patient identifier, and the identifier's system."""

    system: Text
    column: Text


class Dialect(_Closed):
    """How the file is written. Nothing of it is guessed."""

    encoding: Text = "utf-8"
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", "'", " "] | None = None
    # Cell text -> what it means; an empty cell always means "not-recorded".
    missing: ReadOnlyMapping[str, Literal["not-recorded", "unknown", "not-tested"]] = {}


class Column(_Closed):
    """Where one variable or fact stands."""

    column: Text
    unit: Text | None = None
    unit_column: Text | None = None
    date_column: Text | None = None  # day of the measurement; without it: at diagnosis
    date_format: Text = "%Y-%m-%d"  # of this column, or of its date_column
    codes: ReadOnlyMapping[str, str] = {}  # cell text -> category of the profile, or true/false for `deceased`

    @field_validator("date_format")
    @classmethod
    def _known_directives(cls, form: str) -> str:
        directives = set(re.findall(r"%.", form))
        if not {"%Y"} <= directives <= _DATE_DIRECTIVES:
            raise ValueError("may use %d, %m and %Y only, and needs %Y")
        return form


class Bundles(_Source):
    """FHIR R4 Bundles, one JSON document a file."""

    format: Literal["bundle"]
    patient: FhirPatient


class Ndjson(_Source):
    """FHIR R4 bulk export: one resource a line."""

    format: Literal["ndjson"]
    patient: FhirPatient


class Csv(_Source):
    """A delimited text file with one row a patient."""

    format: Literal["csv"]
    patient: CsvPatient
    csv: Dialect = Dialect()
    columns: ReadOnlyMapping[str, Column]


Mapping = Bundles | Ndjson | Csv
_ADAPTER: TypeAdapter[Mapping] = TypeAdapter(Annotated[Mapping, Field(discriminator="format")])


def load(path: Path, profile: Profile) -> Mapping:
    """Read a mapping file.

    Raises:
        MappingError: missing, not TOML, an unknown key, or not fitting the profile; names the file and the
            key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MappingError(f"{path.name}: not found; write a mapping file beside the data") from None
    except UnicodeDecodeError:
        raise MappingError(f"{path.name}: not UTF-8; save the mapping file as UTF-8") from None
    return loads(text, profile, name=path.name)


def loads(text: str, profile: Profile, name: str = "mapping.toml") -> Mapping:
    """As `load`, from text."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{name}: not TOML: {error}") from None
    try:
        mapping = _ADAPTER.validate_python(raw)
    except ValidationError as error:
        findings = "; ".join(_finding(part["loc"], part["msg"]) for part in error.errors(include_input=False))
        raise MappingError(f"{name}: {findings}") from None
    if mapping.profile != profile.profile:
        raise MappingError(f"{name}: profile is {mapping.profile}, the study uses {profile.profile}")
    if isinstance(mapping, Csv):
        _fit(mapping, profile, name)
    return mapping


def _finding(place: tuple[str | int, ...], message: str) -> str:
    # pydantic puts the union member's name first; a reader of the file has never heard of it.
    parts = [str(part) for part in place if part not in {"csv", "bundle", "ndjson"} or len(place) == 1]
    if place[:2] == ("csv", "csv"):
        parts.insert(0, "csv")
    if message.startswith("Extra inputs"):
        message = "unknown key"
    return f"{'.'.join(parts) or 'format'}: {message.removeprefix('Value error, ')}"


def _fit(mapping: Csv, profile: Profile, name: str) -> None:
    """What the types cannot say: every column serves the profile and says all that its kind needs."""
    known = {*profile.names, *FACTS}
    for target, column in mapping.columns.items():
        if target not in known:
            hint = nearest(target, known)
            raise MappingError(f"{name}: columns.{target}: no such variable in {profile.profile}{hint}")
        if problem := _misfit(target, column, profile):
            raise MappingError(f"{name}: columns.{target}{problem}")
    if Fact.INDEX_DATE not in mapping.columns:
        raise MappingError(f"{name}: columns.index_date is missing; without a date of diagnosis there is no cohort")


def _misfit(target: str, column: Column, profile: Profile) -> str | None:
    variable = profile.variable(target) if target in profile.names else None
    if isinstance(variable, LabVariable):
        if (column.unit is None) == (column.unit_column is None):
            return ": give either unit or unit_column"
        if column.unit is not None and factor(column.unit, variable) is None:
            return f".unit: {column.unit!r} is not a unit of {target}{nearest(column.unit, variable.units)}"
    elif column.unit is not None or column.unit_column is not None or column.date_column is not None:
        return ": takes neither unit nor date_column"
    if isinstance(variable, CodeVariable):
        categories = {*variable.values, *variable.unused}
    else:
        categories = {"true", "false"} if target == Fact.DECEASED else set()
    if wrong := sorted(set(column.codes.values()) - categories):
        return f".codes: {wrong[0]!r} is not one of: {', '.join(sorted(categories)) or '(takes no codes)'}"
    if target == Fact.DECEASED and not column.codes:
        return ".codes: say which cell texts mean true and which mean false"
    return None


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A hint for a message: the known name that looks most like a wrong one."""
    match = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else f"; known: {', '.join(sorted(known))}"
