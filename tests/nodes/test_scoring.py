"""`haemfed score` on a small hospital's myeloma table: what is written, printed, refused and left alone."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harmonize.events import State
from harmonize.profile import CodeVariable, Profile, load
from harmonize.table import Table
from models.prognostic import SCORES
from nodes import scoring
from nodes.cli import options, terminal
from nodes.cli.score import app
from nodes.errors import ConfigError, DataProblem, NodeError, StorageProblem
from nodes.places import Places
from nodes.provision import create_site

Cell = tuple[float | None, State]
KNOWN = {"b2m": 2.0, "albumin": 40.0, "ldh_ratio": 0.9}
FISH = ("cyto_del17p", "cyto_t4_14", "cyto_t14_16", "cyto_gain1q")
NEGATIVE = dict.fromkeys(FISH, (0.0, State.TESTED_NEGATIVE))
# One patient a row: what differs from "known and low".
ROWS: list[dict[str, Cell]] = [
    {},
    {"b2m": (6.0, State.VALUE), "cyto_t4_14": (1.0, State.VALUE)},
    {"cyto_t4_14": (None, State.NOT_TESTED)},
    {"albumin": (None, State.NOT_RECORDED), "b2m": (4.0, State.VALUE)},
    {"b2m": (3.5, State.BELOW_LIMIT)},
]


def table_of(profile: Profile, rows: list[dict[str, Cell]]) -> Table:
    base: dict[str, Cell] = {variable.name: (None, State.NOT_RECORDED) for variable in profile.scalars}
    base |= {name: (value, State.VALUE) for name, value in KNOWN.items() if name in base}
    base |= {name: cell for name, cell in NEGATIVE.items() if name in base}
    columns: dict[str, list[object]] = {"pid": [f"P{index}" for index in range(len(rows))]}
    for variable in profile.scalars:
        cells = [(base | row)[variable.name] for row in rows]
        whole = isinstance(variable, CodeVariable)
        columns[variable.name] = [int(v) if whole and v is not None else v for v, _ in cells]
        columns[f"{variable.name}__m"] = [int(state) for _, state in cells]
    for feature in profile.features:
        columns[feature.name] = [None] * len(rows)
        columns[f"{feature.name}__m"] = [int(State.NOT_RECORDED)] * len(rows)
    columns |= {"time": [100] * len(rows), "event": [False] * len(rows)}
    for outcome in profile.outcomes:
        columns |= {f"{outcome.name}_time": [None] * len(rows), f"{outcome.name}_event": [None] * len(rows)}
    return Table.from_columns(columns, profile)


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    create_site(tmp_path / "alder", "alder", "127.0.0.1:1")
    site = tmp_path / "alder"
    profile = load("mm")
    path = Places(options.site(site / "site.toml").paths).table("mm")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(table_of(profile, ROWS).to_parquet_bytes())
    return site


Score = Callable[..., str]


@pytest.fixture
def score(hospital: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    monkeypatch.setattr(terminal.out, "_width", 400)  # it took the terminal's when it was imported

    def call(*arguments: object) -> str:
        config = ["--config", str(hospital / "site.toml")] if arguments[0] == "run" else []
        result = CliRunner().invoke(app, [*map(str, arguments), *config])
        if isinstance(result.exception, NodeError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_writes_one_private_row_a_patient(score: Score, tmp_path: Path) -> None:
    score("run", "r-iss", "--profile", "mm", "--out", tmp_path / "out.csv")

    rows = rows_of(tmp_path / "out.csv")
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600
    assert [row["pseudonym"] for row in rows] == ["P0", "P1", "P2", "P3", "P4"]
    assert [row["category"] for row in rows] == ["I", "III", "", "II", "I"]
    assert [row["points"] for row in rows] == ["1", "3", "", "2", "1"]
    assert (rows[2]["best_category"], rows[2]["worst_category"]) == ("I", "II")
    assert rows[2]["missing"] == "iss cyto_t4_14 riss"
    assert "mean_points" not in rows[0]


def test_run_prints_counts_only(score: Score, tmp_path: Path) -> None:
    said = score("run", "R-ISS", "--profile", "mm", "--out", tmp_path / "out.csv")

    lines = [line.strip() for line in said.splitlines()]
    assert lines[:5] == ["r-iss: 5 patients", "I: 2", "II: 1", "III: 1", "not computable: 1"]
    assert "cyto_t4_14 not known: 1" in lines
    assert lines[-1].endswith("out.csv")
    assert not any(f"P{index}" in said for index in range(5))


def test_a_gene_not_tested_is_not_negative_and_a_limit_is_a_limit() -> None:
    table = table_of(load("mm"), ROWS)

    patients = scoring.patients_of(table, SCORES["r-iss"].inputs)

    assert np.isnan(patients.values["cyto_t4_14"]).tolist() == [False, False, True, False, False]
    assert np.isnan(patients.values["albumin"]).tolist() == [False, False, False, True, False]
    assert patients.below["b2m"].tolist() == [False, False, False, False, True]
    assert patients.values["cyto_t4_14"][0] == 0


def test_an_existing_file_is_replaced_only_by_force(score: Score, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("mine")

    with pytest.raises(StorageProblem, match="--force"):
        score("run", "iss", "--profile", "mm", "--out", target)
    assert target.read_text() == "mine"
    score("run", "iss", "--profile", "mm", "--out", target, "--force")
    assert len(rows_of(target)) == 5
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_a_dangling_link_and_a_folder_are_no_place_for_the_file(score: Score, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere.csv")

    with pytest.raises(StorageProblem, match="exists"):
        score("run", "iss", "--profile", "mm", "--out", tmp_path / "link.csv")
    with pytest.raises(StorageProblem, match="folder"):
        score("run", "iss", "--profile", "mm", "--out", tmp_path, "--force")
    with pytest.raises(StorageProblem, match="does not exist"):
        score("run", "iss", "--profile", "mm", "--out", tmp_path / "nowhere" / "out.csv")
    assert not (tmp_path / "elsewhere.csv").exists()


def test_a_failed_write_leaves_the_old_file(score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.csv"
    score("run", "iss", "--profile", "mm", "--out", target)
    before = target.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageProblem, match="no space"):
        score("run", "r-iss", "--profile", "mm", "--out", target, "--force")
    assert target.read_bytes() == before


def test_without_a_table_the_way_out_is_named(score: Score, hospital: Path, tmp_path: Path) -> None:
    Places(options.site(hospital / "site.toml").paths).table("mm").unlink()

    with pytest.raises(StorageProblem, match="harmonize run"):
        score("run", "iss", "--profile", "mm", "--out", tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="harmonize run"):
        score("run", "iss", "--out", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_table_of_another_version_of_the_profile_is_refused(score: Score, hospital: Path, tmp_path: Path) -> None:
    path = Places(options.site(hospital / "site.toml").paths).table("mm")
    other = rebuilt(load("mm"), version="9.9.9")
    path.write_bytes(table_of(other, ROWS).to_parquet_bytes())

    with pytest.raises(DataProblem, match="harmonize run"):
        score("run", "iss", "--profile", "mm", "--out", tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("name", "profile", "said"),
    [
        ("ipss-r", "aml", "is for myelodysplastic syndromes"),
        ("cpss", "mds", "is for chronic myelomonocytic leukaemia"),
        ("iss", "mds", "is for newly diagnosed multiple myeloma"),
        ("eln-2022", "aml_core", "no cyto_t8_21, cyto_inv16, mut_npm1"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(name: str, profile: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scoring.check(SCORES[name], load(profile))


def rebuilt(profile: Profile, **changes: object) -> Profile:
    """Validated anew: a copy would keep what was computed from the old fields."""
    return Profile.model_validate(profile.model_dump() | changes)


def test_run_checks_the_profile_before_it_writes(score: Score, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ipss-r is for myelodysplastic syndromes"):
        score("run", "ipss-r", "--profile", "mm", "--out", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_variable_of_another_meaning_is_refused() -> None:
    profile = load("mm")

    def changed(name: str, **update: object) -> Profile:
        variables = [each.model_dump() | (update if each.name == name else {}) for each in profile.variables]
        return rebuilt(profile, variables=variables)

    scoring.check(SCORES["iss"], profile)
    with pytest.raises(ConfigError, match="albumin is in g/dL, iss needs g/L"):
        scoring.check(SCORES["iss"], changed("albumin", unit="g/dL"))
    with pytest.raises(ConfigError, match="iss does not have the categories I, II, III"):
        scoring.check(SCORES["iss"], changed("iss", values={"I": 0, "II": 1, "III": 2}))


def test_an_optional_input_may_be_absent_from_the_profile() -> None:
    profile = load("mm")
    without = rebuilt(profile, variables=[each.model_dump() for each in profile.variables if each.name != "iss"])

    scoring.check(SCORES["iss"], without)
    patients = scoring.patients_of(table_of(without, ROWS), SCORES["iss"].inputs)

    assert np.isnan(patients.values["iss"]).all()
    assert SCORES["iss"].of(patients).category.tolist() == [0, 2, 0, 1, 0]


def test_every_score_runs_on_the_profile_of_its_disease() -> None:
    for name, each in SCORES.items():
        for disease in ("mds", "cmml", "aml", "mm"):
            profile = load(disease)
            try:
                scoring.check(each, profile)
            except ConfigError:
                continue
            result = each.of(scoring.patients_of(table_of(profile, [{}]), each.inputs))
            assert len(result.points) == 1, name


def test_list_and_show(score: Score) -> None:
    listed = score("list")

    for name, each in SCORES.items():
        shown = score("show", name)
        assert name in listed
        assert each.doi in shown
        assert all(wanted.name in shown for wanted in each.inputs)
        assert all(row.value in shown for row in each.table)


def test_an_unknown_score_is_a_question_of_the_command_line() -> None:
    result = CliRunner().invoke(app, ["show", "ipss"])

    assert result.exit_code == 2
    assert "ipss-r" in result.output
