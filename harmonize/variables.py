"""The kinds of variables that a profile may hold.

| kind          | one patient's value                | states beside it that carry a value |
|---------------|------------------------------------|-------------------------------------|
| `lab`         | number in the canonical unit       | value, below limit, above limit     |
| `code`        | number of a category               | value                               |
| `derived`     | completed years                    | value                               |
| `cytogenetic` | 0 or 1; a class or count           | value, tested negative              |
| `variant`     | 0 or 1; an allele fraction         | value, tested negative              |
| `features`    | vector of `length` numbers         | value                               |

Field types are checked here, what they mean together by `harmonize.lint`. Numbers are decimals as written: no binary
fraction is ever part of a profile's digest.
"""

__all__ = [
    "Closed",
    "CodeVariable",
    "Coded",
    "Codes",
    "CytogeneticVariable",
    "DerivedVariable",
    "FeatureVariable",
    "Gene",
    "LabVariable",
    "MissingPolicy",
    "Name",
    "Number",
    "Range",
    "Scalar",
    "Scale",
    "Select",
    "Sha256",
    "Stated",
    "Tier",
    "Variable",
    "VariantVariable",
]

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints


def _exact(value: object) -> Decimal:
    # `_read` keeps numbers as written; a float of calling code is taken at its shortest decimal.
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic turns ValueError, not TypeError, into a finding
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("must be a number") from None
    if not number.is_finite():
        raise ValueError("must be a finite number")
    return number


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")


Number = Annotated[Decimal, BeforeValidator(_exact), PlainSerializer(_plain, return_type=str)]
Range = tuple[Number, Number]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Tier = Literal["A", "B", "C"]
Codes = Mapping[Name, tuple[Annotated[str, StringConstraints(min_length=1)], ...]]


