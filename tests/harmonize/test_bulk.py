"""Bulk exports: a manifest and the files that it lists."""

import gzip
import io
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from harmonize import mapping as mappings
from harmonize import sources
from harmonize.errors import SourceError
from harmonize.events import Issue, Item
from harmonize.reporting.quality import Quality
from harmonize.sources import bulk, ndjson
from harmonize.table import Table, build
from tests.harmonize.patients import KEY, PROFILE, SYSTEM, fhir_mapping
from tests.harmonize.test_fhir_sources import CONDITION, ENCOUNTER, PATIENT, WBC

SERVER = "https://fhir.example/bulk/4f2c"
BULK = f'format = "bulk"\nprofile = "aml_core"\nfiles = ["*.json"]\n[patient]\nsystem = "{SYSTEM}"\n'
DELETED = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [{"request": {"method": "DELETE", "url": "Observation/w"}}],
}


def write(folder: Path, name: str, *resources: Any, packed: bool = False) -> None:
    data = "".join(json.dumps(resource) + "\n" for resource in resources).encode()
    (folder / f"{name}.gz" if packed else folder / name).write_bytes(gzip.compress(data) if packed else data)


def manifest(folder: Path, name: str = "manifest.json", **change: Any) -> None:
    document = {
        "transactionTime": "2021-01-01T00:00:00Z",
        "request": f"{SERVER}/$export",
        "requiresAccessToken": True,
        "output": [
            {"type": "Patient", "url": f"{SERVER}/Patient.ndjson?token=1", "count": 1},
            {"type": "Observation", "url": "Observation.ndjson", "count": 3},
        ],
        "error": [],
    }
    (folder / name).write_text(json.dumps({**document, **change}))


@pytest.fixture
def export(tmp_path: Path) -> Path:
    write(tmp_path, "Patient.ndjson", PATIENT)
    write(tmp_path, "Observation.ndjson", CONDITION, ENCOUNTER, {**WBC, "id": "w"}, packed=True)
    manifest(tmp_path)
    return tmp_path


def read(folder: Path) -> tuple[Table, Quality]:
    return build(sources.read(folder, mappings.loads(BULK, PROFILE), PROFILE), PROFILE, KEY)


def test_an_export(export: Path) -> None:
    table, quality = read(export)

    assert table.arrow["wbc"].to_pylist() == [13.3]
    assert not quality.findings


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("../Patient.ndjson", "file 1 lies outside its folder; list names beside the manifest"),
        ("a/../../Patient.ndjson", "file 1 lies outside its folder"),
        ("/etc/passwd", "file 1 lies outside its folder"),
        ("..\\Patient.ndjson", "file 1 lies outside its folder"),
        (f"{SERVER}/..", "file 1 lies outside its folder"),
        (f"{SERVER}/", "file 1 lies outside its folder"),
        ("", "file 1 lies outside its folder"),
        ("file:///etc/passwd", "file 1 is no web address and no name"),
        ("C:\\Patient.ndjson", "file 1 is no web address and no name"),
        ("link.ndjson", "file 1 lies outside its folder"),
        ("Patients.ndjson", "file 1 is not beside it; download it, too"),
        ("a\0b", "file 1 lies outside its folder"),
        (".", "file 1 lies outside its folder"),
    ],
)
@pytest.mark.parametrize("part", ["output", "deleted", "error"])
def test_a_path_that_leads_elsewhere(export: Path, url: str, message: str, part: str, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.ndjson"
    outside.write_text("")
    (export / "link.ndjson").symlink_to(outside)
    manifest(export, **{part: [{"type": "Patient", "url": url}]})

    with pytest.raises(SourceError) as error:
        read(export)
    assert str(error.value).startswith(f"manifest.json: {message}")
    assert "\n" not in str(error.value)


def test_a_file_that_lacks_resources(export: Path) -> None:
    write(export, "Patient.ndjson", PATIENT, {**PATIENT, "id": "2"})

    with pytest.raises(SourceError, match=r"^Patient.ndjson: 2 resources, and manifest.json says 1; download it again"):
        read(export)


def test_one_file_twice(export: Path) -> None:
    manifest(
        export, output=[{"url": "https://a.example/1/Patient.ndjson"}, {"url": "https://a.example/2/Patient.ndjson"}]
    )

    with pytest.raises(SourceError, match=r"^manifest.json: file 2 is the same file as an earlier one"):
        read(export)


@pytest.mark.parametrize("url", ["./Patient.ndjson", "also.ndjson"])
def test_one_file_by_two_names(export: Path, url: str) -> None:
    (export / "also.ndjson").symlink_to("Patient.ndjson")
    manifest(export, output=[{"url": "Patient.ndjson"}, {"url": url}])

    with pytest.raises(SourceError, match=r"^manifest.json: file 2 is the same file as an earlier one"):
        read(export)


@pytest.mark.parametrize("url", ["Patient.ndjson", f"{SERVER}/other/Patient.ndjson", "also.ndjson"])
def test_one_file_of_two_exports(export: Path, url: str) -> None:
    (export / "also.ndjson").symlink_to("Patient.ndjson")
    manifest(export, "later.json", transactionTime="2021-02-01T00:00:00Z", output=[{"url": url}])

    with pytest.raises(SourceError) as error:
        read(export)
    assert str(error.value) == (
        f"later.json: lists {url.rpartition('/')[2]}, as manifest.json does; keep each export in a folder of its own, "
        "with one manifest"
    )


def test_exports_in_folders_of_their_own(export: Path, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("both")
    export.rename(folder / "a")
    shutil.copytree(folder / "a", folder / "b")
    mapping = mappings.loads(BULK.replace("*.json", "*/manifest.json"), PROFILE)
    table, quality = build(sources.read(folder, mapping, PROFILE), PROFILE, KEY)

    assert table.arrow["wbc"].to_pylist() == [13.3]
    assert {finding.code for finding in quality.findings} == {"patient-duplicate", "resource-duplicate"}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b'{"transactionTime": "yesterday", "output": []}',
        b'{"transactionTime": 1}',
        b"\xff" * 9,
    ],
)
def test_no_manifest(export: Path, document: bytes) -> None:
    (export / "manifest.json").write_bytes(document)

    with pytest.raises(SourceError, match=r"^manifest.json: not the manifest of a bulk export"):
        read(export)


