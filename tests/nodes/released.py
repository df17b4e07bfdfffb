"""Model files as a study leaves them, certificates beside them, and the whole command line on them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audits import certificate, policy
from audits.verdict import ReleasableEvidence, decide, withheld
from harmonize.profile import load
from models import artefact
from models.generators import file
from models.generators.bayesnet import BayesianNetwork
from models.generators.bayesnet.scores import coarse
from models.generators.dictionary import of_profile
from models.generators.oneway import OneWay
from models.predict import SurvivalModel
from models.training import initial_weights
from nodes import cli
from nodes.cli import terminal
from nodes.provision import create_site
from tests.audits.sample import FACTS, ISSUED, evidence
from tests.models.support import small

GRID = (0.0, 182.625, 365.25, 730.5, 1826.25)
PRIVACY = {
    "protection": "differentially private: everybody adds noise",
    "epsilon": 0.987654,
    "delta": 1e-5,
    "unit": "one patient",
}
AUDITOR = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)

Haemfed = Callable[..., tuple[int, str, str]]


def card(named: str, **changes: Any) -> dict[str, Any]:
    return {
        "profile": {"name": named, "digest": load(named).digest},
        "study": {"name": "invented", "digest": "11"},
        "transcript": "22",
        "metrics": {},
        "intended_use": "tests",
        "limits": [],
        "privacy": PRIVACY,
    } | changes


def generator(profile: str = "aml_core") -> BayesianNetwork:
    """Every level equally often, no column bound to another."""
    release = OneWay(of_profile(load(profile), GRID))
    frequencies = release.decode(np.zeros(release.release.length), 1.0)
    columns = len(frequencies.dictionary.levels)
    order = (columns - 1, *range(columns - 1))
    return BayesianNetwork(frequencies, order, ((),) * columns, coarse(frequencies))


def survival(profile: str = "aml_core") -> SurvivalModel:
    features = tuple(variable.name for variable in load(profile).inputs)
    preset = small()
    weights = initial_weights(preset, len(features), b"seed")
    return SurvivalModel.as_trained(features, preset.network, preset.grid, weights)


def write_generator(path: Path, named: str = "aml_core", **changes: Any) -> str:
    """Returns the digest."""
    made = generator(named)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.to_bytes(made, card(named, **changes)))
    return made.digest


def write_survival(path: Path, named: str = "aml_core", **changes: Any) -> str:
    """Returns the digest."""
    made = survival(named)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(artefact.to_bytes(made, card(named, **changes)))
    return made.digest


def certify(model: Path, digest: str, found: ReleasableEvidence | None = None, *, veto: bool = False) -> Path:
    """A certificate beside a model file, as an auditor signs it."""
    rules = policy.load("research")
    found = evidence() if found is None else found
    verdict = decide(found, rules)
    content = certificate.statement(
        model.read_bytes(), model.name, facts=dataclasses.replace(FACTS, model_digest=digest), evidence=found,
        verdict=withheld(verdict) if veto else verdict, policy=rules, issued=ISSUED,
    )  # fmt: skip
    path = model.with_name("certificate.dsse.json")
    path.write_bytes(certificate.sign(content, AUDITOR))
    return path


def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Haemfed:
    """Runs `haemfed` in this process: exit status, what it says, what it says on stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["haemfed", *map(str, arguments)])
        for console in (terminal.out, terminal.err):  # COLUMNS alone: a console that was made under another keeps it
            monkeypatch.setattr(console, "width", 400)
        monkeypatch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.out, said.err

    return call


def command_line_of_a_site(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Haemfed:
    """The same from a folder in which a site's `site.toml` lies; its data are below `alder/data`."""
    monkeypatch.chdir(folder)
    create_site(folder / "alder", "alder", "127.0.0.1:1")
    (folder / "alder" / "site.toml").rename(folder / "site.toml")
    text = (folder / "site.toml").read_text().replace('data_dir = "data"', f'data_dir = "{folder}/alder/data"')
    (folder / "site.toml").write_text(text)
    return command_line(capsys, monkeypatch)


def drafting(
    folder: Path, names: Sequence[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[Haemfed, tuple[str, ...]]:
    """The command line in a folder with new sites, and the command that drafts a `study.json` of them all."""
    monkeypatch.chdir(folder)
    haemfed = command_line(capsys, monkeypatch)
    members: list[str] = []
    for name in names:
        assert haemfed("site", "init", name, "--name", name, "--coordinator", "127.0.0.1:8443")[0] == 0
        members += ["--site", f"{name}/{name}.request.json=100-249"]
    return haemfed, ("study", "draft", "--name", "a", "--purpose", "a test", *members, "--out", "study.json")
