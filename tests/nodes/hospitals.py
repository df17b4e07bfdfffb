"""One small hospital at the keyboard: its source, its mapping, its policy, and how its commands are called."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

ROWS = 60
MAPPING = """\
format = "csv"
profile = "aml_core"
files = ["cohort.csv"]

[patient]
system = "urn:test:hospital"
column = "PatNr"

[csv]
delimiter = ";"

[columns]
birth_date = { column = "born" }
index_date = { column = "dx" }
sex = { column = "sex", codes = { m = "male", w = "female" } }
wbc = { column = "WBC =1+1", unit = "/uL" }
death_date = { column = "died" }
last_follow_up = { column = "seen" }
"""

_POLICY = """\
minimum_roster = 3
minimum_collusion = 1
minimum_cohort = 20
allowed_profiles = ["{profile}"]
allowed_query_kinds = {kinds}
minimum_suite = "X25519-ML-KEM-768-HKDF-SHA256-AES-256-CTR"
[accounts.training]
max_epsilon_per_study = 2.0
max_epsilon_total = 2.0
delta = 1e-5
[accounts.holdout]
max_epsilon_per_study = 2.0
max_epsilon_total = 2.0
delta = 1e-5
[peers]
"""


def policy_text(profile: str, kinds: Iterable[str], peers: Mapping[str, str]) -> str:
    """What a policy file says that admits a study of these kinds of sums, with the fingerprints of the others."""
    pins = "".join(f'{peer} = "{pin}"\n' for peer, pin in peers.items())
    return _POLICY.format(profile=profile, kinds=json.dumps(list(kinds))) + pins


def rows() -> list[str]:
    lines = ["PatNr;born;dx;sex;WBC =1+1;died;seen"]
    for number in range(ROWS):
        died = "2012-03-04" if number % 3 == 0 else ""
        lines.append(
            f"ERIKA-{number};1950-01-0{number % 9 + 1};2010-05-06;{'mw'[number % 2]};{4321 + number};{died};2013-01-02"
        )
    lines.append("LOST-1;1950-01-01;;m;5000;;2013-01-02")
    return lines


Haemfed = Callable[..., tuple[int, str, str]]


def run(haemfed: Haemfed, hospital: Path) -> str:
    code, out, err = haemfed("run", hospital / "source" / "mapping.toml")
    assert (code, err) == (0, "")
    return out


def tables(hospital: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (hospital / "data" / "tables").glob("*")}


def on_a_terminal(command: list[str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert process.returncode == 0, said.decode()
    return said.decode()
