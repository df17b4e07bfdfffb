"""A coordinator's memory does not grow with the vectors of its sites, only with their number."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from nodes.chunks import CHUNK
from nodes.rpc_client import GrpcLink
from nodes.tls import Credentials
from secagg.client import Client
from secagg.keys import Identity
from secagg.manifest import Manifest
from secagg.messages import Step, Sum, Upload
from tests.nodes.lone_coordinator import manifest
from tests.nodes.parties import provision

SITES, LENGTH, ROUNDS = 60, 1_000_000, 3


class Parrot:
    """A site that sets up keys as it must and then uploads zeros: an adder cannot tell the difference."""

    def __init__(self, of: Manifest, member: int, identity: Identity, port: int, tls: Credentials) -> None:
        pins = frozenset(each.identity for each in of.members)
        self._client = Client(of, member, identity, entropy=os.urandom, nonce=os.urandom(32), pins=pins)
        self._connection = GrpcLink(f"127.0.0.1:{port}", tls, max_words=LENGTH + 2).connect()
        self._member = member
        self.asked, self.go, self.done = threading.Event(), threading.Event(), threading.Event()
        self.sums = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        words = np.zeros(LENGTH + 2, dtype="<u8")
        words[-1] = 1  # the canary
        for message in (self._client.hello(), *self._client.begin()):
            self._connection.send(message)
        while self.sums < ROUNDS:
            match self._connection.receive():
                case Step(number):
                    self.asked.set()
                    assert self.go.wait(300)
                    self._connection.send(Upload(self._member, number, words.tobytes()))
                case Sum():
                    self.sums += 1
                case message:
                    for answer in self._client.receive(message):  # type: ignore[arg-type]
                        self._connection.send(answer)
        self.done.set()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_three_vectors_and_a_chunk_for_each_site(tmp_path: Path) -> None:
    certificates = provision(tmp_path, SITES)
    keys = [identity.public for identity in certificates.identities]
    (tmp_path / "identities").write_text("\n".join(key.hex() for key in keys))
    command = [sys.executable, "-m", "tests.nodes.lone_coordinator", str(tmp_path), str(LENGTH + 2)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        sites = [
            Parrot(manifest(keys), member, identity, port, certificates.sites[member])
            for member, identity in enumerate(certificates.identities, start=1)
        ]
        assert all(site.asked.wait(300) for site in sites)
        print(file=process.stdin, flush=True)
        for site in sites:
            site.go.set()
        assert all(site.done.wait(300) for site in sites)
        print(file=process.stdin, flush=True)
        grown = int(process.stdout.readline())
        process.kill()

    assert grown <= 3 * 8 * LENGTH + SITES * CHUNK
