"""Where a site keeps what is its own: secrets, tables, and what each run left.

Beside `nodes.config.Paths` (keys, certificates, database). The three secrets have one purpose each and never change: a
new pseudonym or split key would deal every patient anew, and with it both accounts of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nodes import files
from nodes.config import Paths
from nodes.errors import StorageProblem

_SECRET = 32
_REMEDY = {
    "pseudonym": "restore it from its backup: with another key every patient would be a new one",
    "split": "restore it from its backup: with another key every patient would be dealt anew",
    "noise": "remove it and run `haemfed site init` in a new folder for a fresh one; it is in no backup",
}


@dataclass(frozen=True)
class Secrets:
    """Three keys of 32 bytes.

    Args:
        pseudonym: HMAC key of the pseudonyms.
        split: HMAC key that decides who is in the holdout.
        noise: mixed into the randomness of every round.
    """

    pseudonym: bytes = field(repr=False)
    split: bytes = field(repr=False)
    noise: bytes = field(repr=False)


class Places:
    """Files of one site, all below its data directory."""

    def __init__(self, paths: Paths) -> None:
        self._root = paths.root

    def secret(self, name: str) -> Path:
        """One of the three secret keys, mode 0600."""
        return self._root / f"{name}-key.secret"

    def officer(self, role: str) -> Path:
        """Signing key of the data protection officer or of an auditor, mode 0600."""
        return self._root / f"{role}.pem"

    @property
    def tables(self) -> Path:
        """Folder of the tables and what belongs to them."""
        return self._root / "tables"

    def table(self, profile: str) -> Path:
        """The canonical table under a profile, pseudonymous."""
        return self.tables / f"{profile}.parquet"

    def provenance(self, profile: str) -> Path:
        """Where the table's cells came from: file, line and field of the source, no value."""
        return self.tables / f"{profile}-provenance.parquet"

    def quality(self, profile: str, suffix: str) -> Path:
        """Quality report beside the table."""
        return self.tables / f"{profile}-quality.{suffix}"

    @property
    def runs(self) -> Path:
        """Folder of what all runs left."""
        return self._root / "runs"

    def run(self, run_id: bytes) -> Path:
        """Folder with what one run left: model, evaluation, evidence, certificate, report."""
        return self.runs / run_id.hex()[:16]

    def status(self, run_id: bytes) -> Path:
        """Progress of a run: public and released facts."""
        return self.run(run_id) / "status.json"


def create_secrets(places: Places, entropy: Callable[[int], bytes]) -> None:
    """Draw the three keys; existing ones stay.

    Raises:
        StorageProblem: they cannot be written.
    """
    for name in ("pseudonym", "split", "noise"):
        if not places.secret(name).exists():
            files.write(places.secret(name), entropy(_SECRET), private=True)


def load_secrets(places: Places) -> Secrets:
    """Read the three keys.

    Raises:
        StorageProblem: one is missing, open to others or damaged.
    """
    keys = {}
    for name in ("pseudonym", "split", "noise"):
        path = places.secret(name)
        keys[name] = files.read_private(path)
        if len(keys[name]) != _SECRET:
            raise StorageProblem(f"{path}: damaged ({len(keys[name])} bytes, not {_SECRET}); {_REMEDY[name]}")
    return Secrets(**keys)
