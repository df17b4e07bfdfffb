"""Flower in an environment and a process of its own, and the line protocol to it.

The environment is made once in ``.bench/`` (which git ignores) from ``benchmarks/requirements-flower.txt`` and made
again when that file changes; nothing of it is ever imported here.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Aggregation", "Flower", "NotInstallable", "interpreter"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_REQUIREMENTS: Final = _ROOT / "benchmarks" / "requirements-flower.txt"
_HARNESS: Final = Path(__file__).with_name("flower_peer.py")


class NotInstallable(Exception):  # noqa: N818 - a condition the caller reports, not a fault
    """The peer's environment cannot be made; the text says why and what to do."""


@dataclass(frozen=True)
class Aggregation:
    """What one aggregation cost the peer.

    Args:
        clients: CPU seconds of each client, all stages together.
        server: CPU seconds of the server, all stages together.
        octets: of one client's masked vector.
        error: largest error of a coordinate of the average, against float64 arithmetic.
    """

    clients: list[float]
    server: float
    octets: int
    error: float


def interpreter() -> Path:
    """Return the Python of the peer's environment, making the environment first if need be.

    Raises:
        NotInstallable: pip cannot install it.
    """
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = _ROOT / ".bench" / f"flower-{wanted}"
    python = place / "bin" / "python"
    done = place / "installed"
    if done.exists():
        return python
    print(f"installing the peer ({_REQUIREMENTS.name}) into {place}; this happens once", flush=True)
    make = [sys.executable, "-m", "venv", "--clear", str(place)]
    fill = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(_REQUIREMENTS)]
    for step in (make, fill):
        finished = subprocess.run(step, capture_output=True, text=True, check=False)
        if finished.returncode:
            lines = (finished.stderr or finished.stdout).strip().splitlines()
            raise NotInstallable(
                f"the rows against Flower need {_REQUIREMENTS.name} from PyPI, and pip could not install it here "
                f"({lines[-1] if lines else 'no message'}). With PyPI or a mirror in reach run this again; every other "
                "row is measured without it"
            )
    done.touch()
    return python


class Flower:
    """The running peer; a context manager.

    Args:
        python: its interpreter.
    """

    def __init__(self, python: Path) -> None:
        environment = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
        # A pipe that nobody reads would fill up and stop the peer.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [python, _HARNESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self._hear("ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def aggregate(self, n: int, length: int, between: Callable[[], None]) -> Aggregation:
        """Run one aggregation of `n` clients and `length` parameters without dropouts.

        Args:
            n: clients, each the neighbour of every other one.
            length: float32 parameters.
            between: called 2n times, before each client's share-keys and masking stage; the peer stands still then.
        """
        self._say(f"aggregate {n} {length}")
        while (record := self._hear("pause", "result"))["event"] == "pause":
            between()
            self._say("go")
        clients = [sum(stages.values()) for stages in record["clients"]]
        return Aggregation(clients, record["server"], record["octets"], record["error"])

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def _hear(self, *expected: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            # A library may print a line of its own; ours are JSON objects.
            if line.startswith("{"):
                record: dict[str, Any] = json.loads(line)
                if record["event"] in expected:
                    return record
        raise RuntimeError(f"the peer ended:\n{self._errors()}")

    def _errors(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-20:])
