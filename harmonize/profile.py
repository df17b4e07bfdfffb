"""The profile: which variables a disease has, under which codes, units and bounds.

Public, typed, linted and hashed.
All sites of a study use one profile; its digest is in the study, in every table and in the model card.
Nothing in a profile is computed from a participating hospital's data: centre, spread and clip bounds are
public constants.
"""

__all__ = [
    "OWN_SYSTEM",
    "CodeVariable",
    "CytogeneticVariable",
    "DerivedVariable",
    "Diagnosis",
    "FeatureVariable",
    "FirstEvent",
    "LabVariable",
    "MissingPolicy",
    "Outcome",
    "Panel",
    "Profile",
    "Range",
    "Scalar",
    "Scale",
    "Select",
    "Variable",
    "VariantVariable",
    "load",
]

import hashlib
from collections.abc import Hashable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

import rfc8785
import yaml
from pydantic import Field, StringConstraints, ValidationError

from harmonize.errors import ProfileError
from harmonize.variables import (
    Closed,
    Coded,
    Codes,
    CodeVariable,
    CytogeneticVariable,
    DerivedVariable,
    FeatureVariable,
    LabVariable,
    MissingPolicy,
    Name,
    Range,
    Scalar,
    Scale,
    Select,
    Stated,
    Variable,
    VariantVariable,
)

try:
    from yaml import CSafeLoader as _SafeLoader  # libyaml: seven times faster on a profile of a hundred variables
except ImportError:  # a PyYAML built without it reads the same
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

OWN_SYSTEM: Final = "urn:haemfed:codesystem:variables"
"""Codes of ours: names of variables, and what has no code in a public system."""

_DEEPEST: Final = 6
_OWN: Final = ("profile", "version", "title")  # what a profile that extends another never inherits
_MERGE_KEY: Final = "tag:yaml.org,2002:merge"


class Diagnosis(Closed):
    """The index diagnosis: the earliest date of one of these codes is day 0.

    Attributes:
        codes: per key of `Profile.systems`, the codes of Conditions that state it.
    """

    title: str
    codes: Codes


class Outcome(Closed):
    """Overall survival: days from index diagnosis to death, or to last follow-up (censored).

    Attributes:
        hard: smallest and largest possible duration, days; outside, the patient is left out.
    """

    name: Name
    title: str
    kind: Literal["overall-survival"]
    hard: tuple[int, int]


class FirstEvent(Closed):
    """Another outcome: the first event of a kind after the index diagnosis, censored when last seen or dead.

    Attributes:
        resource: where `codes` are looked for: in Conditions (a second diagnosis, as leukaemic transformation) or
            in Procedures (transplantation).
        codes: per key of `Profile.systems`; may be the index diagnosis of another profile, never of this one.
        hard: smallest and largest possible duration, days.
    """

    name: Name
    title: str
    kind: Literal["first-event"]
    resource: Literal["condition", "procedure"]
    codes: Codes
    hard: tuple[int, int]


class Panel(Closed):
    """A list of genes that a laboratory tests together: whoever had the panel was tested for all of them."""

    title: str
    genes: Annotated[tuple[Annotated[int, Field(ge=1, le=99999)], ...], Field(min_length=1)]  # HGNC ids