class Closed(BaseModel):
    """A part of a profile: unknown keys are errors, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(Closed):
    """How a canonical value becomes a model input: x = (t(clip(v)) − centre) / spread.

    `clip` is in canonical units and inside the hard range; `centre` and `spread` are in units of t(v);
    `source` says which published cohort or definition the constants come from.
    """

    transform: Literal["identity", "log1p"] = "identity"
    centre: Number
    spread: Number
    clip: Range
    source: str


class MissingPolicy(Closed):
    """What a model sees for a value that is not there: `observed` false, in x the centre (scaled: 0)."""

    policy: Literal["mask"] = "mask"
    fill: Literal["centre"] = "centre"
    max_rate: Number  # largest fraction of patients without the value with which a site may still join


class Select(Closed):
    """Which of several measurements counts: of those inside the window around diagnosis, the nearest, first, …."""

    window_days: tuple[int, int]
    pick: Literal["nearest", "first", "last", "max", "min"] = "nearest"


class _Common(Closed):
    name: Name
    title: str
    tier: Tier = "A"  # A: a site above missing.max_rate may not join; B: optional; C: for reports, no model sees it
    scale: Scale
    missing: MissingPolicy


class LabVariable(_Common):
    """A measured quantity with a unit.

    Canonical value = value × units[unit] in decimal arithmetic, rounded to `decimals`. A spelling that is neither in
    `units` nor in `unit_aliases` is not converted: the value is not used.
    """

    kind: Literal["lab"]
    unit: str
    units: Mapping[str, Number]  # UCUM code -> factor to `unit`
    unit_aliases: Mapping[str, str] = {}  # spelling seen in practice -> key of `units`
    decimals: Annotated[int, Field(ge=0, le=12)] = 6  # canonical values are rounded to these, half to even
    hard: Range  # outside: the value is not used
    soft: Range  # outside: used, with a warning
    codes: Codes
    select: Select


class CodeVariable(_Common):
    """A category; `values` numbers the ones that models see.

    Numbers of more than two categories mean something only if the categories have an order: without `ordinal`
    such a variable is tier C, which no model sees.
    """

    kind: Literal["code"]
    values: Mapping[str, int]
    ordinal: bool = False  # the numbers are ranks: stage I, II, III
    unused: tuple[str, ...] = ()  # known categories that count as not available to models (kept as a state)
    patient_field: Literal["gender"] | None = None
    codes: Codes = {}
    answers: Mapping[str, str] = {}  # answer code of another system (LOINC LA…) -> category


class DerivedVariable(_Common):
    """Age at index diagnosis in completed years, from the dates of birth and diagnosis."""

    kind: Literal["derived"]
    derive: Literal["age-at-diagnosis"]
    unit: Literal["a"] = "a"
    hard: Range
    soft: Range
    top_code: Number  # larger values are stored as this one: very old patients are recognisable


class CytogeneticVariable(_Common):
    """A finding of the karyotype, or an ordinal class of it; see `harmonize.karyotype`.

    0 = looked for and not found (state tested-negative), 1 = found; `ipssr_class` 0 (very good) … 4 (very poor);
    `abnormalities` a count.
    """

    kind: Literal["cytogenetic"]
    feature: Name  # one of `harmonize.karyotype.FEATURES`
    # False: a karyotype without a clone is no evidence of absence. Plasma cells hardly divide: in myeloma a normal
    # karyotype is mostly that of other cells.
    normal_is_evidence: bool = True
    hard: Range = (Decimal(0), Decimal(1))
    codes: Codes = {}  # Observations that state the finding themselves (FISH): present or absent


class Gene(Closed):
    """A gene by its HGNC id; symbols are for sources that have no ids, the approved one first.

    Ids and symbols agree with `harmonize.genetics.genes`: the linter compares them.
    """

    hgnc: Annotated[int, Field(ge=1, le=99999)]
    symbols: Annotated[tuple[str, ...], Field(min_length=1)]


class VariantVariable(_Common):
    """Somatic variants of one gene. 0 needs evidence that the gene was tested: see `harmonize.genetics.genomics`.

    `feature` is one of any gene (`any`: at least one variant; `vaf`: the largest allele fraction instead of 0 or 1),
    of FLT3 (`itd`, `tkd`), KMT2A (`ptd`), TP53 (`multi-hit`) or CEBPA (`bzip`, `biallelic`).
    """

    kind: Literal["variant"]
    gene: Gene
    feature: Literal["any", "itd", "tkd", "ptd", "multi-hit", "bzip", "biallelic", "vaf"] = "any"
    min_vaf: Number = Decimal("0.02")  # variants with a stated fraction below it do not count
    hard: Range = (Decimal(0), Decimal(1))


class FeatureVariable(Closed):
    """A vector per patient from a linked feature file: histopathology embedding, radiomics.

    Everything but the numbers is agreed: another encoder, version or setting is another variable.
    """

    kind: Literal["features"]
    name: Name
    title: str
    tier: Literal["B", "C"] = "B"
    modality: Literal["histopathology", "radiomics", "other"]
    length: Annotated[int, Field(ge=1, le=8192)]
    encoder: str  # name and version
    encoder_sha256: Sha256 | None = None  # of the weights; None for software without weights
    settings_sha256: Sha256 | None = None  # of the settings file (PyRadiomics)
    columns: tuple[str, ...] = ()  # names of the numbers, if the file has one column each; else one list column
    pool: Literal["mean"] = "mean"  # several slides or regions of one patient
    clip: Range  # public bounds of every number


Coded = LabVariable | CodeVariable | CytogeneticVariable
"""Variables that an Observation with one of their codes states."""

Stated = LabVariable | CodeVariable | CytogeneticVariable | VariantVariable
"""Variables that an Observation may state outright, by a public code or by our own."""

Scalar = LabVariable | CodeVariable | DerivedVariable | CytogeneticVariable | VariantVariable
"""Variables with one number per patient."""

Variable = Scalar | FeatureVariable
