"""A site killed at any moment: no upload without its charge, no acknowledged charge lost."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from nodes.store import LedgerRow, SiteStore

KILLS = 20
RUN, STUDY = b"r" * 32, b"s" * 32


def _entry(number: int) -> LedgerRow:
    return LedgerRow(number, f"hash {number - 1}", "upload", "{}", "now", f"hash {number}")


def _upload_for_ever(path: Path, acknowledge: int) -> None:
    with SiteStore(path) as store:
        number = store.last_round(RUN)
        while True:
            number += 1
            payload = number.to_bytes(8, "big") * 4096
            store.record_upload(_entry(number), RUN, number, number.to_bytes(32, "big"), payload)
            os.write(acknowledge, number.to_bytes(8, "big"))


def _run_and_kill(path: Path, rng: random.Random) -> int:
    """Return the last round that the child said was stored."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of pytest may run in here, whatever happens.
        try:
            os.close(reader)
            _upload_for_ever(path, writer)
        finally:
            os._exit(1)
    os.close(writer)
    acknowledged = 0
    for _ in range(rng.randrange(1, 4)):
        acknowledged = int.from_bytes(os.read(reader, 8), "big")
    time.sleep(rng.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    while more := os.read(reader, 8):
        acknowledged = int.from_bytes(more, "big")
    os.close(reader)
    return acknowledged


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "haemfed.sqlite3"
    rng = random.Random(20261125)
    with SiteStore(path) as store:
        store.approve(STUDY, "now")
        store.open_run(RUN, STUDY, _entry(0))

    for _ in range(KILLS):
        acknowledged = _run_and_kill(path, rng)

        with SiteStore(path) as store:
            last = store.last_round(RUN)
            entries = store.entries()
            upload = store.stored_upload(RUN, last)
        assert last in {acknowledged, acknowledged + 1}
        assert entries == [_entry(number) for number in range(last + 1)]
        assert upload is not None
        assert upload.payload == last.to_bytes(8, "big") * 4096