def test_what_was_deleted_is_left_out(export: Path) -> None:
    write(export, "gone.ndjson", DELETED)
    manifest(export, deleted=[{"type": "Bundle", "url": "gone.ndjson"}])
    table, quality = read(export)

    assert table.arrow["wbc"].to_pylist() == [None]
    assert [finding.code for finding in quality.findings] == ["resource-deleted"]


@pytest.mark.parametrize(("when", "value"), [("2020-12-31T23:00:00Z", 13.3), ("2021-01-01T02:00:00+01:00", None)])
def test_a_later_export_deletes_what_an_earlier_one_has(export: Path, when: str, value: float | None) -> None:
    write(export, "gone.ndjson", DELETED)
    manifest(export, "a.json", transactionTime=when, output=[], deleted=[{"type": "Bundle", "url": "gone.ndjson"}])

    assert read(export)[0].arrow["wbc"].to_pylist() == [value]


def test_half_a_list_of_deletions_is_refused(export: Path) -> None:
    (export / "gone.ndjson").write_bytes(json.dumps(DELETED).encode()[:-9])
    manifest(export, deleted=[{"type": "Bundle", "url": "gone.ndjson"}])

    with pytest.raises(SourceError, match=r"^gone.ndjson: line 1 is no Bundle of deletions; download it again"):
        read(export)


def test_what_the_server_could_not_export(export: Path) -> None:
    write(export, "errors.ndjson", {"resourceType": "OperationOutcome"}, {"resourceType": "OperationOutcome"})
    manifest(export, error=[{"type": "OperationOutcome", "url": "errors.ndjson"}])
    _, quality = read(export)

    assert [(finding.code, finding.count, finding.places) for finding in quality.findings] == [
        ("bulk-error", 2, ("errors.ndjson:1",))
    ]


def test_manifests_in_a_large_file(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_MOST", 100)
    with pytest.raises(SourceError, match=r"^manifest.json: larger than 0 MiB"):
        read(export)


def stream(data: bytes) -> list[Item]:
    return list(ndjson.read(io.BytesIO(data), fhir_mapping("ndjson"), PROFILE))


LINES = "\n".join(map(json.dumps, (PATIENT, CONDITION, ENCOUNTER, WBC))).encode()


def test_gzip_says_the_same() -> None:
    plain = stream(LINES)

    assert not [item for item in plain if isinstance(item, Issue)]
    assert stream(gzip.compress(LINES)) == plain
    half = LINES.index(b"\n") + 1
    assert stream(gzip.compress(LINES[:half]) + gzip.compress(LINES[half:])) == plain


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data[:40] + b"????" + data[44:],
        lambda data: data[:4],
        lambda data: data[:-8] + b"????" + data[-4:],
    ],
)
def test_damaged_gzip_is_refused(damage: Any) -> None:
    with pytest.raises(SourceError, match=r"^stream: damaged or cut-off gzip; copy or export the file again"):
        stream(damage(gzip.compress(LINES)))


def test_a_bomb_is_refused() -> None:
    data = gzip.compress(b" " * (64 << 20))
    assert len(data) < (64 << 20) // 200

    with pytest.raises(SourceError, match=r"^stream: inflates more than 200-fold; not an export"):
        stream(data)


def test_what_repeats_itself_is_no_bomb() -> None:
    many = b"\n".join([LINES.split(b"\n")[-1]] * 900)
    assert len(many) / len(zlib.compress(many)) > 100
    assert stream(gzip.compress(many)) == stream(many)
