"""The demo's daemons: started, watched, killed and started again like services on separate machines."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from nodes.demo.consortium import Consortium, DemoSite
from nodes.places import Places


def free_port() -> int:
    """Ask the system for a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Status:
    """Last progress of a site: public and released facts."""

    kind: str
    done: int
    of: int
    round: int
    roster: tuple[str, ...]
    epsilon_spent: float


@dataclass
class Daemon:
    """One process.

    Args:
        name: for people.
        arguments: after `haemfed`.
        log: where its log goes.
    """

    name: str
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        """Start it (again); its log is appended to."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GRPC_VERBOSITY": "NONE"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nodes.cli", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C goes to the demo alone, which then stops its daemons in order
            )
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL: nothing in the process gets a chance to tidy up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after ten seconds."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll() if self.process is not None else None

    def last_words(self) -> str:
        """The last reason in its log, or its last line."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        for line in reversed(lines):
            try:
                reason = json.loads(line).get("reason")
            except (ValueError, AttributeError):
                continue
            if reason:
                return str(reason)
        return lines[-1] if lines else "no log"


@dataclass
class Fleet:
    """All daemons of a consortium."""

    consortium: Consortium
    coordinator: Daemon = field(init=False)
    sites: dict[str, Daemon] = field(init=False)

    def __post_init__(self) -> None:
        file, study = self.consortium.coordinator_file, self.consortium.study_file
        self.coordinator = Daemon(
            "coordinator",
            ["coordinator", "run", str(study), "--config", str(file)],
            file.parent / "log.jsonl",
        )
        self.sites = {site.hospital.name: _daemon(site) for site in self.consortium.sites}

    def start(self) -> None:
        """Start everybody."""
        self.coordinator.start()
        for daemon in self.sites.values():
            daemon.start()

    def stop(self) -> None:
        """Stop whoever still runs."""
        for daemon in (*self.sites.values(), self.coordinator):
            daemon.stop()

    def status(self, name: str) -> Status | None:
        """Read a site's status file."""
        site = next(site for site in self.consortium.sites if site.hospital.name == name)
        path = Places(site.config.paths).status(self.consortium.study.run_id)
        try:
            body = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return Status(
            body["kind"],
            body["done"],
            body["of"],
            body["round"],
            tuple(body["roster"]),
            body["epsilon_spent"],
        )


def _daemon(site: DemoSite) -> Daemon:
    arguments = ["site", "run", str(site.folder / "study.json"), "--config", str(site.config_file)]
    return Daemon(site.hospital.name, arguments, site.folder / "log.jsonl")
