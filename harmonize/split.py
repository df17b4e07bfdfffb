"""The holdout: one patient in five, decided by a keyed hash of that patient's pseudonym and nothing else.

A patient's side never changes: not when others come or go, not in another table or study of the same site. So
two tables that differ in one patient differ in one place on one side, and the ledger's two accounts
(training, holdout) are disjoint. The size of the holdout is whatever the hash gives: too few patients make an
audit inconclusive, never another draw.
"""

__all__ = ["ONE_IN", "in_holdout", "partition"]

import hmac

from harmonize.errors import MisuseError
from harmonize.table import Table

ONE_IN = 5
"""Of so many patients one is in the holdout, on average."""
_PURPOSE = b"haemfed/holdout/v1\0"
_KEY_BYTES = 32


def in_holdout(split_key: bytes, pseudonym: str) -> bool:
    """Whether a patient is in the site's holdout: HMAC-SHA256(split key, purpose ‖ pseudonym) < 0.2 · 2²⁵⁶.

    Args:
        split_key: 32 secret bytes of the site, one key for all its tables and studies, never changed.
        pseudonym: the table's pid.

    Raises:
        MisuseError: the key is shorter or longer than 32 bytes.
    """
    if len(split_key) != _KEY_BYTES:
        raise MisuseError(f"the split key must have {_KEY_BYTES} bytes, not {len(split_key)}")
    digest = hmac.digest(split_key, _PURPOSE + pseudonym.encode("ascii"), "sha256")
    return ONE_IN * int.from_bytes(digest) < 1 << 256


def partition(table: Table, split_key: bytes) -> tuple[Table, Table]:
    """Split a table into (training, holdout); each keeps the order by pseudonym."""
    held = [in_holdout(split_key, pid) for pid in table.pids]
    return table.take([not side for side in held]), table.take(held)
