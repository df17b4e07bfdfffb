"""Modalities of a profile, and the columns that a matrix gives a model by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from harmonize import lint, modalities
from harmonize.errors import MisuseError, ProfileError
from harmonize.matrix import VECTOR_BOUND, vector_scale
from harmonize.profile import CytogeneticVariable, Profile, VariantVariable, load
from harmonize.table import Table
from models.data import INPUT_BOUND
from tests.harmonize.test_export import tables

MM = load("mm")


def with_vector(**changes: Any) -> Profile:
    """The profile for myeloma with another vector."""
    raw = MM.model_dump(mode="json")
    for variable in raw["variables"]:
        if variable["name"] == "radiomics":
            variable.update({"length": 3, "columns": []} | changes)
    return Profile.model_validate(raw)


@pytest.mark.parametrize("name", ["aml_core", "aml", "mds", "cmml", "mm"])
def test_every_input_and_every_vector_is_in_one_modality(name: str) -> None:
    profile = load(name)

    found = modalities.of(profile)

    columns = [column for each in found if not each.vector for column in each.columns]
    assert sorted(columns) == sorted(variable.name for variable in profile.inputs)
    assert [(each.name, len(each.columns)) for each in found if each.vector] == [
        (vector.name, vector.length) for vector in profile.features
    ]
    place = {variable.name: index for index, variable in enumerate(profile.inputs)}
    for each in found:
        assert each.columns
        assert each.vector or [place[column] for column in each.columns] == sorted(place[c] for c in each.columns)


def test_the_kind_of_a_variable_says_where_it_comes_from() -> None:
    found = {each.name: each for each in modalities.of(MM)}

    assert list(found) == ["clinical", "cytogenetic", "mutations", "radiomics"]
    for name, kind in (("cytogenetic", CytogeneticVariable), ("mutations", VariantVariable)):
        assert set(found[name].columns) == {v.name for v in MM.inputs if isinstance(v, kind)}
    assert {"age", "sex", "iss", "hb"} <= set(found["clinical"].columns)
    assert found["radiomics"].columns[::30] == ("radiomics[0]", "radiomics[30]")


def test_a_vector_for_reports_is_no_modality() -> None:
    profile = with_vector(tier="C")

    assert [each.name for each in modalities.of(profile)] == ["clinical", "cytogenetic", "mutations"]
    empty = Table.from_columns({name: [] for name in tables("mm", 0, 1).arrow.column_names}, profile)
    assert empty.matrix().vectors == {}
    assert list(empty.matrix().features) == ["radiomics"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "clinical"}, "is that of a modality"),
        ({"clip": ["-1", "1e31"]}, "bounds nothing"),
        ({"clip": ["1", "1"]}, "must be ordered"),
    ],
)
def test_a_vector_without_usable_bounds_or_name_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        lint.check(with_vector(**changes))


def test_without_bounds_there_is_no_profile() -> None:
    raw = MM.model_dump(mode="json")
    del next(v for v in raw["variables"] if v["name"] == "radiomics")["clip"]

    with pytest.raises(ValueError, match="clip"):
        Profile.model_validate(raw)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("-10", "10", (0.0, 1.0)),
        ("0", "1", (0.0, 1.0)),
        ("-50", "50", (0.0, 5.0)),
        ("0", "255", (127.5, 12.75)),
        ("20", "22", (21.0, 1.0)),
        ("-1e30", "1e30", (0.0, 1e29)),
    ],
)
def test_public_bounds_alone_scale_a_vector(low: str, high: str, expected: tuple[float, float]) -> None:
    (variable,) = with_vector(clip=[low, high]).features

    centre, spread = vector_scale(variable)

    assert (centre, spread) == pytest.approx(expected)
    for bound in (low, high):
        assert abs((float(Decimal(bound)) - centre) / spread) <= VECTOR_BOUND * (1 + 1e-15)


def test_a_models_inputs_are_not_cut_below_the_bound_of_vectors() -> None:
    assert VECTOR_BOUND <= INPUT_BOUND


def made(profile: Profile, vectors: list[list[float] | None]) -> Table:
    """Invented patients with these vectors."""
    table = tables("mm", 3, len(vectors))
    columns: dict[str, Any] = {name: table.arrow[name].combine_chunks() for name in table.arrow.column_names}
    columns["radiomics"], columns["radiomics__m"] = vectors, [int(each is None) for each in vectors]
    return Table.from_columns({k: v if isinstance(v, list) else v.to_pylist() for k, v in columns.items()}, profile)


def test_columns_are_found_by_name_in_any_order() -> None:
    matrix = made(with_vector(clip=["0", "255"]), [[0.0, 255.0, 140.25], None, [127.5, 1.0, 2.0]]).matrix()
    names = ("radiomics[2]", "wbc", "radiomics[0]", "age")

    x, observed = matrix.columns(names)

    assert x[:, [0, 2]].tolist() == [[pytest.approx(1.0), -10.0], [0.0, 0.0], [pytest.approx(-125.5 / 12.75), 0.0]]
    assert observed[:, [0, 2]].tolist() == [[True, True], [False, False], [True, True]]
    for place, name in ((1, "wbc"), (3, "age")):
        assert np.array_equal(x[:, place], matrix.x[:, matrix.names.index(name)])
        assert np.array_equal(observed[:, place], matrix.observed[:, matrix.names.index(name)])
    assert matrix.lacking(("wbc", "radiomics[3]", "radiomics", "slide[0]")) == ("radiomics[3]", "radiomics", "slide[0]")
    with pytest.raises(MisuseError, match=r"radiomics\[3\]"):
        matrix.columns(("radiomics[3]",))


def test_every_number_of_a_vector_obeys_the_bound() -> None:
    # A third of the width is no binary fraction: the bounds themselves must not round to beyond it.
    matrix = made(with_vector(clip=["-0.1", "99.7"]), [[-0.1, 99.7, 49.8]] * 2).matrix()

    x, _ = matrix.columns(tuple(f"radiomics[{place}]" for place in range(3)))

    assert np.abs(x).max() <= VECTOR_BOUND
    assert x[0, 0] == -VECTOR_BOUND
    with pytest.raises(ValueError, match="read-only"):
        matrix.vectors["radiomics"][0][0, 0] = 1.0


@pytest.mark.parametrize(
    ("names", "said"),
    [((), ""), (("age",), "age"), (("slide[0]",), "slide[0]"), (("a[0]", "a[1]", "b[0]", "c"), "a[0…1], b[0], c")],
)
def test_a_list_for_people_has_one_entry_a_vector(names: tuple[str, ...], said: str) -> None:
    assert modalities.listed(names) == said
