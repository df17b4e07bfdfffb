import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harmonize.cohort.assemble import pseudonym
from harmonize.errors import MisuseError, NotReady, ProfileMismatch, TableError
from harmonize.layout import schema
from harmonize.split import in_holdout, partition
from harmonize.table import Table
from tests.harmonize.facts import PROFILE as RICH
from tests.harmonize.patients import PROFILE

SPLIT_KEY = bytes(range(32, 64))


def columns(rows: Any = 5, **changes: Any) -> dict[str, list[Any]]:
    plain: dict[str, list[Any]] = {
        "pid": [f"P{row:04d}" for row in range(rows)],
        "age": [60.0] * rows,
        "sex": [1] * rows,
        "wbc": [13.3] * rows,
        "tpi": [0.0] * rows,
        "time": list(range(rows)),
        "event": [True] * rows,
    }
    return plain | {f"{name}__m": [0] * rows for name in PROFILE.names} | changes


def test_round_trip() -> None:
    table = Table.from_columns(columns(), PROFILE)
    again = Table.from_parquet(table.to_parquet_bytes(), PROFILE)

    assert again.arrow.equals(table.arrow, check_metadata=True)
    assert again.digest == table.digest
    assert again.to_parquet_bytes() == table.to_parquet_bytes()
    assert Table.from_parquet(io.BytesIO(table.to_parquet_bytes()), PROFILE).digest == table.digest


def test_there_is_no_date_and_no_source_in_the_file() -> None:
    table = Table.from_columns(columns(), PROFILE)

    assert not any(pa.types.is_temporal(field.type) for field in table.arrow.schema)
    assert set(table.arrow.schema.metadata) == {b"haemfed"}


def test_rows_come_in_the_order_of_their_pseudonym() -> None:
    shuffled = {name: values[::-1] for name, values in columns().items()}

    assert Table.from_columns(shuffled, PROFILE).digest == Table.from_columns(columns(), PROFILE).digest


@pytest.mark.parametrize("name", ["age", "sex", "wbc", "tpi", "time", "event", "pid"])
def test_the_digest_sees_every_column(name: str) -> None:
    other = {"sex": 0, "event": False, "pid": "P9999", "time": 7}.get(name, 20.0)
    changed = columns(**{name: [*columns()[name][:-1], other]})

    assert Table.from_columns(changed, PROFILE).digest != Table.from_columns(columns(), PROFILE).digest


def test_the_digest_sees_states() -> None:
    base = columns(wbc=[None] * 5, wbc__m=[1] * 5)
    assert Table.from_columns(base, PROFILE).digest != Table.from_columns({**base, "wbc__m": [2] * 5}, PROFILE).digest


