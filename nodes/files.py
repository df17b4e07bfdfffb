"""Files that survive a crash, stay private, and say which directory is full.

POSIX only: hospitals run the daemon on Linux, and ``flock``, ``O_NOFOLLOW`` and directory fsync are what the
guarantees below rest on.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nodes.errors import AlreadyRunning, StorageProblem

__all__ = [
    "check_private",
    "lock",
    "make_private_directory",
    "read",
    "read_private",
    "storage_errors",
    "write",
]

_LOCK_NAME: Final = ".lock"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` raised inside into one line that names ``path`` and the way out.

    Raises:
        StorageProblem: the disk is full, access is denied, or the device failed.
    """
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error


def write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Replace the file as a whole: after a crash at any moment it holds the old bytes or the new ones.

    When this returns, the new bytes and the directory entry are on the disk (fsync of both). There is one
    temporary name per target, so that a crash leaves at most one stale copy and the next write overwrites it;
    the caller holds the directory's lock.

    Args:
        path: The file; its directory exists.
        data: The new content.
        private: Mode 0600 from the first byte on, instead of 0644.

    Raises:
        StorageProblem: nothing was replaced.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    mode = 0o600 if private else 0o644
    with storage_errors(path.parent):
        try:
            # O_NOFOLLOW: a link planted under the temporary name must not redirect a secret.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123 -- a descriptor, not a path
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def read(path: Path, *, limit: int = 1 << 30) -> bytes:
    """Return the file's bytes.

    Args:
        path: The file.
        limit: The largest size in bytes that makes sense here; a larger file is not read.

    Raises:
        StorageProblem: missing, unreadable, or larger than ``limit``.
    """
    with storage_errors(path), path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise StorageProblem(f"{path}: larger than {limit} bytes, which is not what belongs here")
    return data


def read_private(path: Path, *, limit: int = 1 << 30) -> bytes:
    """Return a secret file's bytes after `check_private`."""
    check_private(path)
    return read(path, limit=limit)


def check_private(path: Path) -> None:
    """Refuse a secret that others can read or replace.

    Raises:
        StorageProblem: missing, not a regular file, owned by another user, or open to group or others.
    """
    with storage_errors(path):
        status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise StorageProblem(f"{path}: not a regular file; put the secret itself there, not a link")
    if status.st_uid != os.geteuid():
        raise StorageProblem(f"{path}: owned by user {status.st_uid}, not by the user that runs haemfed")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise StorageProblem(f"{path}: mode {mode:04o} lets others read it; run: chmod 600 {path}")


def make_private_directory(path: Path) -> None:
    """Create a data directory (mode 0700, parents as needed) or accept one that others cannot write to.

    Raises:
        StorageProblem: it cannot be created, is not a directory, or is writable by group or others.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            status = path.stat()
        else:
            _sync_directory(path.parent)
            return
    if not stat.S_ISDIR(status.st_mode):
        raise StorageProblem(f"{path}: not a directory; set data_dir to another path")
    if status.st_mode & 0o022:
        raise StorageProblem(f"{path}: others may write to the data directory; run: chmod 700 {path}")


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the data directory for this process alone.

    The kernel drops the lock when the process ends, however it ends; the file itself stays. It stops a second
    process on this machine, not a copied directory: against a copy stand the session nonces of `secagg`.

    Raises:
        AlreadyRunning: another process holds it; the message names its process id if it is known.
        StorageProblem: the lock file cannot be created.
    """
    path = directory / _LOCK_NAME
    with storage_errors(directory):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunning(
                f"{directory}: already in use by process {holder}; stop it, or use another data_dir"
            ) from error
        with storage_errors(directory):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path) -> StorageProblem:
    if error.errno in _FULL:
        return StorageProblem(f"{path}: no space left; free some and start again, nothing was lost")
    if error.errno in _FORBIDDEN:
        return StorageProblem(f"{path}: {os.strerror(error.errno or 0).lower()}; check its owner and mode")
    if error.errno == errno.ENOENT:
        return StorageProblem(f"{path}: does not exist")
    return StorageProblem(f"{path}: {os.strerror(error.errno or errno.EIO).lower()}")


def refuse_existing(target: Path, *, force: bool) -> None:
    """Refuse to replace a file unasked.

    Raises:
        StorageProblem: it exists, or is a folder.
    """
    if target.is_dir():
        raise StorageProblem(f"{target}: is a folder; name a file in it")
    if not force and (target.exists() or target.is_symlink()):
        raise StorageProblem(f"{target}: exists; name another file, or replace it with --force")
