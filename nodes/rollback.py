"""What peers have seen of a ledger that is not in this data directory: `rollback.json`, for `haemfed budget recover`.

Only statements that this site has signed itself stand in it, so a file that somebody edited recovers nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dp.errors import LedgerCorrupt
from dp.witness import Statement
from nodes import files
from nodes.errors import StorageProblem
from nodes.witness_notes import STATEMENT
from nodes.witnessing import Objected
from secagg.errors import BadSignature
from secagg.keys import verify

__all__ = ["NAME", "add", "read"]

NAME: Final = "rollback.json"
"""In the data directory."""
_FORMAT: Final = "haemfed/rollback/1"
_LARGEST: Final = 1 << 24


def add(path: Path, objections: Sequence[Objected]) -> None:
    """Write down what peers hold, beside what earlier starts of this site have written there.

    Raises:
        StorageProblem: it cannot be written; the old file is still there.
    """
    held = {_text(each.statement.encode()): each for each in objections}
    lines = [
        {"statement": text, "signature": _text(each.signature), "peers": list(each.peers)}
        for text, each in held.items()
    ]
    earlier = [line for line in _lines(path) if line.get("statement") not in held]
    body = {"format": _FORMAT, "held": [*earlier, *lines]}
    files.write(path, json.dumps(body, indent=1, sort_keys=True).encode(), private=True)


def read(path: Path, site: str, identity: bytes) -> tuple[Statement, ...]:
    """Return the statements of this site that peers have shown; none if there is no such file.

    Args:
        path: the file.
        site: name of this site.
        identity: its Ed25519 public key, 32 octets.

    Raises:
        StorageProblem: the file is damaged, or holds what this site never signed.
    """
    try:
        return tuple(_statement(line, site, identity) for line in _lines(path))
    except (ValueError, KeyError, TypeError, AttributeError, LedgerCorrupt, BadSignature) as error:
        raise StorageProblem(
            f"{path}: not what this site wrote; remove it and start the site: its peers show again what they hold"
        ) from error


def _lines(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    try:
        body = json.loads(files.read_private(path, limit=_LARGEST))
        return [dict(line) for line in {_FORMAT: body["held"]}[body["format"]]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageProblem(
            f"{path}: damaged; remove it and start the site: its peers show again what they hold"
        ) from error


def _statement(line: dict[str, object], site: str, identity: bytes) -> Statement:
    octets, signature = (base64.b64decode(str(line[name]), validate=True) for name in ("statement", "signature"))
    verify(identity, signature, site, STATEMENT, octets)
    return Statement.decode(octets)  # under whatever name: a ledger is the identity's


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
