"""Reading leaves no thread behind."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harmonize.parquet import reader, whole

THREADS = """
import os, sys
import pyarrow, pyarrow.parquet
from harmonize.parquet import reader, whole
before = len(os.listdir("/proc/self/task"))
with open(sys.argv[1], "rb") as stream:
    assert whole(stream).num_rows == 5000
with open(sys.argv[1], "rb") as stream:
    assert sum(batch.num_rows for batch in reader(stream).iter_batches(700, use_threads=False)) == 5000
assert len(os.listdir("/proc/self/task")) <= before, "reading started threads"
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_reading_starts_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({f"x{j}": list(range(5000)) for j in range(6)}), path, row_group_size=500)

    subprocess.run([sys.executable, "-c", THREADS, path], check=True)


def test_a_page_that_was_changed_is_refused() -> None:
    written = io.BytesIO()
    pq.write_table(
        pa.table({"x": list(range(3000))}), written, write_page_checksum=True, compression="none", use_dictionary=False
    )
    data = bytearray(written.getvalue())
    data[9000] ^= 1

    assert whole(io.BytesIO(written.getvalue())).num_rows == 3000
    with pytest.raises((pa.ArrowException, OSError)):
        whole(io.BytesIO(bytes(data)))
    with pytest.raises((pa.ArrowException, OSError)):
        reader(io.BytesIO(b"not Parquet"))
