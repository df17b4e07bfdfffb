"""Harmonisation alone loads neither pandas nor a framework of models: half a second and 60 MB each time."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from tests.harmonize.facts import fact, made
from harmonize.table import Table
from tests.harmonize.facts import PROFILE
table, assembled = made(fact("nearest", "5"), fact("slide", (0.1, 0.2, 0.3)))
Table.from_parquet(table.to_parquet_bytes(), PROFILE).matrix()
table.digest, assembled.provenance.num_rows, assembled.quality.to_json()
print(sorted({"pandas", "torch", "opacus", "scipy"} & sys.modules.keys()))
"""


@pytest.mark.slow
def test_a_table_is_made_stored_and_read_without_them() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)

    assert done.stdout.strip() == "[]"
