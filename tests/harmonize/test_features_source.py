"""Feature files: joined by the hospital's identifier, made by the agreed encoder, never decoded from bytes."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources
from harmonize.errors import MappingError, SourceError
from harmonize.events import Event, Issue, Item, Pointer
from harmonize.sources import features
from tests.sweeps import examples

WEIGHTS, SETTINGS = "a" * 64, "b" * 64
_MDS = profiles.load("mds")


def _profile(**changes: object) -> profiles.Profile:
    raw = _MDS.model_dump(mode="json")
    for variable in raw["variables"]:
        if variable["name"] == "slide":
            variable.update({"length": 3, "encoder": "enc 1", "encoder_sha256": WEIGHTS, **changes})
    return profiles.Profile.model_validate(raw)


PROFILE = _profile()
RADIOMICS = _profile(columns=["f1", "f2", "f3"], settings_sha256=SETTINGS, encoder_sha256=None)
COHORT = {"s|1": Pointer("cohort.csv", 2), "s|2": Pointer("cohort.csv", 3)}
META = {"encoder": "enc 1", "encoder_sha256": WEIGHTS}


def mapping(extra: str = "", profile: profiles.Profile = PROFILE) -> mappings.Features:
    column = "" if profile is RADIOMICS else 'column = "v"'
    text = f"""
