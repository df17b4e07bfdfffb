"""Row 3.9: a thousand steps over real gRPC while everything goes wrong.

Five sites and a coordinator in one process, streams over loopback TLS. Sites are killed between any two messages and
start again from their disk or from an old copy of it; the coordinator is restarted from its store; a man in the middle
of every stream duplicates, delays, reorders, replays and drops messages. Runs of both modes and several lane widths
follow one another until a thousand rounds were opened, completed or not.

Two things are counted: mask keys that were laid over two different vectors, and sums, stored or accepted anywhere, that
are not the sums of the plain integers.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from benchmarks.report import Row
from benchmarks.secagg import parties
from benchmarks.secagg.fuzz_site import LENGTH, Recorder, Site
from benchmarks.secagg.meddler import Meddler
from benchmarks.secagg.wired import Papers, issue
from nodes.coordinator import Coordinator
from nodes.rpc_client import GrpcLink
from nodes.rpc_server import serve
from nodes.store import CoordinatorStore
from secagg import lanes
from secagg.lanes import Coordinates
from secagg.manifest import Manifest, Mode

__all__ = ["rows"]

SEED: Final = 20260103
SITES: Final = 5
_DEADLINE, _PATIENCE = 0.3, 3.0  # seconds
_KINDS: Final = ((Mode.A, 64), (Mode.A, 16), (Mode.B, 64), (Mode.A, 21), (Mode.B, 16))
_LONGEST_RUN: Final = 40.0  # seconds; then the next run begins


def rows(tell: Callable[[str], None], steps: int = 1000) -> list[Row]:
    """Run until so many rounds were opened.

    Args:
        tell: where to say what is going on.
        steps: rounds to open.
    """
    counts: Counter[str] = Counter()
    recorder = Recorder()
    # In memory where there is such a folder: nothing here tests the disk, and a thousand steps wait for it twice each.
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of our own is made in it
    with tempfile.TemporaryDirectory(prefix="haemfed-fuzz-", dir=shared) as folder:
        papers = issue(Path(folder), parties.manifest(SITES))
        for number in itertools.count():
            if counts["steps"] >= steps:
                break
            mode, bits = _KINDS[number % len(_KINDS)]
            of = parties.manifest(SITES, bits=bits, mode=mode, run=1 + number)
            run = _Run(of, papers, Path(folder) / f"run-{number}.sqlite3", recorder, random.Random(SEED + number))  # noqa: S311
            counts += run.drive(min(steps - counts["steps"], 60))
            done = f"{counts['steps']} of {steps} steps, {counts['sums']} sums"
            found = f"{done}, {recorder.keys} keys, {recorder.reused} reused, {counts['wrong']} wrong"
            tell(f"run {number + 1} (mode {mode}, {bits} bits, {run.end}): {found}")
    what = f"{counts['steps']} steps over gRPC in {counts['runs']} runs"
    explained = {
        "sums": "completed",
        "kills": "sites killed",
        "restores": "of them started from an old copy of the disk",
        "restarts": "coordinator restarts",
        "tricks": "messages duplicated, delayed, reordered, replayed or dropped",
        "refusals": "sessions that sites ended themselves",
    }
    return [
        Row("3.9", f"{what}: mask keys used for two vectors", recorder.reused, "keys", 0, "lower"),
        Row("3.9", f"{what}: wrong sums", counts["wrong"], "sums", 0, "lower"),
        Row("3.9", f"{what}: different mask and tag keys seen", recorder.keys, "keys"),
        *(Row("3.9", f"{what}: {text}", counts[key], "") for key, text in explained.items()),
    ]


class _Run:
    """One study under attack."""

    def __init__(self, of: Manifest, papers: Papers, database: Path, recorder: Recorder, chance: random.Random) -> None:
        self._of, self._papers, self._database, self._chance = of, papers, database, chance
        self._counts: Counter[str] = Counter(runs=1)
        self._vectors: dict[tuple[int, int], list[Coordinates]] = defaultdict(list)
        self._store = CoordinatorStore(f"sqlite:///{database}")
        self._coordinator, self._server, self._links = self._serve()
        # Some runs are calm, so that long histories exist; in others hardly a message arrives as it was sent.
        self._rate = chance.choice([0.0, 0.005, 0.02, 0.05])
        # Tricks in set-up end most runs before their first round, so few runs have them.
        first = self._rate if chance.random() < 0.2 else 0.0
        self._sites = [
            Site(of, member, recorder, Meddler(chance, first), chance, self._vectors) for member in of.indices
        ]

    def drive(self, steps: int) -> Counter[str]:
        """Open so many rounds, or as many as the run gives, and return what was counted."""
        until = time.monotonic() + _LONGEST_RUN
        while self._counts["steps"] < steps and time.monotonic() < until and not self._coordinator.ended:
            busy = [
                site.turn(self._links[site.member])
                for site in self._chance.sample(self._sites, SITES)
                if not site.ended
            ]
            self._mishap()
            if not busy:
                break
            if not any(busy):
                time.sleep(0.001)
        for site in self._sites:
            site.hang_up()
            self._counts["refusals"] += site.refusals
            self._counts["tricks"] += sum(n for trick, n in site.meddler.tricks.items() if trick)
        self._stop()
        self._counts["wrong"] += self._wrong()
        self._store.close()
        return self._counts

    @property
    def end(self) -> str:
        """Say why the run is over."""
        return self._coordinator.reason or "broken off"

    def _mishap(self) -> None:
        if not self._counts["steps"]:
            return
        for site in self._sites:
            site.meddler.rate = self._rate
        dice = self._chance.random()
        site = self._chance.choice(self._sites)
        if dice < 0.006 and not site.ended:
            restore = self._chance.random() < 0.4
            site.kill(restore=restore)
            self._counts["kills"] += 1
            self._counts["restores"] += restore
        elif dice < 0.016:
            site.back_up()
        elif dice < 0.018:
            site.hang_up()
        elif dice < 0.0187:
            self._stop()
            self._coordinator, self._server, self._links = self._serve()
            self._counts["restarts"] += 1

    # ---- the coordinator ----

    def _serve(self) -> tuple[Coordinator, grpc.Server, dict[int, GrpcLink]]:
        names = {member.index: member.name for member in self._of.members}
        coordinator = Coordinator(
            self._of, self._store, max_words=LENGTH + 2, deadline=_DEADLINE, patience=_PATIENCE, notice=self._notice
        )
        server, port = serve(coordinator, names, address="127.0.0.1:0", tls=self._papers.coordinator())
        address = f"127.0.0.1:{port}"
        links = {
            member: GrpcLink(address, self._papers.site(name), max_words=LENGTH + 2) for member, name in names.items()
        }
        return coordinator, server, links

    def _stop(self) -> None:
        self._coordinator.close()
        self._server.stop(0).wait()

    def _notice(self, event: str, _fields: dict[str, Any]) -> None:
        if event in ("round", "sum"):
            self._counts["steps" if event == "round" else "sums"] += 1

    # ---- the verdict ----

    def _wrong(self) -> int:
        """Count sums, in the store and at sites, that are no sum of plain integers."""
        wrong = 0
        stored: dict[int, bytes] = {}
        for entry in self._store.history(self._of.run_id):
            words = np.frombuffer(self._store.words(self._of.run_id, entry.position, 0, entry.size), dtype="<u8")
            decoded = lanes.unpack(words[:-2].astype(np.uint64), LENGTH, self._of.lane_bits)
            stored[entry.round] = decoded.tobytes()
            wrong += not any(np.array_equal(decoded, total) for total in self._totals(entry.round, entry.survivors))
        for site in self._sites:
            wrong += sum(each != stored.get(number) for number, all_ in site.accepted.items() for each in all_)
        return wrong

    def _totals(self, number: int, survivors: tuple[int, ...]) -> Iterator[Coordinates]:
        """Yield the plain integer sums of what the survivors uploaded for a round: one, unless a site did so twice."""
        for vectors in itertools.product(*(self._vectors[member, number] for member in survivors)):
            yield np.sum(np.stack(vectors), axis=0)
