"""`haemfed model`: predict for a table or a Bundle, show, retire; what is refused and what is left alone."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path

import numpy as np
import pytest

from harmonize import export
from harmonize.profile import load
from harmonize.pseudonyms import pseudonym
from harmonize.table import Table
from models.loading import DAYS, LoadedModel
from nodes.cli import options
from nodes.places import Places, load_secrets
from tests.audits.sample import attack, evidence
from tests.harmonize.test_export import tables
from tests.nodes.released import Haemfed, certify, command_line_of_a_site, survival, write_survival

SYSTEM = "urn:test:hospital"
MAPPING = f'format = "bundle"\nprofile = "aml_core"\nfiles = ["absent.json"]\n[patient]\nsystem = "{SYSTEM}"\n'


@pytest.fixture
def haemfed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Haemfed:
    return command_line_of_a_site(tmp_path, capsys, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "model.safetensors"
    write_survival(path)
    return path


@pytest.fixture
def places(haemfed: Haemfed, tmp_path: Path) -> Places:
    del haemfed
    return Places(options.site(tmp_path / "site.toml").paths)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(table: Table, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(table.to_parquet_bytes())
    return path


def bundle(folder: Path, patients: int = 3) -> tuple[Path, Path]:
    """One Bundle with several patients, and its mapping file."""
    entries = [entry for each in export.bundles(tables("aml_core", 4, patients), SYSTEM) for entry in each["entry"]]
    path, mapping = folder / "patients[1].json", folder / "mapping.toml"
    path.write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    mapping.write_text(MAPPING)
    return path, mapping


def test_the_sites_own_table_is_printed_or_written(
    haemfed: Haemfed, model: Path, places: Places, tmp_path: Path
) -> None:
    table = tables("aml_core", 4, 3)
    written(table, places.table("aml_core"))

    code, out, err = haemfed("model", "predict", model, "--days", 365.25)
    assert code == 0
    assert err == "not certified: no audit of this model is known here\n"
    assert all(pid in out for pid in table.pids)
    assert "alive at 365.25 days" in out
    target = tmp_path / "out.csv"
    code, out, _ = haemfed("model", "predict", model, "--days", 365.25, "--days", 30, "--out", target)
    assert (code, out) == (0, f"3 patients, for this site only: {target}\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    rows = rows_of(target)
    assert list(rows[0]) == ["pseudonym", "alive_at_365.25_days", "alive_at_30_days", "log_risk", "model"]
    matrix = table.matrix()
    wanted = survival().survival(matrix.x, matrix.observed, np.array([365.25, 30.0]))
    assert [row["pseudonym"] for row in rows] == table.pids
    assert [[float(row["alive_at_365.25_days"]), float(row["alive_at_30_days"])] for row in rows] == pytest.approx(
        wanted, abs=1e-6
    )


def test_another_table_and_a_bundle_give_the_same_numbers(
    haemfed: Haemfed, model: Path, places: Places, tmp_path: Path
) -> None:
    table = written(tables("aml_core", 4, 3), tmp_path / "other.parquet")
    path, mapping = bundle(tmp_path)

    assert haemfed("model", "predict", model, "--table", table, "--out", "t.csv")[0] == 0
    assert haemfed("model", "predict", model, "--bundle", path, "--mapping", mapping, "--out", "b.csv")[0] == 0

    from_table, from_bundle = (
        {row["pseudonym"]: row for row in rows_of(tmp_path / name)} for name in ("t.csv", "b.csv")
    )
    key = load_secrets(places).pseudonym
    assert len(from_table) == 3
    for pid, row in from_table.items():
        other = from_bundle[pseudonym(key, SYSTEM, pid)]
        assert {**other, "pseudonym": pid} == row


def test_nothing_of_a_bundle_is_stored(haemfed: Haemfed, model: Path, places: Places, tmp_path: Path) -> None:
    path, mapping = bundle(tmp_path)
    before = sorted(each for each in tmp_path.rglob("*"))

    assert haemfed("model", "predict", model, "--bundle", path, "--mapping", mapping)[0] == 0

    assert sorted(each for each in tmp_path.rglob("*")) == before
    assert not places.table("aml_core").exists()


def test_a_bundle_without_a_usable_patient_says_why(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    path, mapping = bundle(tmp_path, 1)
    entries = json.loads(path.read_text())["entry"]
    kept = [each for each in entries if each["resource"]["resourceType"] != "Condition"]
    path.write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": kept}))

    code, _, err = haemfed("model", "predict", model, "--bundle", path, "--mapping", mapping)
    assert (code, "no usable patient (index-diagnosis-missing: 1)" in err) == (17, True)
    path.write_text("no json")
    assert haemfed("model", "predict", model, "--bundle", path, "--mapping", mapping)[0] == 17
    assert haemfed("model", "predict", model, "--bundle", tmp_path / "absent", "--mapping", mapping)[0] == 17


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MAPPING.replace("bundle", "ndjson"), 'exactly one source, of format "bundle"'),
        (MAPPING.replace("aml_core", "mds"), "profile is mds"),
        ("format =", "not TOML"),
    ],
)
def test_a_mapping_that_does_not_read_bundles_is_refused(
    text: str, says: str, haemfed: Haemfed, model: Path, tmp_path: Path
) -> None:
    path, mapping = bundle(tmp_path)
    mapping.write_text(text)

    code, _, err = haemfed("model", "predict", model, "--bundle", path, "--mapping", mapping)
    assert (code, says in err) == (10, True), err


@pytest.mark.parametrize(
    "wrong", [("--bundle", "b.json"), ("--mapping", "m.toml"), ("--table", "t", "--bundle", "b", "--mapping", "m")]
)
def test_options_that_contradict_each_other(wrong: tuple[str, ...], haemfed: Haemfed, model: Path) -> None:
    code, _, err = haemfed("model", "predict", model, *wrong)

    assert (code, "--bundle with --mapping" in err) == (2, True)


@pytest.mark.parametrize("days", [-1, 1e9, "nan"])
def test_the_model_says_nothing_beyond_its_horizon(days: object, haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    table = written(tables("aml_core", 4, 3), tmp_path / "other.parquet")

    path, mapping = bundle(tmp_path)

    for source in (("--table", table), ("--bundle", path, "--mapping", mapping)):
        code, _, err = haemfed("model", "predict", model, *source, "--days", days)
        assert (code, "beyond" in err) == (10, True)


def test_default_horizons_are_those_that_the_model_reaches() -> None:
    loaded = LoadedModel(survival(), {}, b"")

    assert loaded.predict(tables("aml_core", 4, 3).matrix()).days == tuple(
        day for day in DAYS if day <= survival().grid[-1]
    )


def test_a_table_of_another_profile_is_refused(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    table = written(tables("mds", 4, 3), tmp_path / "other.parquet")

    code, _, err = haemfed("model", "predict", model, "--table", table)
    assert (code, "harmonise its source under the model's profile" in err) == (17, True)
    code, _, err = haemfed("model", "predict", model)
    assert (code, "does not exist" in err) == (19, True)


def test_a_csv_is_replaced_only_by_force(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    table = written(tables("aml_core", 4, 3), tmp_path / "other.parquet")
    target = tmp_path / "out.csv"
    target.write_text("mine")

    assert haemfed("model", "predict", model, "--table", table, "--out", target)[0] == 19
    assert target.read_text() == "mine"
    assert haemfed("model", "predict", model, "--table", table, "--out", target, "--force")[0] == 0
    assert len(rows_of(target)) == 3


def test_a_failed_model_predicts_nothing(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    table = written(tables("aml_core", 4, 3), tmp_path / "other.parquet")
    certify(model, write_survival(model), evidence(attack=attack(tilt=3.0)))

    code, out, err = haemfed("model", "predict", model, "--table", table, "--out", "out.csv")

    assert (code, out) == (24, "")
    assert "sealed" in err
    assert not (tmp_path / "out.csv").exists()


def test_a_retired_model_predicts_nothing_and_says_why(
    haemfed: Haemfed, model: Path, places: Places, tmp_path: Path
) -> None:
    table = written(tables("aml_core", 4, 3), tmp_path / "other.parquet")
    kept = places.runs / "ab12cd34" / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(model.read_bytes())

    code, out, _ = haemfed("model", "retire", "ab12", "--reason", "a better one [v2]")
    assert code == 0
    assert ": retired, " in out
    assert out.rstrip().endswith(": a better one [v2]")
    code, out, _ = haemfed("model", "retire", kept, "--reason", "again")
    assert code == 0
    assert ": was retired before, " in out
    assert "a better one [v2]" in out
    for path in (kept, model):  # the second is a copy, outside of the site
        code, _, err = haemfed("model", "predict", path, "--table", table)
        assert (code, "a better one" in err) == (24, True)
        code, out, _ = haemfed("model", "show", path)
        assert (code, "retired on" in out) == (0, True)


def test_what_cannot_be_retired(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    assert haemfed("model", "retire", "0000", "--reason", "x")[0] == 10
    assert haemfed("model", "retire", model, "--reason", " ")[0] == 10
    (tmp_path / "text").write_text("no model")
    assert haemfed("model", "retire", tmp_path / "text", "--reason", "x")[0] == 17
    assert not list(tmp_path.rglob("*.retired.json"))


def test_a_card_without_a_profile_of_this_version_is_refused(haemfed: Haemfed, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for profile, says in (
        ({"name": "aml_core", "digest": "00"}, "this version ships another"),
        ({"name": "../site.toml", "digest": "00"}, "names no profile"),
        ("aml_core", "names no profile"),
    ):
        write_survival(path, profile=profile)
        code, _, err = haemfed("model", "predict", path)
        assert (code, says in err) == (17, True), err
    write_survival(path, profile={"name": "mds", "digest": load("mds").digest})
    code, _, err = haemfed("model", "predict", path, "--table", written(tables("mds", 1, 2), tmp_path / "t.parquet"))
    assert (code, "needs tpi" in err) == (17, True)
