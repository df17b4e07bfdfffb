"""The profile: which variables a disease has, under which codes, units and bounds.

Public, typed, linted and hashed.
All sites of a study use one profile; its digest is in the study, in every table and in the model card.
Nothing in a profile is computed from a participating hospital's data: centre, spread and clip bounds are
public constants.
"""

__all__ = [
    "CodeVariable",
    "DerivedVariable",
    "Diagnosis",
    "LabVariable",
    "MissingPolicy",
    "Outcome",
    "Profile",
    "Scale",
    "Select",
    "Variable",
    "load",
]

import hashlib
from collections.abc import Hashable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import rfc8785
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)

from harmonize.errors import ProfileError


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
Codes = Mapping[Name, tuple[Annotated[str, StringConstraints(min_length=1)], ...]]


class _Closed(BaseModel):
    """A part of a profile: unknown keys are errors, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Closed):
    """How a canonical value becomes a model input: x = (t(clip(v)) − centre) / spread.

    `clip` is in canonical units and inside the hard range; `centre` and `spread` are in units of t(v);
    `source` says which published cohort or definition the constants come from.
    """

    transform: Literal["identity", "log1p"] = "identity"
    centre: Number
    spread: Number
    clip: Range
    source: str


class MissingPolicy(_Closed):
    """What a model sees for a value that is not there: `observed` false, in x the centre (scaled: 0)."""

    policy: Literal["mask"] = "mask"
    fill: Literal["centre"] = "centre"
    max_rate: Number  # largest fraction of patients without the value with which a site may still join


class Select(_Closed):
    """Which of several measurements counts: those inside the window around diagnosis, the nearest one."""

    window_days: tuple[int, int]
    pick: Literal["nearest"] = "nearest"


class _Common(_Closed):
    name: Name
    title: str
    tier: Literal["A", "B"] = "A"  # A: a site whose rate is above missing.max_rate may not join; B: reported only
    scale: Scale
    missing: MissingPolicy


class LabVariable(_Common):
    """A measured quantity with a unit."""

    kind: Literal["lab"]
    unit: str
    units: Mapping[str, Number]  # UCUM code -> factor to `unit`
    unit_aliases: Mapping[str, str] = {}  # spelling seen in practice -> key of `units`
    hard: Range  # outside: the value is not used
    soft: Range  # outside: used, with a warning
    codes: Codes
    select: Select


class CodeVariable(_Common):
    """A category; `values` numbers the ones that models see."""

    kind: Literal["code"]
    values: Mapping[str, int]
    unused: tuple[str, ...] = ()  # known categories that count as not available to models (kept as a state)
    patient_field: Literal["gender"] | None = None
    codes: Codes = {}
    answers: Mapping[str, str] = {}  # answer code of another system (LOINC LA…) -> category


class DerivedVariable(_Common):
    """Computed from dates."""

    kind: Literal["derived"]
    derive: Literal["age-at-diagnosis"]
    unit: Literal["a"] = "a"
    hard: Range
    soft: Range
    top_code: Number  # larger values are stored as this one: very old patients are recognisable


Variable = LabVariable | CodeVariable | DerivedVariable


class Diagnosis(_Closed):
    """The index diagnosis: the earliest date of one of these codes is day 0."""

    title: str
    codes: Codes


class Outcome(_Closed):
    """Overall survival: days from index diagnosis to death, or to last follow-up (censored)."""

    name: Name
    title: str
    kind: Literal["overall-survival"]
    hard: tuple[int, int]


class Profile(_Closed):
    """One disease's canonical table, as agreed by every site of a study."""

    profile: Name
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    title: str
    fhir: tuple[str, ...]
    systems: Mapping[Name, str]
    diagnosis: Diagnosis
    variables: tuple[Annotated[Variable, Field(discriminator="kind")], ...]
    outcome: Outcome

    @property
    def names(self) -> tuple[str, ...]:
        """Variable names in profile order: the column order of tables and matrices."""
        return tuple(variable.name for variable in self.variables)

    def variable(self, name: str) -> Variable:
        """The variable called `name`.

        Raises:
            KeyError: the profile has none.
        """
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Variable]:
        return {variable.name: variable for variable in self.variables}

    @cached_property
    def coded(self) -> Mapping[tuple[str, str], LabVariable | CodeVariable]:
        """(system URI, code) -> the variable that the code carries."""
        return {
            (self.systems[system], code): variable
            for variable in self.variables
            if not isinstance(variable, DerivedVariable)
            for system, codes in variable.codes.items()
            for code in codes
        }

    @cached_property
    def diagnoses(self) -> frozenset[tuple[str, str]]:
        """(system URI, code) of every code that means the index diagnosis."""
        return frozenset(
            (self.systems[system], code) for system, codes in self.diagnosis.codes.items() for code in codes
        )

    def canonical(self) -> bytes:
        """Canonical JSON (RFC 8785) of the profile, its base included, numbers as plain decimal strings."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `canonical()`, lower-case hex; changed by any edit but YAML comments and layout."""
        return hashlib.sha256(self.canonical()).hexdigest()


