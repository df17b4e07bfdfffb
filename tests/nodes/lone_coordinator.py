"""A coordinator in a process of its own that tells how much memory it takes; `test_memory` starts it."""

from __future__ import annotations

import datetime as dt
import sys
import threading
import time
from pathlib import Path

from nodes import tls
from nodes.config import CoordinatorConfig, load
from nodes.coordinator import Coordinator
from nodes.rpc_server import serve
from nodes.store import CoordinatorStore
from secagg.manifest import Manifest, Member


def manifest(identities: list[bytes]) -> Manifest:
    members = tuple(Member(index, f"site-{index}", key) for index, key in enumerate(identities, start=1))
    return Manifest(b"R" * 32, b"S" * 32, members, 1, len(members), 4, 1000)


def resident() -> int:
    """Octets that this process has in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def main(root: Path, words: int) -> None:
    """Serve; the first line on standard input begins the measurement, the second one ends it."""
    identities = [bytes.fromhex(line) for line in (root / "identities").read_text().split()]
    paths = load(CoordinatorConfig, root / "coordinator" / "coordinator.toml").paths
    coordinator = Coordinator(
        manifest(identities),
        CoordinatorStore(f"sqlite:///{root / 'coordinator.sqlite3'}"),
        max_words=words,
        deadline=500.0,
        patience=500.0,
        notice=lambda _event, _fields: None,
    )
    names = {index: f"site-{index}" for index in range(1, len(identities) + 1)}
    _, port = serve(coordinator, names, address="127.0.0.1:0", tls=tls.load_credentials(paths, dt.datetime.now(dt.UTC)))
    print(port, flush=True)  # noqa: T201 -- the answer
    sys.stdin.readline()
    idle = peak = resident()
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
    while not done.is_set():
        peak = max(peak, resident())
        time.sleep(0.005)
    print(peak - idle, flush=True)  # noqa: T201 -- the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
