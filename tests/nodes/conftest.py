"""A site with a source of 61 patients, and the command line on it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from nodes import cli
from nodes.provision import create_site
from tests.nodes.hospitals import MAPPING, Haemfed, rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that every test has a copy of."""
    site = tmp_path_factory.mktemp("site") / "alder"
    create_site(site, "alder", "127.0.0.1:1")
    return site


@pytest.fixture
def hospital(made: Path, tmp_path: Path) -> Path:
    site = tmp_path / "alder"
    shutil.copytree(made, site)
    (site / "data" / "policy.toml").write_text("minimum_cohort = 20\n")
    source = site / "source"
    source.mkdir()
    (source / "mapping.toml").write_text(MAPPING)
    (source / "cohort.csv").write_text("\n".join(rows()) + "\n")
    return site


@pytest.fixture
def haemfed(hospital: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Haemfed:
    def call(verb: str, *arguments: object) -> tuple[int, str, str]:
        config = [] if verb in {"lint", "propose"} else ["--config", str(hospital / "site.toml")]
        monkeypatch.setattr(sys, "argv", ["haemfed", "harmonize", verb, *map(str, arguments), *config])
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.out, said.err

    return call
