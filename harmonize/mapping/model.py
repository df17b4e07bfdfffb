"""What a mapping file may say: one class for each format of a source."""

__all__ = [
    "Bulk",
    "Bundles",
    "Column",
    "Csv",
    "CsvPatient",
    "Dialect",
    "Features",
    "FhirPatient",
    "Long",
    "Mapping",
    "Ndjson",
    "Redcap",
    "Server",
    "Source",
    "Variants",
]

from collections.abc import Mapping as ReadOnlyMapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from harmonize.dates import DateFormat
from harmonize.pseudonyms import normalised
from harmonize.variables import Sha256

Text = Annotated[str, StringConstraints(min_length=1)]


def _text(given: object) -> object:
    # TOML has numbers and truths, cells have texts: people write present = 1 and codes = { x = true }.
    if isinstance(given, bool):
        return str(given).lower()
    return str(given) if isinstance(given, int) else given


def _texts(given: object) -> object:
    many = given if isinstance(given, list | tuple) else (given,)
    return tuple(_text(each) for each in many)


CellText = Annotated[Text, BeforeValidator(_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_texts)]
Reason = Literal["not-recorded", "unknown", "not-tested"]


def _date_format(form: object) -> object:
    if isinstance(form, str):
        DateFormat.parse(form)  # ValueError: says what a format may be
    return form


