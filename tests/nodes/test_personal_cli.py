"""`haemfed model personalise` and `predict --personal`: what they say at this site, and that nothing of it leaves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from harmonize.profile import load
from harmonize.split import partition
from harmonize.table import Table
from models import artefact
from models.algorithms.personal import Head, personalise
from models.data import SurvivalData
from models.networks import LatentWeibull, parameter_count
from models.predict import SurvivalModel
from nodes import door, files, rpc_client, session, store
from nodes.cli import options
from nodes.places import Places, load_secrets
from tests.harmonize.test_export import tables
from tests.nodes.released import Haemfed, card, command_line_of_a_site, survival, write_survival


@pytest.fixture
def haemfed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Haemfed:
    return command_line_of_a_site(tmp_path, capsys, monkeypatch)


@pytest.fixture
def model(haemfed: Haemfed, tmp_path: Path) -> Path:
    del haemfed
    path = tmp_path / "run" / "model.safetensors"
    write_survival(path)
    return path


@pytest.fixture
def own(haemfed: Haemfed, tmp_path: Path) -> Table:
    """The table of this site, in its place."""
    del haemfed
    table = tables("aml_core", 4, 60)
    places = Places(options.site(tmp_path / "site.toml").paths)
    places.table("aml_core").parent.mkdir(exist_ok=True)
    places.table("aml_core").write_bytes(table.to_parquet_bytes())
    return table


def everything(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def nothing_leaves(monkeypatch: pytest.MonkeyPatch, model: Path, own: Table) -> None:
    """From here on door, session, link, ledger and every write to disk are gone."""
    del model, own

    def refused(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a personal model was about to leave")

    for owner, name in (
        (door.Door, "__init__"),
        (door.Door, "__call__"),
        (session.Session, "__init__"),
        (rpc_client.GrpcLink, "__init__"),
        (store.SiteStore, "__init__"),
        (files, "write"),
        (artefact, "to_bytes"),
    ):
        monkeypatch.setattr(owner, name, refused)


@pytest.mark.usefixtures("nothing_leaves")
def test_a_hospital_sees_what_it_gains_and_nothing_leaves(
    haemfed: Haemfed, model: Path, own: Table, tmp_path: Path
) -> None:
    before = everything(tmp_path)
    places = Places(options.site(tmp_path / "site.toml").paths)
    train, _ = partition(own, load_secrets(places).split)

    code, out, _ = haemfed("model", "personalise", model)

    assert code == 0, out
    assert f"last layer refitted to {len(train)} training patients of this site, in memory" in out
    assert "local hold-out" in out
    assert "nothing was written" in out
    assert everything(tmp_path) == before


@pytest.mark.usefixtures("nothing_leaves")
def test_personal_predictions_are_those_of_the_refitted_model(
    haemfed: Haemfed, model: Path, own: Table, tmp_path: Path
) -> None:
    before = everything(tmp_path)

    code, out, _ = haemfed("model", "predict", model, "--personal", "--days", 365.25)
    _, plain, _ = haemfed("model", "predict", model, "--days", 365.25)

    assert code == 0
    assert everything(tmp_path) == before
    places = Places(options.site(tmp_path / "site.toml").paths)
    matrix = partition(own, load_secrets(places).split)[0].matrix()
    local = personalise(survival(), SurvivalData(matrix.x, matrix.observed, matrix.duration, matrix.event), Head())
    whole = own.matrix()
    wanted = local.survival(whole.x, whole.observed, np.array([365.25]))[:, 0]
    for pid, alive in zip(own.pids, wanted, strict=True):
        assert any(pid in line and f"{alive:.1%}" in line for line in out.splitlines())
    assert out != plain


def test_personal_predictions_are_written_below_the_sites_own_directory_or_nowhere(
    haemfed: Haemfed, model: Path, own: Table, tmp_path: Path
) -> None:
    del own
    for elsewhere in ("out.csv", tmp_path / "alder" / "out.csv", "alder/data/../out.csv"):
        code, _, err = haemfed("model", "predict", model, "--personal", "--out", elsewhere)
        assert (code, "stays below" in err) == (10, True)
        assert not Path(elsewhere).exists()
    inside = tmp_path / "alder" / "data" / "personal.csv"

    assert haemfed("model", "predict", model, "--personal", "--days", 365.25, "--out", inside)[0] == 0

    with inside.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 60


def test_a_model_without_a_linear_head_and_one_that_was_retired_are_refused(
    haemfed: Haemfed, model: Path, own: Table, tmp_path: Path
) -> None:
    del own
    features = tuple(variable.name for variable in load("aml_core").inputs)
    network = LatentWeibull((3,), 2, ())
    grid = survival().grid
    params = np.full(parameter_count(network.layout(len(features), len(grid) - 1)), 0.1).astype("<f8").tobytes()
    other = tmp_path / "savae.safetensors"
    other.write_bytes(artefact.to_bytes(SurvivalModel.as_trained(features, network, grid, params), card("aml_core")))

    code, _, err = haemfed("model", "personalise", other)
    assert (code, "no linear head" in err) == (10, True), err
    assert haemfed("model", "retire", model, "--reason", "superseded")[0] == 0
    code, _, err = haemfed("model", "personalise", model)
    assert (code, "superseded" in err) == (24, True)


def test_a_site_without_a_table_is_told(haemfed: Haemfed, model: Path) -> None:
    assert haemfed("model", "personalise", model)[0] == 19
