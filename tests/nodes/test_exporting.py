"""`haemfed harmonize export` and `views`, from the command line to files that are read again."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harmonize import mapping, sources
from harmonize import profile as profiles
from harmonize.errors import ProfileMismatch
from harmonize.table import build
from nodes.errors import ConfigError, DataProblem, StorageProblem
from nodes.exporting import Form, export_table, export_views
from tests.harmonize.test_export import KEY, SYSTEM, same, tables
from tests.sweeps import thinned


@pytest.fixture(scope="module")
def octets() -> bytes:
    return tables("mds", 11, 8).to_parquet_bytes()


@pytest.fixture
def source(octets: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "table.parquet"
    path.write_bytes(octets)
    return path


@pytest.mark.parametrize("form", Form)
def test_what_is_written_is_read_again(form: Form, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert export_table(source, "mds", form, SYSTEM, folder) == 8

    mds = profiles.load("mds")
    again, _ = build(sources.read(folder, mapping.load(folder / "mapping.toml", mds), mds), mds, KEY)
    same(tables("mds", 11, 8), again)
    assert folder.stat().st_mode & 0o077 == 0


def test_an_export_replaces_nothing(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "kept").write_text("x")
    with pytest.raises(StorageProblem, match="exists"):
        export_table(source, "mds", Form.CSV, SYSTEM, folder)
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_failed_export_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nodes.exporting.Path.rename", fail)
    with pytest.raises(StorageProblem):
        export_table(source, "mds", Form.CSV, SYSTEM, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_a_table_of_another_profile_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ProfileMismatch):
        export_table(source, "aml", Form.FHIR, SYSTEM, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", thinned(["aml_core", "mds", "aml", "cmml", "mm"]))
def test_views_are_view_definitions(name: str, tmp_path: Path) -> None:
    count = export_views(name, tmp_path / "views")
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "views").iterdir())]
    assert len(found) == count >= 5
    names = [view["name"] for view in found]
    assert len(set(names)) == len(names)
    for view in found:
        # sql-name, and the columns of a shareable view have a name, a path and a type.
        assert view["name"].replace("_", "").isalnum()
        assert view["resource"] in {"Patient", "Condition", "Procedure", "Observation"}
        for column in view["select"][0]["column"]:
            assert set(column) == {"name", "path", "type"}


@pytest.mark.parametrize(
    ("name", "resource", "field"),
    thinned(
        (
            pytest.param(*each)
            for each in [
                ("mds_diagnosis", "Condition", "onset"),
                ("mds_transformation", "Condition", "onset"),
                ("mds_hsct", "Procedure", "performed"),
                ("mds_hb", "Observation", "effective"),
            ]
        ),
        2,
    ),
)
def test_a_view_has_every_form_of_a_date_that_is_read(name: str, resource: str, field: str, tmp_path: Path) -> None:
    export_views("mds", tmp_path / "views")
    views = [json.loads(path.read_text()) for path in (tmp_path / "views").iterdir()]
    (view,) = [view for view in views if view["name"] == name]
    paths = {column["path"] for column in view["select"][0]["column"]}

    assert view["resource"] == resource
    assert {f"{field}.ofType(dateTime)", f"{field}.ofType(Period).start"} <= paths
    assert ("effective.ofType(instant)" in paths) == (resource == "Observation")


def test_every_code_of_the_profile_is_in_a_view(tmp_path: Path) -> None:
    profile = profiles.load("mds")
    export_views("mds", tmp_path / "views")
    text = "".join(path.read_text() for path in (tmp_path / "views").iterdir())
    public = [
        code for variable in profile.variables for codes in getattr(variable, "codes", {}).values() for code in codes
    ]
    assert public
    assert all(f"code = '{code}'" in text for code in public)


@pytest.mark.parametrize("pid", thinned(["../stray", "=cmd()", "-1", "a/b", "A\nB", "a\0b", "", "x" * 65]))
@pytest.mark.parametrize("form", Form)
def test_a_pid_that_is_no_pseudonym_names_no_file(form: Form, pid: str, source: Path, tmp_path: Path) -> None:
    table = pq.ParquetFile(io.BytesIO(source.read_bytes())).read()
    pids = pa.array(sorted([pid, *table["pid"].to_pylist()[1:]]), table.schema.field("pid").type)
    pq.write_table(table.set_column(table.column_names.index("pid"), table.schema.field("pid"), pids), source)
    with pytest.raises(DataProblem, match=r"^table\.parquet: its pids are no pseudonyms") as refused:
        export_table(source, "mds", form, SYSTEM, tmp_path / "out")
    assert not pid or pid not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_a_link_under_the_temporary_name_leads_nowhere(source: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".out.partial").symlink_to(elsewhere)
    with pytest.raises(StorageProblem, match="file exists"):
        export_table(source, "mds", Form.CSV, SYSTEM, tmp_path / "out")
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("system", ["", "a\nb", "\udcff"])
def test_a_system_that_is_no_text(system: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one line of printable text"):
        export_table(source, "mds", Form.CSV, system, tmp_path / "out")
