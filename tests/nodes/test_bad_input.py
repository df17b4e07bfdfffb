"""What a person can do wrong: one line that names the thing and the way out, its own exit status, nothing lost."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from nodes import cli, files
from nodes import study as studies
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import Consortium, found
from nodes.demo.processes import free_port
from nodes.enrolment import load_identity
from nodes.protocol import Terms
from nodes.provision import create_site
from nodes.study import SignedStudy, Study

pytestmark = pytest.mark.slow  # a consortium of four hospitals in files, and processes that are stopped
pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return found(tmp_path_factory.mktemp("consortium") / "root", hospitals(4), free_port(), Terms(), 0.0, NOW)


@pytest.fixture
def root(original: Consortium, tmp_path: Path) -> Path:
    """A copy to break."""
    copy = tmp_path / "root"
    shutil.copytree(original.study_file.parent, copy)
    return copy


class Haemfed:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> tuple[int, str]:
        self._monkeypatch.setattr(sys, "argv", ["haemfed", *map(str, arguments)])
        self._monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        error = self._capsys.readouterr().err
        assert "Traceback" not in error
        lines = [line for line in error.splitlines() if line.startswith("error:")]
        assert len(lines) <= 1
        return int(ended.value.code or 0), lines[0] if lines else error


@pytest.fixture
def haemfed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Haemfed:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Haemfed(capsys, monkeypatch)  # type: ignore[misc]
    for number, handler in handlers.items():
        signal.signal(number, handler)


def site(root: Path, name: str = "alder") -> Sequence[str]:
    return "--config", str(root / name / "site.toml")


def rewrite(root: Path, **changes: object) -> Path:
    """The study with other content, signed by nobody."""
    signed = studies.parse(files.read(root / "study.json"), "study.json")
    target = root / "changed.json"
    files.write(target, SignedStudy(msgspec.structs.replace(signed.study, **changes)).to_json())
    return target


def test_missing_configuration(haemfed: Haemfed, tmp_path: Path) -> None:
    code, line = haemfed("site", "check", "--config", tmp_path / "site.toml")
    assert code == 10
    assert "site.toml" in line


def test_unknown_key_in_configuration(haemfed: Haemfed, root: Path) -> None:
    path = root / "alder" / "site.toml"
    path.write_text(path.read_text() + "colour = 1\n")
    code, line = haemfed("site", "check", *site(root))
    assert code == 10
    assert "colour" in line


def test_policy_that_sets_nothing_refuses(haemfed: Haemfed, root: Path) -> None:
    (root / "alder" / "data" / "policy.toml").write_text("")
    code, line = haemfed("study", "sign", root / "study-unsigned.json", *site(root))
    assert code == 11
    assert "policy" in line


def test_unpinned_peer_refuses(haemfed: Haemfed, root: Path) -> None:
    path = root / "alder" / "data" / "policy.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("birch")))
    code, line = haemfed("study", "sign", root / "study-unsigned.json", *site(root))
    assert code == 11
    assert "birch" in line


def test_unsigned_study(haemfed: Haemfed, root: Path) -> None:
    code, line = haemfed("site", "run", root / "study-unsigned.json", *site(root))
    assert code == 12
    assert "not signed by" in line


def test_edited_study(haemfed: Haemfed, root: Path) -> None:
    path = root / "study.json"
    document = json.loads(path.read_text())
    document["study"]["federation"]["roster_changes"] = 40
    path.write_text(json.dumps(document))
    for command in (("site", "run", path, *site(root)), ("coordinator", "run", path, *site(root, "coordinator"))):
        arguments = [str(each).replace("coordinator/site.toml", "coordinator/coordinator.toml") for each in command]
        code, line = haemfed(*arguments)
        assert code == 12
        assert "edited after signing" in line


def test_study_for_another_profile(haemfed: Haemfed, root: Path) -> None:
    code, line = haemfed("study", "sign", rewrite(root, profile_digest="0" * 64), *site(root))
    assert code == 17
    assert "profile 'aml_core'" in line


def test_expired_study(haemfed: Haemfed, root: Path) -> None:
    code, line = haemfed("study", "sign", rewrite(root, not_after="2020-01-01T00:00:00+00:00"), *site(root))
    assert code == 12
    assert "expired" in line


def test_site_that_is_not_on_the_study(haemfed: Haemfed, root: Path) -> None:
    signed = studies.parse(files.read(root / "study.json"), "study.json")
    others = tuple(each for each in signed.study.sites if each.name != "alder")
    code, line = haemfed("study", "sign", rewrite(root, sites=others), *site(root))
    assert code in (12, 14)
    assert "alder" in line or "member" in line


def test_budget_too_small(haemfed: Haemfed, root: Path) -> None:
    assert haemfed("budget", "grant", "training", "--epsilon", "0.5", *site(root))[0] == 0
    code, line = haemfed("study", "sign", rewrite(root, name="another"), *site(root))
    assert code == 15
    assert "training" in line
    assert "haemfed budget grant" in line


def test_cohort_too_small(haemfed: Haemfed, root: Path) -> None:
    path = root / "alder" / "data" / "policy.toml"
    path.write_text(path.read_text().replace("minimum_cohort = 20", "minimum_cohort = 20000"))
    mapping = next((root / "alder" / "source").glob("mapping.*"))
    before = next((root / "alder" / "data" / "tables").glob("*.parquet")).read_bytes()
    code, line = haemfed("harmonize", "run", mapping, *site(root))
    assert code == 16
    assert "minimum_cohort" in line
    assert next((root / "alder" / "data" / "tables").glob("*.parquet")).read_bytes() == before


def test_truncated_source(haemfed: Haemfed, root: Path) -> None:
    source = root / "birch" / "source"  # bulk NDJSON
    for export in source.rglob("*.ndjson*"):
        data = export.read_bytes()
        export.write_bytes(data[: len(data) // 2] + b"\n" + b'{"resourceType": "Obs\n' * 50)
    table = next((root / "birch" / "data" / "tables").glob("*.parquet"))
    before = table.read_bytes()
    code, line = haemfed("harmonize", "run", next(source.glob("mapping.*")), *site(root, "birch"))
    assert code == 17
    assert "ndjson" in line
    assert table.read_bytes() == before


def test_foreign_certificate(haemfed: Haemfed, root: Path, tmp_path: Path) -> None:
    haemfed("coordinator", "init", tmp_path / "other")
    create_site(tmp_path / "new", "alder", "127.0.0.1:1")
    answer = tmp_path / "bundle.json"
    request = tmp_path / "new" / "alder.request.json"
    assert (
        haemfed("coordinator", "admit", request, "--out", answer, "--config", tmp_path / "other/coordinator.toml")[0]
        == 0
    )
    code, line = haemfed(
        "site", "join", answer, "--fingerprint", "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA", *site(tmp_path, "new")
    )
    assert code == 13
    assert "fingerprint" in line
    shutil.copy(tmp_path / "other/data/tls-authority.pem", root / "alder/data/tls-authority.pem")
    code, line = haemfed("site", "check", *site(root))
    assert code == 13
    assert "tls-certificate.pem" in line or "certificate" in line


def test_expired_certificate(haemfed: Haemfed, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nodes.cli import options

    monkeypatch.setattr(options, "now", lambda: NOW + dt.timedelta(days=4000))
    code, line = haemfed("site", "check", *site(root))
    assert code == 13
    assert "expired" in line


def test_port_in_use(haemfed: Haemfed, root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = root / "coordinator" / "coordinator.toml"
        path.write_text(f'listen = "127.0.0.1:{taken.getsockname()[1]}"\ndata_dir = "data"\n')
        code, line = haemfed("coordinator", "run", root / "study.json", "--config", path)
    assert code == 18
    assert "in use" in line


def test_disk_full(haemfed: Haemfed, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    table = next((root / "alder" / "data" / "tables").glob("*.parquet"))
    before = table.read_bytes()
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "fsync", full)
    code, line = haemfed("harmonize", "run", next((root / "alder" / "source").glob("mapping.*")), *site(root))
    monkeypatch.undo()
    assert code == 19
    assert "space" in line
    assert table.read_bytes() == before


def test_second_process_on_one_directory(haemfed: Haemfed, root: Path) -> None:
    with files.lock(root / "alder" / "data"):
        code, line = haemfed("budget", "grant", "training", "--epsilon", "3", *site(root))
    assert code == 23
    assert "data" in line


def test_coordinator_that_is_not_there(haemfed: Haemfed, root: Path) -> None:
    path = root / "alder" / "site.toml"
    path.write_text(path.read_text() + "reconnect_patience = 1.0\n")
    code, line = haemfed("site", "run", root / "study.json", *site(root))
    assert code == 21
    assert "nothing is lost" in line


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.1, 1.5, 4.0, 9.0])
def test_interrupt_at_any_moment(root: Path, moment: float) -> None:
    log = root / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "nodes.cli", "site", "run", str(root / "study.json"), *site(root)],
            stdout=stream,
            stderr=stream,
            # A runner in the background ignores SIGINT, and its children inherit that; a terminal's do not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- no threads here
        )
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    # Before Python has installed a handler the shell's own -2 is what an operator sees.
    assert code in (130, -2, 1 if moment < 1 else 130)
    if moment > 5:
        assert "interrupted" in log.read_text()
    assert load_identity(root / "alder" / "data" / "identity.pem")


def test_a_study_is_a_value(original: Consortium) -> None:
    assert isinstance(original.study, Study)
