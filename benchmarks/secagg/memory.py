"""Row 3.10: a hundred sites over gRPC and TLS, and the memory of the coordinator's process.

The coordinator is a process of its own (``python -m benchmarks.secagg.memory``), as in production but for the study's
document: certificate, SQLite store, server. All sites live in the calling process. Idle is the coordinator's resident
memory when everybody is connected and set up but for one last word; the peak is taken over a whole round: all uploads
at once, the sum, and its way to every site. Every site checks the sum, and it is compared with plain integers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.report import Row
from benchmarks.secagg import parties
from benchmarks.secagg.wired import Papers, issue
from nodes.chunks import CHUNK
from nodes.coordinator import Coordinator
from nodes.rpc_client import GrpcConnection, GrpcLink
from nodes.rpc_server import serve
from nodes.store import CoordinatorStore
from secagg.client import Client
from secagg.manifest import Manifest
from secagg.masks import Backend
from secagg.messages import FromServer, Ready, Step, Sum

__all__ = ["rows"]

_BOUND: Final = 1 << 40
_LARGEST: Final = 1 << 30
_PATIENCE: Final = 600.0  # seconds; nobody is to be given up here
_WORD: Final = 8


@dataclass
class _Site:
    client: Client
    connection: GrpcConnection
    step: Step | None = None
    sums: int = 0


def rows(backend: Backend, tell: Callable[[str], None], n: int = 100, length: int = 10**6) -> list[Row]:
    """Run one round of `n` sites with `length` parameters in the wide lattice.

    Args:
        backend: cipher implementation of the sites.
        tell: where to say what is going on.
        n: sites.
        length: parameters.
    """
    of = parties.manifest(n)
    with tempfile.TemporaryDirectory(prefix="haemfed-bench-") as folder:
        papers = issue(Path(folder), of)
        command = [sys.executable, "-m", "benchmarks.secagg.memory", folder, str(n), str(length)]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            port = int(json.loads(server.stdout.readline())["port"])
            idle, peak, wrong = _round(of, papers, port, server.pid, backend, length, tell)
        finally:
            server.kill()
            server.wait()
    allowed = 3 * _WORD * length + n * CHUNK
    what = f"{n} sites of {length:,} parameters, wide lattice"
    return [
        Row("3.10", f"{what}: sums that are wrong at any site", wrong, "sums", 0, "lower"),
        Row(
            "3.10",
            f"{what}: peak less idle memory of the server",
            (peak - idle) / 2**20,
            "MiB",
            allowed / 2**20,
            "lower",
        ),
        Row("3.10", f"{what}: idle memory of the server", idle / 2**20, "MiB"),
    ]


def _round(
    of: Manifest, papers: Papers, port: int, pid: int, backend: Backend, length: int, tell: Callable[[str], None]
) -> tuple[int, int, int]:
    """Return idle and peak memory in octets and the number of wrong sums."""
    sites: dict[int, _Site] = {}
    for listed in of.members:
        link = GrpcLink(f"127.0.0.1:{port}", papers.site(listed.name), max_words=length + 2)
        sites[listed.index] = _Site(parties.client(of, listed.index, backend=backend), link.connect())
    last = of.indices[-1]
    for site in sites.values():
        site.connection.send(site.client.hello())
        for message in site.client.begin():
            site.connection.send(message)
    held = _set_up(sites, last)
    time.sleep(1.0)  # what the others' last words have set off is over
    idle = _resident(pid, "VmRSS")
    _forget_peak(pid)
    tell(f"{len(sites)} sites are set up, {idle >> 20} MiB; uploading")
    sites[last].connection.send(held)
    _pump(sites, lambda: all(site.step for site in sites.values()), _take_step)

    expected = np.zeros(length, dtype=np.int64)
    uploads = {}
    for member, site in sites.items():
        step = site.step
        assert step is not None
        coordinates = parties.vector(length, _LARGEST, member)
        expected += coordinates
        context = site.client.open(step, parties.simple_terms(of, length, len(step.roster), 0, _BOUND))
        uploads[member] = site.client.upload(context, coordinates)
        site.step = None
    for member, upload in uploads.items():
        sites[member].connection.send(upload)
    del uploads
    wrong = 0

    def take_sum(site: _Site, message: FromServer) -> None:
        nonlocal wrong
        if isinstance(message, Sum):
            terms = parties.simple_terms(of, length, len(message.roster), 0, _BOUND)
            site.sums += 1
            wrong += not np.array_equal(site.client.accept(message, terms), expected)
        else:
            _take_step(site, message)

    _pump(sites, lambda: all(site.step and site.sums for site in sites.values()), take_sum)
    peak = _resident(pid, "VmHWM")
    for site in sites.values():
        site.connection.close()
    return idle, peak, wrong


def _set_up(sites: dict[int, _Site], last: int) -> Ready:
    """Set everybody up but keep back the last member's last word, and return it."""
    held: list[Ready] = []
    ready: set[int] = set()

    def take(site: _Site, message: FromServer) -> None:
        for answer in site.client.receive(message):  # type: ignore[arg-type]  # nothing but set-up comes now
            if isinstance(answer, Ready):
                ready.add(answer.member)
                if answer.member == last:
                    held.append(answer)
                    continue
            site.connection.send(answer)

    _pump(sites, lambda: len(ready) == len(sites), take)
    return held[0]


def _take_step(site: _Site, message: FromServer) -> None:
    assert isinstance(message, Step), type(message).__name__
    site.step = message


def _pump(sites: dict[int, _Site], done: Callable[[], bool], take: Callable[[_Site, FromServer], None]) -> None:
    """Take what arrives, wherever it arrives, until all is done."""
    until = time.monotonic() + _PATIENCE
    while not done():
        idle = True
        for site in sites.values():
            if site.connection.waiting():
                take(site, site.connection.receive())
                idle = False
        if idle:
            time.sleep(0.005)
        assert time.monotonic() < until, "the round does not come to an end"


def _resident(pid: int, field: str) -> int:
    """Return a memory figure of a process in octets."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no {field}")


def _forget_peak(pid: int) -> None:
    """Begin the peak anew; where that is not allowed it also covers the start of the process, which only adds to it."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _serve(root: Path, n: int, length: int) -> None:
    """Be the coordinator until the standard input is closed."""
    of = parties.manifest(n)
    papers = Papers(root)
    with CoordinatorStore(f"sqlite:///{root / 'coordinator.sqlite3'}") as store:
        coordinator = Coordinator(
            of, store, max_words=length + 2, deadline=_PATIENCE, patience=_PATIENCE, notice=lambda *_: None
        )
        names = {member.index: member.name for member in of.members}
        server, port = serve(coordinator, names, address="127.0.0.1:0", tls=papers.coordinator())
        print(json.dumps({"port": port}), flush=True)
        sys.stdin.read()
        coordinator.close()
        server.stop(0)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
