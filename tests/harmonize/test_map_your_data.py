"""The data manager's guide: every example of it loads, and the exercise in it gives what the cohort's own table has."""

import csv
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import cohorts
from harmonize import mapping as mappings
from harmonize import profile as profiles
from harmonize import sources
from harmonize.events import Issue, State
from harmonize.pseudonyms import pseudonym
from harmonize.reporting.issues import CODES
from harmonize.table import build

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "map-your-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
EXERCISE = BLOCKS[-1]
HEAD = 'format = "csv"\nprofile = "mds"\nfiles = ["x.csv"]\npatient = { system = "s", column = "id" }\n'


def _whole(block: str) -> str:
    """An example of the guide, with what it leaves out."""
    if "profile =" in block:
        return block
    needed = 'index_date = { code = "dx" }' if "[long]" in block else 'index_date = { column = "dx" }'
    if "days-from-diagnosis" in block or "months-from-diagnosis" in block or "index_date" in block:
        needed = ""
    columns = block if "[columns]" in block else f"[columns]\n{block}"
    return HEAD + columns.replace("[columns]", f"[columns]\n{needed}")


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_example_loads(block: str) -> None:
    text = _whole(block)
    if not tomllib.loads(text).get("columns", True):
        pytest.skip("the empty skeleton")

    profile = profiles.load(tomllib.loads(text)["profile"])
    assert mappings.loads(text, profile).sources


@pytest.mark.parametrize(
    "line", re.findall(r"`([a-z0-9_]+ = \{ .*? \})`", PAGE), ids=lambda line: line.partition(" ")[0]
)
def test_every_line_of_the_tables_loads(line: str) -> None:
    text = f"[csv]\n{line}\n[columns]\n" if line.startswith("missing") else f"[columns]\n{line}\n"

    assert mappings.loads(HEAD + text + 'index_date = { column = "dx" }', profiles.load("mds")).sources


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        found = cohorts.folder() / "mm_mmrf"
    except cohorts.CohortMissing as missing:
        pytest.skip(str(missing))
    if not (found / "source_export.csv").is_file():
        pytest.skip("no mm_mmrf/source_export.csv in the folder of cohorts")
    return found


def test_the_exercise_agrees_with_the_cohort(folder: Path) -> None:
    import pandas as pd

    profile = profiles.load("mm")
    patients = pd.read_parquet(folder / "patients.parquet")

    table, quality = build(sources.read(folder, mappings.loads(EXERCISE, profile), profile), profile, bytes(32))

    assert quality.flow.seen == len(patients) == 995
    # One patient was last seen before the diagnosis, which the cohort's own table keeps.
    assert quality.flow.left_out == {"follow-up-before-diagnosis": int((patients["out_os_days"] < 0).sum())}
    assert quality.flow.deaths == int(patients["out_os_event"].sum()) == 191
    patients.index = [pseudonym(bytes(32), "urn:mmrf:commpass", identifier) for identifier in patients["patient_id"]]
    harmonised = table.arrow.to_pandas().set_index("pid").join(patients)
    assert (harmonised["time"] == harmonised["out_os_days"]).all()
    assert (harmonised["event"] == harmonised["out_os_event"]).all()
    assert (harmonised["iss"].dropna() == harmonised["clin_iss"].dropna()).all()
    assert (harmonised["iss__m"] == State.UNKNOWN).equals(harmonised["clin_iss"].isna())
    assert (harmonised["sex"] == harmonised["clin_sex_male"]).all()
    # The cohort's own table divides days by 365.25; around a birthday that is a year off.
    years = harmonised["age"] - harmonised["clin_age"].clip(upper=90.99)
    assert years.dropna().between(-1, 0.01).all()
    assert harmonised["age"].isna().equals(harmonised["clin_age"].isna())


def test_the_skeleton_of_the_exercise_proposes_what_it_used(folder: Path) -> None:
    with (folder / "source_export.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    samples = {name: [row[at] for row in rows] for at, name in enumerate(header)}

    text = mappings.propose(header, profiles.load("mm"), samples, "source_export.csv")

    assert tomllib.loads(text)["columns"] == {}
    for target, column in re.findall(r'^([a-z_]+) = \{ column = "([a-z_]+)"', EXERCISE, flags=re.MULTILINE):
        assert f'# {target} = {{ column = "{column}"' in text


def test_a_token_in_a_date_column_is_malformed_until_it_is_declared_missing(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,dx,fu,dod\n1,2010-01-01,2011-01-01,NA\n")
    dates = 'index_date = { column = "dx" }\nlast_follow_up = { column = "fu" }\ndeath_date = { column = "dod" }\n'
    found = {}
    for declared in ("", '[csv]\nmissing = { NA = "not-recorded" }\n'):
        mapping = mappings.loads(f"{HEAD}{declared}[columns]\n{dates}", profiles.load("mds"))
        items = sources.read(tmp_path, mapping, profiles.load("mds"))
        found[declared] = [item.code for item in items if isinstance(item, Issue)]

    assert list(found.values()) == [["date-malformed"], []]
    assert CODES["date-malformed"].remedy.endswith("or declare the token as missing")
