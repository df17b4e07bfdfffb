"""A model whose audit failed, that was withheld or retired is not used, wherever its file lies."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from audits.evidence import Outcome
from models.errors import ArtefactError
from nodes import reporting, results, sealing
from nodes.errors import ConfigError, Sealed
from nodes.places import Places
from tests.audits.sample import ISSUED, attack, evidence
from tests.nodes.released import certify, write_generator, write_survival

TODAY = ISSUED


@pytest.fixture
def model(tmp_path: Path) -> sealing.Opened:
    path = tmp_path / "runs" / "ab12cd34" / "model.safetensors"
    digest = write_survival(path)
    return sealing.Opened(path, hashlib.sha256(path.read_bytes()).hexdigest(), digest)


def copied(model: sealing.Opened, folder: Path) -> sealing.Opened:
    folder.mkdir(exist_ok=True)
    path = folder / "copy.safetensors"
    shutil.copy(model.path, path)
    return sealing.Opened(path, model.sha256, model.digest)


def runs(model: sealing.Opened) -> Path:
    return model.path.parent.parent


def test_names_are_those_of_the_rooms_that_write_the_files() -> None:
    assert (sealing.CERTIFICATE, sealing.MODEL) == (reporting.CERTIFICATE, results.MODEL)
    assert {str(outcome) for outcome in Outcome} >= {"PASS", "INCONCLUSIVE"}


def test_a_pass_is_used_in_silence_until_it_expires(model: sealing.Opened) -> None:
    certify(model.path, model.digest)

    assert sealing.check(model, runs(model), TODAY) == ()
    (said,) = sealing.check(model, runs(model), TODAY + dt.timedelta(days=4000))
    assert "expired" in said


def test_a_model_that_nobody_audited_is_used_with_a_word(model: sealing.Opened) -> None:
    assert sealing.check(model, None, TODAY) == ("not certified: no audit of this model is known here",)


def test_an_open_question_is_said(model: sealing.Opened) -> None:
    certify(model.path, model.digest, evidence(attack=None))

    (said,) = sealing.check(model, runs(model), TODAY)
    assert "INCONCLUSIVE" in said
    assert "not a pass" in said


@pytest.mark.parametrize(
    ("failed", "veto", "says"),
    [(evidence(attack=attack(tilt=3.0)), False, "FAIL(contradiction)"), (evidence(), True, "WITHHELD")],
    ids=["failed", "withheld"],
)
def test_a_failed_or_withheld_model_is_sealed_and_so_is_every_copy(
    failed: object, veto: bool, says: str, model: sealing.Opened, tmp_path: Path
) -> None:
    certify(model.path, model.digest, failed, veto=veto)  # type: ignore[arg-type]

    with pytest.raises(Sealed) as refused:
        sealing.check(model, None, TODAY)
    assert says in str(refused.value)
    with pytest.raises(Sealed):
        sealing.check(copied(model, tmp_path / "elsewhere"), runs(model), TODAY)


def test_a_word_that_is_no_verdict_seals(model: sealing.Opened) -> None:
    path = certify(model.path, model.digest)
    envelope = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["verdict"]["outcome"] = "PASSED"
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path.write_text(json.dumps(envelope))

    with pytest.raises(Sealed, match="PASSED"):
        sealing.check(model, None, TODAY)


@pytest.mark.parametrize("text", ["", "{}", '{"payload": "%%%"}', '{"payload": "e30="}', "\udcff"])
def test_a_damaged_certificate_does_not_unseal(text: str, model: sealing.Opened) -> None:
    model.path.with_name(sealing.CERTIFICATE).write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(Sealed, match="cannot be read"):
        sealing.check(model, None, TODAY)


def test_a_certificate_of_another_file_does_not_unseal(model: sealing.Opened, tmp_path: Path) -> None:
    other = tmp_path / "other" / "model.safetensors"
    digest = write_generator(other)
    shutil.copy(certify(other, digest), model.path.with_name(sealing.CERTIFICATE))

    with pytest.raises(Sealed, match="of another file"):
        sealing.check(model, None, TODAY)


def test_other_runs_do_not_speak_about_this_model(model: sealing.Opened) -> None:
    other = runs(model) / "ffff" / "model.safetensors"
    digest = write_generator(other)
    certify(other, digest, evidence(attack=attack(tilt=3.0)))
    (runs(model) / "eeee").mkdir()
    (runs(model) / "eeee" / sealing.CERTIFICATE).write_text("damaged")
    sealing.retire(other, digest, "of no use", TODAY)

    assert sealing.check(model, runs(model), TODAY) == ("not certified: no audit of this model is known here",)


def test_a_retired_model_says_when_and_why_wherever_it_lies(model: sealing.Opened, tmp_path: Path) -> None:
    certify(model.path, model.digest)
    note, new = sealing.retire(model.path, model.digest, "superseded by run 2", TODAY)

    assert new
    assert sealing.retirement(model, None) == note
    for each in (model, copied(model, tmp_path / "elsewhere")):
        with pytest.raises(Sealed, match=f"retired on {TODAY.isoformat()}: superseded by run 2"):
            sealing.check(each, runs(model), TODAY)


def test_the_first_reason_stays(model: sealing.Opened) -> None:
    first, _ = sealing.retire(model.path, model.digest, "superseded", TODAY)

    again, new = sealing.retire(model.path, model.digest, "another", TODAY + dt.timedelta(days=9))

    assert (again, new) == (first, False)
    assert [path.name for path in model.path.parent.iterdir() if path.name.startswith(".")] == []


def test_a_note_about_the_file_that_was_there_before_does_not_count(model: sealing.Opened) -> None:
    sealing.retire(model.path, "00" * 32, "an older model", TODAY)

    sealing.check(model, None, TODAY)
    note, new = sealing.retire(model.path, model.digest, "this one, too", TODAY)
    assert (note.reason, new) == ("this one, too", True)


@pytest.mark.parametrize("text", ["", "{", '{"format": "haemfed/retired/2", "model": "", "retired": "", "reason": ""}'])
def test_a_damaged_note_does_not_unseal(text: str, model: sealing.Opened) -> None:
    model.path.with_name("model.safetensors.retired.json").write_text(text)

    with pytest.raises(Sealed, match="cannot be read"):
        sealing.check(model, None, TODAY)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "two\nlines"])
def test_a_reason_is_one_line(reason: str, model: sealing.Opened) -> None:
    with pytest.raises(ConfigError, match="one line"):
        sealing.retire(model.path, model.digest, reason, TODAY)
    assert sealing.retirement(model, None) is None


def test_a_model_is_found_by_file_folder_or_run(model: sealing.Opened) -> None:
    for named in (str(model.path), str(model.path.parent), "ab12", "AB12cd34"):
        assert sealing.found(named, runs(model)) == model.path


@pytest.mark.parametrize(
    ("named", "says"),
    [("ab1", "no such file"), ("ab12/..", "no such file"), ("0000", "no run"), ("ab12", "2 runs"), ("ab12ee", "holds")],
)
def test_what_is_not_one_model_is_refused(named: str, says: str, model: sealing.Opened) -> None:
    (runs(model) / "ab12ee99").mkdir()

    with pytest.raises(ConfigError, match=says):
        sealing.found(named, runs(model))
    with pytest.raises(ConfigError, match="no such file"):
        sealing.found(named, None)


def test_both_kinds_of_model_are_opened_and_nothing_else(model: sealing.Opened, tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    digest = write_generator(path)

    assert sealing.opened(path, path.read_bytes()).digest == digest
    assert sealing.opened(model.path, model.path.read_bytes()) == model
    with pytest.raises(ArtefactError):
        sealing.opened(path, b"rubbish")


def test_a_sites_runs_lie_where_its_runs_are_put(tmp_path: Path) -> None:
    from nodes.config import SiteConfig, load
    from nodes.provision import create_site

    create_site(tmp_path / "alder", "alder", "127.0.0.1:1")
    places = Places(load(SiteConfig, tmp_path / "alder" / "site.toml").paths)
    assert places.run(b"\xab" * 16).parent == places.runs


def test_the_same_weights_in_an_edited_file_are_not_certified(model: sealing.Opened, tmp_path: Path) -> None:
    """Its card may say anything: a certificate speaks for the very file, and seals any."""
    certify(model.path, model.digest)
    edited = sealing.Opened(model.path, "00" * 32, model.digest)
    elsewhere = sealing.Opened(tmp_path / "elsewhere" / model.path.name, "00" * 32, model.digest)
    elsewhere.path.parent.mkdir()

    with pytest.raises(Sealed, match="of another file"):
        sealing.check(edited, None, TODAY)
    assert "not certified" in sealing.check(elsewhere, runs(model), TODAY)[0]