profile = "mds"
[[source]]
format = "csv"
files = ["c.csv"]
patient = {{ system = "s", column = "id" }}
columns = {{ index_date = {{ column = "dx" }}, last_follow_up = {{ column = "seen" }} }}
[[source]]
format = "features"
files = ["*.parquet"]
patient = {{ system = "s", column = "case" }}
variable = "slide"
{column}
{extra}
"""
    found = mappings.loads(text, profile).sources[1]
    assert isinstance(found, mappings.Features)
    return found


def parquet(
    cases: object, vectors: object, meta: dict[str, str] | None = None, kind: pa.DataType | None = None
) -> io.BytesIO:
    table = pa.table({"case": cases, "v": pa.array(vectors, kind or pa.list_(pa.float32()))})
    return written(table.replace_schema_metadata(META if meta is None else meta))


def written(table: pa.Table) -> io.BytesIO:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    stream.seek(0)
    return stream


def read(*streams: io.BytesIO, extra: str = "", profile: profiles.Profile = PROFILE) -> list[Item]:
    return list(features.read(streams, mapping(extra, profile), profile, COHORT))


def test_vectors_find_their_patients_both_ways() -> None:
    items = read(parquet(["1", "9", "9"], [[1.0, 2.0, 3.0]] * 3))

    assert [item for item in items if isinstance(item, Event)] == [
        Event("s|1", "slide", (1.0, 2.0, 3.0), Pointer("stream", 1, "case"))
    ]
    assert [item for item in items if isinstance(item, Issue)] == [
        Issue("features-unmatched", Pointer("stream", 2, "case"), "slide"),
        Issue("features-unmatched", Pointer("cohort.csv", 3), "slide"),
    ]


@pytest.mark.parametrize("kind", [pa.list_(pa.float16()), pa.list_(pa.float64(), 3), pa.large_list(pa.float32())])
@pytest.mark.parametrize("cases", [[1, 1, 2], ["1", "1", "2"]])
def test_several_slides_are_averaged(kind: pa.DataType, cases: list[object]) -> None:
    rows = [[1, 2, 3], [3, 2, 1], [0.5, 0, -1]]
    items = read(
        parquet(
            cases,
            [np.array(row, np.float16 if kind.value_type == pa.float16() else np.float64) for row in rows],
            kind=kind,
        )
    )

    assert [item.value for item in items if isinstance(item, Event)] == [(2.0, 2.0, 2.0), (0.5, 0.0, -1.0)]


def test_numbers_keep_single_precision() -> None:
    items = read(parquet(["1", "2", "2"], [[0.1, 1 / 3, 1e-30]] + [[0.1, 1 / 3, 1e30]] * 2))

    one, two = (item.value for item in items if isinstance(item, Event))
    assert one == tuple(np.float32([0.1, 1 / 3, 1e-30]).tolist())
    assert two == tuple(np.float32([0.1, 1 / 3, 1e30]).tolist())


def test_rows_that_are_not_finite_are_dropped() -> None:
    items = read(
        parquet(["1", "1", "2", "2", "1"], [[1, 1, 1], [1, float("nan"), 1], [float("inf"), 1, 1], None, [3, 3, None]])
    )

    assert [(item.patient, item.value) for item in items if isinstance(item, Event)] == [("s|1", (1.0, 1.0, 1.0))]
    assert [(item.code, item.where.line) for item in items if isinstance(item, Issue)] == [
        ("features-incomplete", 2), ("features-incomplete", 3), ("features-incomplete", 4), ("features-incomplete", 5),
        ("features-unmatched", 3),
    ]  # fmt: skip


def test_one_column_a_number() -> None:
    table = pa.table({"case": ["1", "2"], "f3": [3, 6], "f1": [1.5, None], "other": ["x", "y"], "f2": [2.0, 2.0]})
    meta = {"encoder": "enc 1", "settings_sha256": SETTINGS}

    items = read(written(table.replace_schema_metadata(meta)), profile=RADIOMICS)

    assert [(item.patient, item.value) for item in items if isinstance(item, Event)] == [("s|1", (1.5, 2.0, 3.0))]
    assert [item.code for item in items if isinstance(item, Issue)] == ["features-incomplete", "features-unmatched"]


@pytest.mark.parametrize(
    "meta", [{}, META | {"encoder_sha256": "c" * 64}, META | {"encoder": "enc 2"}, {"encoder": "enc 1"}]
)
def test_another_encoder_is_refused(meta: dict[str, str]) -> None:
    with pytest.raises(MappingError, match="stream: encoder-mismatch: "):
        read(parquet(["1"], [[1.0, 2.0, 3.0]], meta=meta))


def test_what_nobody_states_is_a_mismatch_with_its_own_way_out() -> None:
    with pytest.raises(MappingError, match="nothing states encoder_sha256 of slide; write it into the file's metadata"):
        read(parquet(["1"], [[1.0, 2.0, 3.0]], meta={"encoder": "enc 1"}))


def test_the_mapping_may_state_what_the_file_does_not() -> None:
    extra = f'encoder = "enc 1"\nencoder_sha256 = "{WEIGHTS}"'

    assert read(parquet(["1"], [[1.0, 2.0, 3.0]], meta={}), extra=extra)
    with pytest.raises(MappingError, match="encoder-mismatch"):  # it does not overrule what the file says
        read(parquet(["1"], [[1.0, 2.0, 3.0]], meta=META | {"encoder": "enc 2"}), extra=extra)


@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [
        (io.BytesIO(b"not parquet"), SourceError, "stream: not Parquet"),
        (parquet(["1", "2"], [[1.0] * 3, [1.0] * 2]), SourceError, "row 2: 2 numbers, but slide has 3"),
        (parquet([1.5], [[1.0] * 3]), MappingError, "column 'case' is double; identifiers must be text or whole"),
        (parquet(["1"], [b"AAAA"], kind=pa.binary()), MappingError, "column 'v' is binary, not a list of numbers"),
        (parquet(["1"], ["AAAA"], kind=pa.string()), MappingError, "column 'v' is string, not a list"),
        (parquet(["1"], [["a"]], kind=pa.list_(pa.string())), MappingError, "not a list of numbers"),
        (written(pa.table({"case": ["1"], "vv": [1.0]}, metadata=META)), MappingError, "did you mean 'vv'"),
    ],
)  # fmt: skip
def test_other_files_are_refused(stream: io.BytesIO, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        read(stream)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_identifiers() -> None:
    items = read(parquet(["1.2E+11", None, " ", "\u200b"], [[1.0] * 3] * 4))

    assert [item.code for item in items if isinstance(item, Issue)] == [
        "excel-identifier", *["identifier-missing"] * 3, *["features-unmatched"] * 2,
    ]  # fmt: skip


@settings(max_examples=examples(30), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["1", "2"]), st.lists(st.floats(-8, 8, width=16), min_size=3, max_size=3)), max_size=9
    )
)
def test_neither_the_order_of_rows_nor_the_cut_into_files_matters(rows: list[tuple[str, list[float]]]) -> None:
    def of(some: list[tuple[str, list[float]]]) -> io.BytesIO:
        return parquet(pa.array([case for case, _ in some], pa.string()), [vector for _, vector in some])

    def values(items: list[Item]) -> list[tuple[str, object]]:
        return sorted((item.patient, item.value) for item in items if isinstance(item, Event))

    shuffled = rows[::-1]

    assert values(read(of(rows))) == values(read(of(shuffled[:4]), of(shuffled[4:])))


def test_a_folder_with_a_cohort_and_its_features(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,dx,seen\n1,2010-01-01,2011-01-01\n2,2010-01-01,2011-01-01\n", encoding="utf-8")
    (tmp_path / "a.parquet").write_bytes(parquet(["2", "3"], [[1.0, 2.0, 3.0]] * 2).getvalue())
    source = mapping()
    cohort = mappings.loads(
        'profile = "mds"\nformat = "csv"\nfiles = ["c.csv"]\npatient = { system = "s", column = "id" }\n'
        'columns = { index_date = { column = "dx" }, last_follow_up = { column = "seen" } }',
        PROFILE,
    ).sources

    items = list(sources.read(tmp_path, mappings.Mapping("mds", (source, *cohort)), PROFILE))

    assert [(item.patient, item.value) for item in items if isinstance(item, Event) and item.variable == "slide"] == [
        ("s|2", (1.0, 2.0, 3.0))
    ]
    assert [(item.code, item.where.file, item.where.line) for item in items if isinstance(item, Issue)] == [
        ("features-unmatched", "a.parquet", 2),
        ("features-unmatched", "c.csv", 2),
    ]