def load(name_or_path: str | Path) -> Profile:
    """Load, merge with its base, and lint a profile.

    Args:
        name_or_path: the name of a packaged profile ("aml"), or the path of a .yaml file. A profile that
            `extends` another finds it beside itself first, then among the packaged ones.

    Raises:
        ProfileError: the file is missing, is not YAML, has an unknown or missing field, or fails the linter;
            the message names the file and every field.
    """
    from harmonize import lint  # noqa: PLC0415  lint reads the classes of this module

    text = str(name_or_path)
    if isinstance(name_or_path, str) and text.isidentifier():
        source: _Readable = resources.files("harmonize") / "profiles" / f"{text}.yaml"
        folder = None
    else:
        source = Path(name_or_path)
        folder = Path(name_or_path).parent
    raw = _read(source, text)
    base = raw.pop("extends", None)
    if base is not None:
        raw = _merge(_read(_find(str(base), folder), str(base)), raw, text)
    try:
        profile = Profile.model_validate(raw)
    except ValidationError as error:
        # Only place and rule, never pydantic's echo of the input: the same habit as for data.
        findings = "; ".join(
            f"{'.'.join(str(part) for part in finding['loc'])}: {finding['msg']}"
            for finding in error.errors(include_input=False, include_url=False)
        )
        raise ProfileError(f"profile {text}: {findings}") from None
    lint.check(profile)
    return profile


class _Readable(Protocol):
    """What a path and a packaged resource have in common."""

    def read_text(self, encoding: str) -> str: ...


def _find(name: str, folder: Path | None) -> _Readable:
    if folder is not None and (folder / f"{name}.yaml").is_file():
        return folder / f"{name}.yaml"
    return resources.files("harmonize") / "profiles" / f"{name}.yaml"


def _read(source: _Readable, label: str) -> dict[str, Any]:
    try:
        raw = yaml.load(source.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506  a SafeLoader
    except (FileNotFoundError, IsADirectoryError):
        raise ProfileError(f"profile {label}: not found; give a packaged name or the path of a .yaml file") from None
    except UnicodeDecodeError:
        raise ProfileError(f"profile {label}: not UTF-8; save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise ProfileError(f"profile {label}: {place}: {error.problem}") from None
    except yaml.YAMLError:
        raise ProfileError(f"profile {label}: not YAML") from None
    if not isinstance(raw, dict):
        raise ProfileError(f"profile {label}: must be a mapping at the top level")
    return raw


def _merge(base: dict[str, Any], own: dict[str, Any], label: str) -> dict[str, Any]:
    """Base first. Systems and variables add up; a key in both files is refused, never silently replaced."""
    merged = {key: value for key, value in base.items() if key != "profile"}
    for key, value in own.items():
        if key == "variables" and isinstance(value, list):
            merged[key] = [*merged.get(key, []), *value]
        elif key == "systems" and isinstance(value, dict):
            if shared := sorted(merged.get(key, {}).keys() & value.keys()):
                raise ProfileError(f"profile {label}: systems.{shared[0]} is already defined by its base")
            merged[key] = {**merged.get(key, {}), **value}
        elif key in merged:
            raise ProfileError(f"profile {label}: {key} is already defined by its base; remove one of them")
        else:
            merged[key] = value
    return merged


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a second bound must not replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  PyYAML's signature
        seen: set[object] = set()
        for key, _ in node.value:
            value = self.construct_object(key, deep=True)
            if value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {value!r} appears twice", problem_mark=key.start_mark
                )
            seen.add(value)
        return super().construct_mapping(node, deep=deep)


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | str:
    """A number as written, not its nearest binary fraction; what is none (.nan) is refused by its field."""
    text = str(loader.construct_scalar(node))
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


_UniqueKeys.add_constructor("tag:yaml.org,2002:float", _decimal)
