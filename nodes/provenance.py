"""Where every cell of the table came from: a file beside it that holds places and no values.

It never leaves the site: places lead to patients.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harmonize.buffers import to_numpy
from harmonize.parquet import whole
from harmonize.profile import Profile
from nodes.errors import DataProblem

__all__ = ["Citation", "Provenance", "from_bytes", "to_bytes"]

_FORMAT: Final = "haemfed/provenance/1"
_AGAIN: Final = "run: haemfed harmonize run MAPPING"


@dataclass(frozen=True)
class Citation:
    """The place that one cell was taken from."""

    file: str
    line: int
    field: str
    state: int


@dataclass(frozen=True)
class Provenance:
    """The places of one table.

    Args:
        table: digest of the table that they belong to.
        systems: identifier systems of the source; a pseudonym is made of one of them and the identifier.
    """

    table: str
    systems: tuple[str, ...]
    _rows: Any = field(repr=False)

    def find(self, pid: str, variable: str) -> Citation | None:
        """The place of one cell; None if the source says nothing about it."""
        chosen = _where(self._rows["pid"], pid) & _where(self._rows["variable"], variable)
        if not chosen.any():
            return None
        row = int(chosen.argmax())
        return Citation(*(self._rows[name][row].as_py() for name in ("file", "line", "field", "state")))


def _where(column: Any, word: str) -> NDArray[np.bool_]:
    """bool[n]: the rows that hold a word. By the codes of the dictionary: Arrow's own comparison loads pandas."""
    chunks = column.unify_dictionaries().chunks
    codes = [to_numpy(chunk.indices) for chunk in chunks]
    words = chunks[0].dictionary.to_pylist() if chunks else []
    code = words.index(word) if word in words else -1
    found: NDArray[np.bool_] = np.concatenate([np.zeros(0, dtype=np.int32), *codes]) == code
    return found


def to_bytes(rows: pa.Table, profile: Profile, table_digest: str, systems: Sequence[str]) -> bytes:
    """The file's content.

    Args:
        rows: (pid, variable, file, line, field, state), from `harmonize.cohort.assemble`.
        profile: what was harmonised to.
        table_digest: of the table that they belong to.
        systems: identifier systems of the source.
    """
    facts = {"format": _FORMAT, "digest": profile.digest, "table": table_digest, "systems": list(systems)}
    sink = io.BytesIO()
    described = rows.replace_schema_metadata({"haemfed": json.dumps(facts, sort_keys=True)})
    pq.write_table(described, sink, compression="zstd", write_statistics=False, write_page_checksum=True)
    return sink.getvalue()


def from_bytes(data: bytes, profile: Profile) -> Provenance:
    """Read the file back.

    Raises:
        DataProblem: damaged, or of another profile.
    """
    try:
        rows = whole(io.BytesIO(data))
        facts = json.loads((rows.schema.metadata or {})[b"haemfed"])
        known = facts["format"], facts["digest"]
        table, systems = str(facts["table"]), tuple(map(str, facts["systems"]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise DataProblem(f"the provenance file is damaged; {_AGAIN}") from None
    if known != (_FORMAT, profile.digest):
        raise DataProblem(f"the provenance file was made by another version or under another profile; {_AGAIN}")
    return Provenance(table, systems, rows)