class Profile(Closed):
    """One disease's canonical table, as agreed by every site of a study.

    Attributes:
        profile: name, also of the packaged file.
        version: major.minor.patch; another major version means tables that cannot be compared.
        fhir: releases of FHIR whose resources are read.
        systems: short key -> URI of a code system; `codes` everywhere use the keys.
        variables: in column order.
        outcome: what every study has.
        outcomes: further ones.
        panels: laboratory panels by the name that a mapping file gives.
    """

    profile: Name
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    title: str
    fhir: tuple[str, ...]
    systems: Mapping[Name, str]
    diagnosis: Diagnosis
    variables: tuple[Annotated[Variable, Field(discriminator="kind")], ...]
    outcome: Outcome
    outcomes: tuple[FirstEvent, ...] = ()
    panels: Mapping[Name, Panel] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Variable names in profile order: the column order of tables."""
        return tuple(variable.name for variable in self.variables)

    @cached_property
    def scalars(self) -> tuple[Scalar, ...]:
        """Variables with one number per patient, in profile order."""
        return tuple(variable for variable in self.variables if not isinstance(variable, FeatureVariable))

    @cached_property
    def features(self) -> tuple[FeatureVariable, ...]:
        """Variables with a vector per patient, in profile order."""
        return tuple(variable for variable in self.variables if isinstance(variable, FeatureVariable))

    @cached_property
    def inputs(self) -> tuple[Scalar, ...]:
        """What models see, one number per patient each: tiers A and B, in profile order."""
        return tuple(variable for variable in self.scalars if variable.tier != "C")

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
    def coded(self) -> Mapping[tuple[str, str], Stated]:
        """(system URI, code) -> the variable that the code carries; our own code of a variable is its name."""
        own = {(OWN_SYSTEM, each.name): each for each in self.variables if isinstance(each, Stated)}
        public = {
            (self.systems[system], code): variable
            for variable in self.variables
            if isinstance(variable, Coded)
            for system, codes in variable.codes.items()
            for code in codes
        }
        return own | public

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

    A base may leave fields of a variable open; `complete: {<variable>: {<field>: …}}` of the profile that extends
    it fills them in. What a base has decided cannot be decided again; name, version and title are never inherited.

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
    raw = _whole(raw, folder, text)
    if "version" not in raw:
        raise ProfileError(
            f"profile {text}: has no version: a base that others extend; load one of those, or give it one"
        )
    try:
        profile = Profile.model_validate(raw)
    except ValidationError as error:
        # Only place and rule, never pydantic's echo of the input: the same habit as for data.
        findings = "; ".join(
            f"{_place(finding['loc'], raw)}: {finding['msg']}"
            for finding in error.errors(include_input=False, include_url=False)
        )
        raise ProfileError(f"profile {text}: {findings}") from None
    lint.check(profile)
    return profile


def _place(location: tuple[int | str, ...], raw: Mapping[str, Any]) -> str:
    """Variables and outcomes by name: nobody counts to the seventy-third of a list."""
    parts = list(location)
    if len(parts) > 1 and parts[0] in ("variables", "outcomes") and isinstance(parts[1], int):
        item = raw[parts[0]][parts[1]]
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            parts[1] = item["name"]
        if parts[0] == "variables" and len(parts) > 2:
            del parts[2]  # the kind that pydantic chose
    return ".".join(str(part) for part in parts)


class _Readable(Protocol):
    """What a path and a packaged resource have in common."""

    def read_text(self, encoding: str) -> str: ...


def _whole(raw: dict[str, Any], folder: Path | None, label: str, depth: int = 0) -> dict[str, Any]:
    """With its bases, which may have bases."""
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if depth == _DEEPEST:
        raise ProfileError(f"profile {label}: extends itself, or more than {_DEEPEST} others in a row")
    return _merge(_whole(_read(_find(str(base), folder), str(base)), folder, str(base), depth + 1), raw, label)


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
    merged = {key: value for key, value in base.items() if key not in _OWN}
    completed = own.pop("complete", {})
    for key, value in own.items():
        if key in ("variables", "outcomes") and isinstance(value, list):
            merged[key] = [*merged.get(key, []), *value]
        elif key in ("systems", "panels") and isinstance(value, dict):
            if shared := sorted(merged.get(key, {}).keys() & value.keys()):
                raise ProfileError(f"profile {label}: {key}.{shared[0]} is already defined by its base")
            merged[key] = {**merged.get(key, {}), **value}
        elif key in merged:
            raise ProfileError(f"profile {label}: {key} is already defined by its base; remove one of them")
        else:
            merged[key] = value
    return _complete(merged, completed, label)


def _complete(merged: dict[str, Any], completed: object, label: str) -> dict[str, Any]:
    """Fill in the fields that a base left open: the scale of blood counts differs between diseases."""
    if not isinstance(completed, dict) or not all(isinstance(fields, dict) for fields in completed.values()):
        raise ProfileError(f"profile {label}: complete: must map variables to the fields that their base left open")
    variables = list(merged.get("variables", []))
    places = {variable.get("name"): place for place, variable in enumerate(variables) if isinstance(variable, dict)}
    for name, fields in completed.items():
        if name not in places:
            raise ProfileError(f"profile {label}: complete.{name}: no base has a variable of this name")
        variable = variables[places[name]]
        if shared := sorted(variable.keys() & fields.keys()):
            raise ProfileError(f"profile {label}: complete.{name}.{shared[0]} is already defined by its base")
        variables[places[name]] = {**variable, **fields}
    return {**merged, "variables": variables} if variables else merged


class _UniqueKeys(_SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a second bound must not replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  PyYAML's signature
        seen: set[object] = set()
        for key, _ in node.value:
            if key.tag == _MERGE_KEY:
                continue  # `<<: *anchor`: SafeLoader puts the anchor's keys in, below the own ones
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