def test_another_profile_is_refused() -> None:
    other = PROFILE.model_copy(update={"version": "9.9.9"})
    other.__dict__.pop("digest", None)
    data = Table.from_columns(columns(), PROFILE).to_parquet_bytes()

    with pytest.raises(
        ProfileMismatch, match=r"made under profile [0-9a-f]{12}…, the study uses aml_core 9.9.9 [0-9a-f]{12}…"
    ):
        Table.from_parquet(data, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pid": ["P0001"] * 5}, "column pid: not sorted, or a patient twice"),
        ({"wbc": [1000.5] * 5}, "column wbc: outside the profile's range"),
        ({"wbc": [float("nan")] * 5}, "column wbc: outside the profile's range"),
        ({"wbc": [None] * 5}, "column wbc: values and states disagree"),
        ({"wbc__m": [5] * 5}, "column wbc: values and states disagree"),
        ({"wbc": [None] * 5, "wbc__m": [200] * 5}, "column wbc: values and states disagree"),
        ({"sex": [2] * 5}, "column sex: outside the profile's range"),
        ({"time": [-1] * 5}, "column time: outside the profile's range"),
        ({"time": [36526] * 5}, "column time: outside the profile's range"),
    ],
)
def test_a_table_that_breaks_its_promises_is_refused(change: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(TableError, match=message):
        Table.from_columns(columns(**change), PROFILE)


def test_other_files_are_refused() -> None:
    data = Table.from_columns(columns(), PROFILE).to_parquet_bytes()
    for broken in (b"", b"PAR1", data[:-8], data[: len(data) // 2]):
        with pytest.raises(TableError, match="not a Parquet file, or truncated"):
            Table.from_parquet(broken, PROFILE)

    foreign = io.BytesIO()
    pq.write_table(pa.table({"pid": ["a"]}), foreign)
    with pytest.raises(TableError, match="not a harmonised table"):
        Table.from_parquet(foreign.getvalue(), PROFILE)

    with pytest.raises(TableError, match="columns are not those of its profile"):
        Table(Table.from_columns(columns(), PROFILE).arrow.drop_columns(["wbc"]), PROFILE)

    wrong = schema(PROFILE).with_metadata({"haemfed": '{"format": "haemfed/table/1", "digest": "x"}'})
    with pytest.raises(TableError, match="layout is not haemfed/table/2; harmonise the source again"):
        Table(Table.from_columns(columns(), PROFILE).arrow.cast(wrong), PROFILE)


def test_the_matrix_is_scaled_clipped_and_masked() -> None:
    table = Table.from_columns(
        columns(
            wbc=[0.0, 13.3, 500.0, 1000.0, None],
            wbc__m=[0, 0, 7, 0, 1],
            age=[0.0, 60.0, 90.0, 76.0, 44.0],
            sex=[0, 1, None, 1, 1],
            sex__m=[0, 0, 8, 0, 0],
        ),
        PROFILE,
    )
    matrix = table.matrix()

    assert matrix.names == ["age", "sex", "wbc", "tpi"]
    assert matrix.x[:, 0].tolist() == [-42 / 16, 0.0, 30 / 16, 1.0, -1.0]
    assert matrix.x[:, 1].tolist() == [-1.0, 1.0, 0.0, 1.0, 1.0]
    expected = [(np.log1p(value) - 2.8) / 1.35 for value in (0.0, 13.3, 500.0, 500.0)]
    np.testing.assert_allclose(matrix.x[:, 2], [*expected, 0.0], rtol=1e-15)
    assert matrix.observed[:, 2].tolist() == [True, True, True, True, False]
    assert matrix.observed[:, 1].tolist() == [True, True, False, True, True]
    assert np.all((matrix.lower <= matrix.x) & (matrix.x <= matrix.upper))
    assert matrix.duration.dtype == np.float64
    assert matrix.event.dtype == np.bool_
    assert matrix.pid == table.pids
    with pytest.raises(ValueError, match="read-only"):
        matrix.x[0, 0] = 1.0


def test_bounds_are_public() -> None:
    empty = Table.from_columns(columns(0), PROFILE).matrix()
    full = Table.from_columns(columns(9), PROFILE).matrix()

    assert empty.x.shape == (0, 4)
    np.testing.assert_array_equal(empty.lower, full.lower)
    np.testing.assert_array_equal(empty.upper, full.upper)


def test_readiness() -> None:
    Table.from_columns(columns(20), PROFILE).require_ready(20)
    with pytest.raises(NotReady, match=r"the table has 19 usable patients and this site's minimum is 20; look at"):
        Table.from_columns(columns(19), PROFILE).require_ready(20)

    sparse = columns(10, wbc=[None] * 5 + [1.0] * 5, wbc__m=[1] * 5 + [0] * 5)
    with pytest.raises(NotReady, match=r"wbc: 50% of the patients have no usable value, allowed are 40%"):
        Table.from_columns(sparse, PROFILE).require_ready(1)
    # Tier B: reported, not refused.
    Table.from_columns(columns(10, tpi=[None] * 10, tpi__m=[1] * 10), PROFILE).require_ready(1)
    with pytest.raises(NotReady):
        Table.from_columns(columns(0), PROFILE).require_ready(1)


def test_the_side_of_a_patient_depends_on_that_patient_alone() -> None:
    whole = Table.from_columns(columns(300), PROFILE)
    fewer = whole.take([row % 7 != 3 for row in range(300)])
    train, holdout = partition(whole, SPLIT_KEY)

    assert {*train.pids, *holdout.pids} == {*whole.pids}
    assert 35 <= len(holdout) <= 85  # 60 expected, ± 3.6 standard deviations
    assert set(partition(fewer, SPLIT_KEY)[1].pids) == set(holdout.pids) & set(fewer.pids)


def test_the_holdout_is_one_in_five_and_keyed() -> None:
    pids = [f"P{number}" for number in range(20_000)]
    sides = [in_holdout(SPLIT_KEY, pid) for pid in pids]
    other = [in_holdout(bytes(32), pid) for pid in pids]

    assert abs(sum(sides) / len(pids) - 0.2) < 0.012  # 4.2 standard deviations
    assert abs(sum(a and b for a, b in zip(sides, other, strict=True)) / len(pids) - 0.04) < 0.006


def test_the_threshold_of_the_holdout(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = (1 << 256) // 5  # the largest hash below 0.2 · 2²⁵⁶, because five does not divide 2²⁵⁶
    for number, side in ((0, True), (edge, True), (edge + 1, False), ((1 << 256) - 1, False)):
        monkeypatch.setattr("hmac.digest", lambda *_, number=number: number.to_bytes(32))
        assert in_holdout(SPLIT_KEY, "P") is side


def test_keys_have_32_bytes() -> None:
    with pytest.raises(MisuseError, match="32 bytes, not 16"):
        in_holdout(bytes(16), "P")
    with pytest.raises(MisuseError, match="32 bytes, not 0"):
        pseudonym(b"", "s", "i")


def test_pseudonyms_depend_on_key_system_and_identifier_but_on_no_profile() -> None:
    base = pseudonym(SPLIT_KEY, "urn:a", "1")

    assert base == "GOVY7NCAUAVELI25UFQMSNWIKG"
    assert (
        len(
            {
                base,
                pseudonym(bytes(32), "urn:a", "1"),
                pseudonym(SPLIT_KEY, "urn:b", "1"),
                pseudonym(SPLIT_KEY, "urn:a", "2"),
            }
        )
        == 4
    )
    with pytest.raises(MisuseError, match="3 flags for 5 rows"):
        Table.from_columns(columns(), PROFILE).take([True] * 3)


def rich(rows: int = 5, **changes: Any) -> dict[str, list[Any]]:
    """Every kind of column: zeros are tested-negative, vectors are there, nobody has an event."""
    plain = columns(rows)
    for variable in RICH.scalars[4:]:
        zero = variable.kind != "lab"
        plain |= {variable.name: [0.0 if zero else 5.0] * rows, f"{variable.name}__m": [4 if zero else 0] * rows}
    plain |= {"slide": [[0.0, 0.5, 2.0]] * rows, "slide__m": [0] * rows}
    for outcome in RICH.outcomes:
        plain |= {f"{outcome.name}_time": list(range(rows)), f"{outcome.name}_event": [False] * rows}
    return plain | changes


def test_every_kind_of_column_survives_the_file() -> None:
    gaps = rich(
        slide=[None, [1.0, 1.0, 1.0], None, [0.1, 0.2, 0.3], [-0.1, 2.0, 0.0]],
        slide__m=[3, 0, 1, 0, 0],
        relapse_time=[0, 7, None, 3, 4],
        relapse_event=[False, True, None, False, True],
        cyto_del5q=[1.0, 0.0, None, None, None],
        cyto_del5q__m=[0, 4, 3, 2, 5],
    )
    table = Table.from_columns(gaps, RICH)
    again = Table.from_parquet(table.to_parquet_bytes(), RICH)

    assert again.arrow.equals(table.arrow, check_metadata=True)
    assert again.digest == table.digest
    assert again.to_parquet_bytes() == table.to_parquet_bytes()
    half = again.take([False, True, True, False, True])
    assert half.arrow["slide"].to_pylist() == [[1.0, 1.0, 1.0], None, [pytest.approx(-0.1), 2.0, 0.0]]
    vectors, observed = half.matrix().features["slide"]
    assert observed.tolist() == [True, False, True]
    assert vectors.tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-0.1, 2.0, 0.0]]  # the bound itself, not its single
    duration, event = half.matrix().outcomes["relapse"]
    np.testing.assert_array_equal(duration, [7.0, np.nan, 4.0])
    assert event.tolist() == [True, False, True]
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 1.0


def test_states_reach_the_model() -> None:
    states = [0, 4, 3, 2, 5]
    table = Table.from_columns(rich(cyto_del5q=[1.0, 0.0, None, None, None], cyto_del5q__m=states), RICH)
    matrix = table.matrix()
    column = matrix.names.index("cyto_del5q")

    assert matrix.names == [variable.name for variable in RICH.inputs]
    assert matrix.states[:, column].tolist() == states
    # Tested and negative is an observation; not tested is none.
    assert matrix.observed[:, column].tolist() == [True, True, False, False, False]
    assert matrix.x[:, column].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cyto_del5q__m": [0] * 5}, "column cyto_del5q: values and states disagree"),  # zero without evidence
        ({"cyto_del5q": [1.0] * 5}, "column cyto_del5q: values and states disagree"),
        ({"tp53": [1.0] * 5, "tp53__m": [6] * 5}, "column tp53: values and states disagree"),
        ({"tp53_vaf": [1.5] * 5, "tp53_vaf__m": [0] * 5}, "column tp53_vaf: outside the profile's range"),
        ({"wbc__m": [4] * 5}, "column wbc: values and states disagree"),
        ({"slide__m": [1] * 5}, "column slide: values and states disagree"),
        ({"slide__m": [6] * 5}, "column slide: values and states disagree"),
        ({"slide": [None] * 5}, "column slide: values and states disagree"),
        ({"slide": [None] * 5, "slide__m": [4] * 5}, "column slide: values and states disagree"),
        ({"slide": [[0.0, None, 0.0]] * 5}, "column slide: a vector has gaps"),
        ({"slide": [[0.0, 2.1, 0.0]] * 5}, "column slide: outside the profile's range"),
        ({"slide": [[0.0, float("nan"), 0.0]] * 5}, "column slide: outside the profile's range"),
        ({"relapse_time": [None] * 5}, "column relapse_time: times and events disagree"),
        ({"relapse_time": [9] * 5}, "column relapse_time: outside the profile's range"),  # censored, but not at the end
        ({"relapse_time": [-1] * 5, "relapse_event": [True] * 5}, "column relapse_time: outside the profile's range"),
        ({"relapse_time": [9001] * 5, "relapse_event": [True] * 5}, "column relapse_time: outside the profile's range"),
    ],
)
def test_new_columns_are_not_believed_either(change: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(TableError, match=message):
        Table.from_columns(rich(**change), RICH)


@pytest.mark.parametrize(
    "change",
    [
        {"slide": [[0.0, 0.5, 2.0]] * 4 + [[0.0, 0.5, 1.9]]},
        {"slide": [[0.0, 0.5, 2.0]] * 4 + [None], "slide__m": [0, 0, 0, 0, 1]},
        {"relapse_time": [0, 1, 2, 3, 5], "relapse_event": [False] * 4 + [True]},
        {"relapse_event": [False] * 4 + [True]},
        {"relapse_time": [None, 1, 2, 3, 4], "relapse_event": [None] + [False] * 4},  # not 0: not known
        {"cyto_del5q": [None] + [0.0] * 4, "cyto_del5q__m": [1, 4, 4, 4, 4]},
    ],
)
def test_the_digest_sees_the_new_columns(change: dict[str, list[Any]]) -> None:
    assert Table.from_columns(rich(**change), RICH).digest != Table.from_columns(rich(), RICH).digest
