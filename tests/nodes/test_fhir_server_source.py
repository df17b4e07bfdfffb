"""A FHIR server as a source: the same table as from the same resources in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmonize import export, mapping, sources
from harmonize import profile as profiles
from harmonize.errors import MappingError, MisuseError
from harmonize.table import Table, build
from nodes.errors import ConfigError, DataProblem
from nodes.fhir_cohort import fetching
from tests.harmonize.test_export import KEY, SYSTEM, same, tables
from tests.nodes.fhir_server import Resource, Script, serving


def mapped(base: str, more: str = "") -> str:
    return f'format = "fhir-server"\nprofile = "mds"\nurl = "{base}"\n{more}\n[patient]\nsystem = "{SYSTEM}"\n'


def read(text: str, folder: Path) -> Table:
    mds = profiles.load("mds")
    found = sources.read(folder, mapping.loads(text, mds), mds, fetch=fetching(folder, mds))
    return build(found, mds, KEY)[0]


def resources(table: Table) -> list[Resource]:
    """What a server would hold: references to its own Patients instead of places in a Bundle."""
    found = []
    for bundle in export.bundles(table, SYSTEM):
        for entry in bundle["entry"]:
            resource = dict(entry["resource"])
            if "subject" in resource:
                resource["subject"] = {"reference": f"Patient/{bundle['id']}"}
            found.append(resource)
    return found


@pytest.mark.parametrize("page", [1, pytest.param(7, marks=pytest.mark.slow), 1000])
def test_a_server_gives_the_table_that_it_holds(page: int, tmp_path: Path) -> None:
    table = tables("mds", 23, 2 if page == 1 else 45)  # 45: more than one search asks for
    stranger = [{"resourceType": "Patient", "id": "other", "identifier": [{"system": SYSTEM, "value": "other"}]}]
    with serving(Script([*stranger, *resources(table)], page=page)) as base:
        same(table, read(mapped(base), tmp_path))


def test_the_token_is_read_from_a_private_file(tmp_path: Path) -> None:
    table = tables("mds", 29, 3)
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("s3cret\n")
    with serving(Script(resources(table), token="s3cret", page=500)) as base:
        same(table, read(mapped(base, 'token_file = "token"'), tmp_path))
        token.write_text("wrong\n")
        with pytest.raises(DataProblem, match="another token") as refused:
            read(mapped(base, 'token_file = "token"'), tmp_path)
        assert "wrong" not in str(refused.value)
        token.write_text("Bearer s3cret\n")
        with pytest.raises(ConfigError, match="holds no bearer token"):
            read(mapped(base, 'token_file = "token"'), tmp_path)
        token.chmod(0o644)
        with pytest.raises(Exception, match="token"):
            read(mapped(base, 'token_file = "token"'), tmp_path)


def test_a_server_that_fails_half_way_makes_no_table(tmp_path: Path) -> None:
    script = Script(resources(tables("mds", 31, 30)), page=5)
    script.intercept = lambda number, _: (404, {}, b"") if number > 12 else None
    with serving(script) as base, pytest.raises(DataProblem, match="status 404"):
        read(mapped(base), tmp_path)


@pytest.mark.parametrize("name", ["../token", "/etc/token"])
def test_files_lie_beside_the_mapping(name: str) -> None:
    with pytest.raises(MappingError, match="token_file: must lie beside or below"):
        mapping.loads(mapped("https://x.example", f'token_file = "{name}"'), profiles.load("mds"))


def test_the_core_has_no_network(tmp_path: Path) -> None:
    mds = profiles.load("mds")
    with pytest.raises(MisuseError, match="needs somebody who searches it"):
        list(sources.read(tmp_path, mapping.loads(mapped("https://x.example"), mds), mds))
