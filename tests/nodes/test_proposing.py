"""The head of an unknown file, which may be anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodes.errors import DataProblem
from nodes.proposing import skeleton


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the first line is empty"),
        (b'id,dx\n"' + b"Meier" * 40_000 + b'",1\n', "after line 2: broken quoting or an oversized cell"),
        (b"i" * 200_000 + b",dx\n", "after line 1: broken quoting or an oversized cell"),
    ],
)
def test_what_is_no_table_is_named(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataProblem, match=rf"^x\.csv: {says}") as refused:
        skeleton(tmp_path / "x.csv", "mds")
    assert "Meier" not in str(refused.value)
