"""Files survive a crash, stay private, and errors name the directory."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nodes import files
from nodes.errors import AlreadyRunning, StorageProblem


def test_write_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write(path, b"old")
    files.write(path, b"new")

    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_private_file_is_private_even_over_a_stale_temporary(tmp_path: Path) -> None:
    stale = tmp_path / ".key.tmp"
    stale.write_bytes(b"left by a crash")
    stale.chmod(0o666)

    files.write(tmp_path / "key", b"secret", private=True)

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert files.read_private(tmp_path / "key") == b"secret"


def test_a_planted_link_does_not_redirect_a_secret(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / ".key.tmp").symlink_to(target)

    with pytest.raises(StorageProblem):
        files.write(tmp_path / "key", b"secret", private=True)
    assert not target.exists()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "state"
    files.write(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if step == "fsync" else (Path, "replace", full)))

    with pytest.raises(StorageProblem, match=f"{tmp_path}: no space left"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_disk_full_for_real() -> None:
    device = Path("/dev/full")
    expected = pytest.raises(StorageProblem, match="no space left")
    with expected, files.storage_errors(device), device.open("wb") as file:
        file.write(b"x" * 100_000)


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(StorageProblem, match="missing: does not exist"):
        files.read(tmp_path / "missing")
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(StorageProblem, match="larger than 4 bytes"):
        files.read(tmp_path / "large", limit=4)
    assert files.read(tmp_path / "large", limit=5) == b"12345"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity.pem"
    path.write_bytes(b"secret")
    path.chmod(mode)

    with pytest.raises(StorageProblem, match=f"mode {mode:04o} .* chmod 600 {path}"):
        files.read_private(path)


def test_a_link_to_a_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"secret")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(StorageProblem, match="not a regular file"):
        files.check_private(tmp_path / "link")


def test_data_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    files.make_private_directory(path)
    files.make_private_directory(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o770)
    with pytest.raises(StorageProblem, match="chmod 700"):
        files.make_private_directory(path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageProblem, match="not a directory"):
        files.make_private_directory(tmp_path / "file")


def test_the_lock_names_its_holder_and_goes_with_the_process(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from nodes import files\n"
        "with files.lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(AlreadyRunning, match=f"in use by process {holder.pid}"), files.lock(tmp_path):
        pass

    holder.kill()
    holder.communicate()

    with files.lock(tmp_path):
        pass