DateForm = Annotated[Text, BeforeValidator(_date_format)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def inside(name: str) -> str:
    """A path that stays in the mapping file's folder. Raises ValueError."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
        raise ValueError("must lie beside or below the mapping file, with / between folders")
    return name


class _Source(_Closed):
    files: tuple[Text, ...] = Field(min_length=1)  # names or glob patterns, beside or below the mapping file

    @field_validator("files")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(inside(name) for name in files)


class _Patient(_Closed):
    system: Text

    def key(self, identifier: str) -> str:
        """The key by which facts of any source of this mapping name a patient: as a FHIR logical reference."""
        return f"{self.system}|{normalised(identifier)}"


class FhirPatient(_Patient):
    """Which identifier is the hospital's own: the one of `system`, or the resource's id."""

    identifier: Literal["identifier", "resource-id"] = "identifier"


class CsvPatient(_Patient):
    """The column with the hospital's patient identifier, and the identifier's system."""

    column: Text


class Dialect(_Closed):
    """How the file is written. Nothing of it is guessed."""

    encoding: Text = "utf-8"
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", "'", " "] | None = None
    date_format: DateForm = "%Y-%m-%d"  # of every date column that declares none itself
    # Cell text -> what it means; an empty cell always means "not-recorded".
    missing: ReadOnlyMapping[str, Reason] = {}
    true: Texts = ()  # cell texts of every yes/no column that declares none itself
    false: Texts = ()

    @model_validator(mode="after")
    def _distinct(self) -> "Dialect":
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands must differ")
        return self


class Column(_Closed):
    """Where one variable, outcome or fact stands.

    Attributes:
        column: the header's name (wide).
        code: what the code column says (long); several spellings in a list.
        unit, unit_column: exactly one of them for measurements; a fraction's unit for allele fractions.
        date_column: day of the measurement; without it: at diagnosis.
        date_format: of this column, or of its date_column; else of the dialect.
        codes: cell text -> category of the profile, panel, or true/false.
        present, absent: cell texts of a yes/no column; the same as codes with true and false.
        checkboxes: column -> category, for a category spread over check-boxes; `checked` says when one is ticked.
        tested_column, tested: with the finding blank or "absent", only who has `tested` here is tested negative.
        event_column: yes/no column of an outcome; `column` is then its date or duration.
        missing: cell text -> reason, for this column instead of the dialect's.
        event, instrument: of REDCap: the rows in which this column counts.
    """

    column: Text | None = None
    code: Texts = ()
    unit: Text | None = None
    unit_column: Text | None = None
    date_column: Text | None = None
    date_format: DateForm | None = None
    codes: ReadOnlyMapping[str, CellText] = {}
    present: Texts = ()
    absent: Texts = ()
    checkboxes: ReadOnlyMapping[Text, Text] = {}
    checked: Texts = ("1", "Checked")
    tested_column: Text | None = None
    tested: Texts = ()
    event_column: Text | None = None
    missing: ReadOnlyMapping[str, Reason] | None = None
    event: Texts = ()
    instrument: Text | None = None

    @property
    def truths(self) -> dict[str, str]:
        """Cell text -> "true" or "false" (or a category), from `codes`, `present` and `absent`."""
        return {**self.codes, **dict.fromkeys(self.present, "true"), **dict.fromkeys(self.absent, "false")}


class Long(_Closed):
    """The columns of a long file: one row a measurement."""

    code: Text  # says what was measured
    value: Text
    unit: Text | None = None
    date: Text | None = None
    date_format: DateForm | None = None


class Redcap(_Closed):
    """A REDCap export with several rows a patient: events, repeating instruments."""

    event: Texts = ()  # rows of these events count; all if empty


class Bundles(_Source):
    """FHIR R4 Bundles, one JSON document a file."""

    format: Literal["bundle"]
    patient: FhirPatient


class Ndjson(_Source):
    """FHIR R4 resources, one a line."""

    format: Literal["ndjson"]
    patient: FhirPatient


class Bulk(_Source):
    """FHIR R4 bulk export: `files` is its manifest, which lists the NDJSON files beside it."""

    format: Literal["bulk"]
    patient: FhirPatient


class Server(_Closed):
    """A FHIR R4 server, searched for the profile's cohort.

    Attributes:
        url: base address, https.
        token_file: file beside or below the mapping file that holds a bearer token and nothing else.
        ca_file: certificates to trust instead of the system's.
        page_size: resources that are asked for at once.
    """

    format: Literal["fhir-server"]
    patient: FhirPatient
    url: Text
    token_file: Text | None = None
    ca_file: Text | None = None
    page_size: int = Field(default=500, ge=1, le=10_000)

    @field_validator("token_file", "ca_file")
    @classmethod
    def _beside(cls, name: str | None) -> str | None:
        return None if name is None else inside(name)


class Csv(_Source):
    """A delimited text file: wide (one row a patient), long (one row a measurement) or of REDCap."""

    format: Literal["csv"]
    patient: CsvPatient
    csv: Dialect = Dialect()
    layout: Literal["wide", "long"] = "wide"
    long: Long | None = None
    redcap: Redcap | None = None
    columns: ReadOnlyMapping[str, Column]


class Variants(_Source):
    """A delimited text file with one row a variant: MAF, or a laboratory's list.

    Attributes:
        gene, protein, coding, effect, vaf: names of columns; `gene` holds symbols or HGNC ids.
        vaf_unit: of the allele fractions.
        panel: panel of the profile that the patients of this file had: its other genes are tested negative.
        everyone_tested: whether patients of the mapping who have no row here had the panel, too.
        tandem_duplications: whether the panel was also read for FLT3-ITD and KMT2A-PTD: most callers do not see them.
    """

    format: Literal["variants"]
    patient: CsvPatient
    csv: Dialect = Dialect()
    gene: Text
    protein: Text | None = None
    coding: Text | None = None
    effect: Text | None = None
    vaf: Text | None = None
    vaf_unit: Literal["fraction", "percent"] | None = None
    panel: Text | None = None
    everyone_tested: bool = False
    tandem_duplications: bool = False


class Features(_Source):
    """Parquet files with feature vectors of one variable: histopathology embeddings, radiomics.

    Attributes:
        variable: a features variable of the profile.
        column: the list column; None if the profile names one column a number.
        encoder, encoder_sha256, settings_sha256: how the numbers were made; must be the profile's. What the mapping
            leaves out must be in the file's Parquet metadata under the same name.
    """

    format: Literal["features"]
    patient: CsvPatient
    variable: Text
    column: Text | None = None
    encoder: Text | None = None
    encoder_sha256: Sha256 | None = None
    settings_sha256: Sha256 | None = None


Source = Bundles | Ndjson | Bulk | Server | Csv | Variants | Features


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping file that fits its profile: where a site's data lie, in the order of the file."""

    profile: str
    sources: tuple[Source, ...]

    @property
    def formats(self) -> tuple[str, ...]:
        """The format of each source."""
        return tuple(source.format for source in self.sources)
