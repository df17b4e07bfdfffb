"""`haemfed synth`: from a generator's file to tables, CSV and FHIR that say where they came from."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from harmonize import mapping, sources, synthetic
from harmonize.events import State
from harmonize.profile import load
from harmonize.table import Table, build
from nodes import synthesis
from nodes.errors import DataProblem, StorageProblem
from nodes.exporting import Form
from nodes.provision import create_site
from tests.audits.sample import attack, evidence
from tests.harmonize.test_export import same, tables
from tests.nodes.released import Haemfed, certify, command_line, write_generator, write_survival

NOTICE = "not certified: no audit of this model is known here\n"


@pytest.fixture
def haemfed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Haemfed:
    monkeypatch.chdir(tmp_path)  # no site.toml there
    return command_line(capsys, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "model.safetensors"
    write_generator(path)
    return path


def read(path: Path, profile: str = "aml_core") -> Table:
    return Table.from_parquet(path.read_bytes(), load(profile))


def rejections(out: str) -> int:
    return int(out.splitlines()[1].split()[0])


def sample(haemfed: Haemfed, model: Path, target: Path, *more: object) -> str:
    code, out, err = haemfed("synth", "sample", model, "--patients", 300, "--seed", 5, "--out", target, *more)
    assert (code, err) == (0, NOTICE)
    return out


def test_a_table_of_so_many_patients_is_written_and_says_where_it_came_from(
    haemfed: Haemfed, model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "s.parquet"

    out = sample(haemfed, model, target)

    table = read(target)
    assert len(table) == 300
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    origin = synthetic.provenance_of(table)
    assert origin is not None
    assert origin["model_file_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (origin["seed"], origin["patients"], origin["study"]["name"]) == (5, 300, "invented")
    assert origin["software"].startswith("haemfed ")
    assert origin["synthetic"] is True
    lines = out.splitlines()
    assert lines[0] == f"300 synthetic patients, 4 variables: {target}"
    assert lines[1] == "  0 of 300 draws broke a clinical rule and were refused"
    assert lines[2] == "  differentially private: ε = 0.988 at δ = 1e-05; one patient; everybody adds noise"


def test_the_same_seed_gives_the_same_file(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    one, same_, other = (tmp_path / f"{name}.parquet" for name in "abc")
    sample(haemfed, model, one)
    sample(haemfed, model, same_)
    haemfed("synth", "sample", model, "--patients", 300, "--seed", 6, "--out", other)

    assert one.read_bytes() == same_.read_bytes()
    assert read(one).digest != read(other).digest
    assert not set(read(one).pids) & set(read(other).pids)


def test_nobody_in_it_breaks_a_rule_and_refusals_are_counted(haemfed: Haemfed, tmp_path: Path) -> None:
    model, target = tmp_path / "mds.safetensors", tmp_path / "s.parquet"
    write_generator(model, "mds")

    code, out, _ = haemfed("synth", "sample", model, "--patients", 20, "--seed", 1, "--out", target)

    assert code == 0
    drawn, rejected = synthetic.provenance_of(read(target, "mds"))["drawn"], rejections(out)  # type: ignore[index]
    assert drawn - rejected >= 20
    assert rejected > 0
    matrix = read(target, "mds").matrix()
    assert not synthetic.broken(load("mds"), matrix.names, matrix.x, matrix.observed).any()


def test_patients_can_be_complete_and_columns_few(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "s.parquet"

    sample(haemfed, model, target, "--complete", "--variables", "wbc, age")

    table = read(target)
    assert set(table.states("wbc").tolist()) | set(table.states("age").tolist()) == {State.VALUE}
    assert set(table.states("sex").tolist()) == {State.NOT_RECORDED}
    origin = synthetic.provenance_of(table)
    assert origin is not None
    assert (origin["variables"], origin["complete"]) == (["wbc", "age"], True)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--variables", "age,height"), 10, "the generator has no height; it has age, sex, wbc, tpi"),
        (("--variables", ""), 10, "the generator has no ; it has age, sex, wbc, tpi"),
        (("--variables", "age,age"), 10, "each once"),
        (("--patients", 0), 10, "--patients takes 1 to 1,000,000"),
        (("--patients", 1_000_001), 10, "--patients takes 1 to 1,000,000"),
        (("--patients", 200_000, "mds"), 10, "--patients takes 1 to 174,762"),
        (("--seed", -1), 10, "2^63 - 1"),
        (("--seed", 2**63), 10, "2^63 - 1"),
        (("--out", "nowhere/s.parquet"), 19, "does not exist"),
        (("--out", "."), 19, "is a folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    more: tuple[object, ...], code: int, says: str, haemfed: Haemfed, model: Path, tmp_path: Path
) -> None:
    if more[-1] == "mds":  # its vectors take room, also where there are none
        write_generator(model, "mds")
        more = more[:-1]
    base = ("synth", "sample", model, "--patients", 5, "--seed", 1, "--out", "s.parquet")

    found, out, err = haemfed(*base, *more)

    assert (found, out) == (code, "")
    assert says in err
    assert err.count("error:") == 1
    assert not (tmp_path / "s.parquet").exists()


def test_a_table_is_replaced_only_by_force_and_whole(
    haemfed: Haemfed, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "s.parquet"
    target.write_text("mine")
    base = ("synth", "sample", model, "--patients", 5, "--seed", 1, "--out", target)

    assert haemfed(*base)[0] == 19
    assert target.read_text() == "mine"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        assert haemfed(*base, "--force")[0] == 19
    assert target.read_text() == "mine"
    assert haemfed(*base, "--force")[0] == 0
    assert len(read(target)) == 5
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_study_without_noise_is_called_so(haemfed: Haemfed, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    for said, printed in (
        ("not differentially private: masks only", "not differentially private: masks only"),
        ("differentially private: of course", "not differentially private"),
    ):
        write_generator(model, privacy={"protection": said, "epsilon": "not bounded"})
        out = sample(haemfed, model, tmp_path / "s.parquet", "--force")
        assert out.splitlines()[2] == f"  {printed}"
    assert synthesis.protection({}) == "not differentially private"


def test_a_sealed_model_draws_nothing(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    certify(model, write_generator(model), evidence(attack=attack(tilt=3.0)))

    code, out, err = haemfed("synth", "sample", model, "--patients", 5, "--seed", 1, "--out", tmp_path / "s.parquet")

    assert (code, out) == (24, "")
    assert "FAIL(contradiction)" in err
    assert not (tmp_path / "s.parquet").exists()


def test_a_model_retired_at_a_site_draws_nothing_there_also_as_a_copy(
    haemfed: Haemfed, model: Path, tmp_path: Path
) -> None:
    create_site(tmp_path / "alder", "alder", "127.0.0.1:1")
    config = ("--config", tmp_path / "alder" / "site.toml")
    kept = tmp_path / "alder" / "data" / "runs" / "ab12cd34" / "model.safetensors"
    write_generator(kept)

    code, out, _ = haemfed("model", "retire", "ab12", "--reason", "superseded", *config)
    assert code == 0
    assert out.rstrip().endswith(": superseded")
    base = ("synth", "sample", model, "--patients", 5, "--seed", 1, "--out", tmp_path / "s.parquet")
    code, _, err = haemfed(*base, *config)
    assert (code, "superseded" in err) == (24, True)


def test_a_generator_under_another_profile_is_refused(haemfed: Haemfed, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for profile, says in (
        ({"name": "aml_core", "digest": "00"}, "this version ships another"),
        ({"name": "mds", "digest": load("mds").digest}, "draws tpi, which profile mds does not have"),
        ("aml_core", "names no profile"),
        ({"name": "../x", "digest": "00"}, "names no profile"),
    ):
        write_generator(path, profile=profile)
        code, _, err = haemfed("synth", "show", path)
        assert (code, says in err) == (17, True), err


def test_show_names_what_can_be_drawn(haemfed: Haemfed, model: Path) -> None:
    code, out, err = haemfed("synth", "show", model)

    assert (code, err) == (0, "")
    for word in ("bayesnet", "aml_core", "differentially private: ε = 0.988", "wbc", "continuous", "invented"):
        assert word in out


@pytest.mark.parametrize("form", list(Form))
def test_an_export_is_read_back_as_the_same_patients(form: Form, haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    table, folder = tmp_path / "s.parquet", tmp_path / "out"
    haemfed("synth", "sample", model, "--patients", 12, "--seed", 5, "--complete", "--out", table)

    code, out, err = haemfed("synth", "export", table, "--format", form, "--out", folder)

    assert (code, err) == (0, "")
    assert out == f"12 synthetic patients: {folder}\n"
    profile = load("aml_core")
    again, quality = build(
        sources.read(folder, mapping.load(folder / "mapping.toml", profile), profile), profile, bytes(32)
    )
    assert not quality.flow.left_out
    same(read(table), again)
    origin = synthetic.provenance_of(read(table))
    if form is Form.CSV:
        assert json.loads((folder / "provenance.json").read_text()) == origin
        assert (folder / "patients.csv").read_text().startswith("patient,")
    else:
        bundles = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        assert len(bundles) == 12
        assert {bundle["meta"]["security"][0]["code"] for bundle in bundles} == {"HTEST"}


def test_an_export_replaces_nothing_and_takes_no_real_patients(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    table, folder = tmp_path / "s.parquet", tmp_path / "out"
    haemfed("synth", "sample", model, "--patients", 3, "--seed", 5, "--out", table)
    folder.mkdir()
    assert haemfed("synth", "export", table, "--out", folder)[0] == 19

    real = tmp_path / "real.parquet"
    real.write_bytes(tables("aml_core", 1, 3).to_parquet_bytes())
    code, _, err = haemfed("synth", "export", real, "--format", "csv", "--out", tmp_path / "other")
    assert (code, "not marked as synthetic" in err) == (17, True)
    assert not (tmp_path / "other").exists()

    (tmp_path / "no.parquet").write_text("no table")
    code, _, err = haemfed("synth", "export", tmp_path / "no.parquet", "--out", tmp_path / "other")
    assert (code, "not a canonical table" in err) == (17, True)
    assert haemfed("synth", "export", tmp_path / "absent.parquet", "--out", tmp_path / "other")[0] == 19
    assert haemfed("synth", "export", table, "--format", "xml", "--out", tmp_path / "other")[0] == 2


def test_a_survival_model_is_called_one_and_sent_to_its_own_commands(haemfed: Haemfed, tmp_path: Path) -> None:
    path = tmp_path / "survival.safetensors"
    write_survival(path)
    draws = ("--patients", 3, "--seed", 5, "--out", tmp_path / "s.parquet")

    for command, more in (("show", ()), ("sample", draws)):
        code, out, err = haemfed("synth", command, path, *more)
        assert (code, out) == (17, "")
        assert "the file holds a survival model, not a generator of synthetic patients" in err
        assert "`haemfed model show`, `predict` and `export`" in err
    assert [each.name for each in tmp_path.iterdir()] == ["survival.safetensors"]


def test_an_export_of_a_model_says_what_the_file_holds(haemfed: Haemfed, model: Path, tmp_path: Path) -> None:
    survival = tmp_path / "survival.safetensors"
    write_survival(survival)

    for path, holds, way in (
        (model, "no table but a generator of synthetic patients", "`haemfed synth sample` draws a table from it"),
        (survival, "no table but a survival model", "`haemfed model show`, `predict` and `export`"),
    ):
        code, _, err = haemfed("synth", "export", path, "--out", tmp_path / "other")
        assert (code, holds in err, way in err) == (17, True, True), err
    assert not (tmp_path / "other").exists()


def test_a_generator_that_hardly_keeps_the_rules_is_refused(model: Path, tmp_path: Path) -> None:
    opened = synthesis.opened(model)

    with pytest.MonkeyPatch.context() as always:
        always.setattr(synthetic, "broken", lambda *arguments: arguments[2][:, 0] == arguments[2][:, 0])
        with pytest.raises(DataProblem, match="learned too little"):
            synthesis.draw(opened, synthesis.Asked(5, 1), tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()
    with pytest.raises(StorageProblem):
        synthesis.draw(opened, synthesis.Asked(5, 1), tmp_path)
