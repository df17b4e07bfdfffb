"""Modalities: the examinations that a hospital has or lacks as a whole, and the columns that each gives a model.

A profile states no groups: the kind of a variable says where it comes from.

| modality        | variables that models see (tiers A and B)                  |
|-----------------|------------------------------------------------------------|
| `clinical`      | `lab`, `code`, `derived`: blood, marrow, patient, staging  |
| `cytogenetic`   | `cytogenetic`: karyotype and FISH                          |
| `mutations`     | `variant`: panels of genes                                 |
| its own name    | each `features` variable: one vector, present or absent    |
"""

from __future__ import annotations

__all__ = ["CLINICAL", "CYTOGENETIC", "MUTATIONS", "OF_SCALARS", "Modality", "coordinates", "listed", "of"]

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from harmonize.profile import CytogeneticVariable, Profile, Scalar, VariantVariable

CLINICAL: Final = "clinical"
CYTOGENETIC: Final = "cytogenetic"
MUTATIONS: Final = "mutations"
OF_SCALARS: Final = (CLINICAL, CYTOGENETIC, MUTATIONS)
"""Those of variables with one number per patient; no vector may have such a name."""


@dataclass(frozen=True)
class Modality:
    """One examination.

    Args:
        name: see the module.
        columns: names, in the order of the profile; of a vector, its coordinates.
        vector: observed as a whole or not at all.
    """

    name: str
    columns: tuple[str, ...]
    vector: bool


def of(profile: Profile) -> tuple[Modality, ...]:
    """The modalities of a profile that have columns: those of scalars first, then every vector in profile order."""
    found: dict[str, list[str]] = {name: [] for name in OF_SCALARS}
    for variable in profile.inputs:
        found[_examination(variable)].append(variable.name)
    scalars = [Modality(name, tuple(columns), vector=False) for name, columns in found.items() if columns]
    vectors = [
        Modality(each.name, coordinates(each.name, each.length), vector=True)
        for each in profile.features
        if each.tier != "C"
    ]
    return (*scalars, *vectors)


def coordinates(name: str, length: int) -> tuple[str, ...]:
    """Names of a vector's numbers as columns; no variable can have such a name.

    >>> coordinates("slide", 2)
    ('slide[0]', 'slide[1]')
    """
    return tuple(f"{name}[{place}]" for place in range(length))


def listed(names: Sequence[str]) -> str:
    """Columns in one line for people, with the coordinates of a vector as one entry.

    >>> listed(("age", "slide[0]", "slide[1]", "slide[2]", "wbc"))
    'age, slide[0…2], wbc'
    """
    parts: list[str] = []
    for vector, group in groupby(names, lambda name: name.partition("[")[0] if name.endswith("]") else ""):
        found = list(group)
        if vector and len(found) > 1:
            first, last = (name[len(vector) + 1 : -1] for name in (found[0], found[-1]))
            found = [f"{vector}[{first}…{last}]"]
        parts += found
    return ", ".join(parts)


def _examination(variable: Scalar) -> str:
    if isinstance(variable, CytogeneticVariable):
        return CYTOGENETIC
    return MUTATIONS if isinstance(variable, VariantVariable) else CLINICAL
