"""`docs/tutorials/first-consortium.md` by hand: provisioning by files, up to a study that every site has signed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from nodes import cli
from nodes import study as studies
from nodes.cli import terminal
from nodes.demo import sources
from nodes.demo.cohort import hospitals
from tests.nodes.hospitals import policy_text

pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")
FINGERPRINT = re.compile(r"^  ([A-Z2-7]{4}(?:-[A-Z2-7]{4}){7})$", re.MULTILINE)
KINDS = (
    "gradient", "breslow", "concordance", "calibration", "score-histogram-members", "score-histogram-nonmembers",
)  # fmt: skip


@pytest.mark.slow
def test_from_empty_folders_to_a_signed_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(terminal.out, "width", 300)

    def haemfed(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["haemfed", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        spoken = capsys.readouterr()
        assert ended.value.code == 0, spoken.err
        return spoken.out

    def fingerprint(text: str) -> str:
        found = FINGERPRINT.search(text)
        assert found, text
        return found[1]

    telephone = fingerprint(haemfed("coordinator", "init", "coordinator", "--listen", "127.0.0.1:8443"))
    cohort = hospitals(4)
    pins = {}
    for each in cohort:
        name, config = each.name, f"{each.name}/site.toml"
        pins[name] = fingerprint(haemfed("site", "init", name, "--name", name, "--coordinator", "127.0.0.1:8443"))
        coordinator = ("--config", "coordinator/coordinator.toml")
        haemfed("coordinator", "admit", f"{name}/{name}.request.json", "--out", f"{name}.bundle.json", *coordinator)
        haemfed("site", "join", f"{name}.bundle.json", "--fingerprint", telephone, "--config", config)
    members = [argument for name in pins for argument in ("--site", f"{name}/{name}.request.json=100-249")]
    haemfed("study", "draft", "--name", "aml-1", "--purpose", "a test", *members, "--out", "study.json")
    for rank, each in enumerate(cohort):
        name, config = each.name, f"{each.name}/site.toml"
        peers = {peer: pin for peer, pin in pins.items() if peer != name}
        Path(name, "data", "policy.toml").write_text(policy_text("aml_core", KINDS, peers))
        for account in ("training", "holdout"):
            haemfed("budget", "grant", account, "--epsilon", "2", "--config", config)
        mapping = sources.write(each, Path(name, "source"), sources.dialect(rank))
        assert "quality report" in haemfed("harmonize", "run", str(mapping), "--config", config)
        assert "chain intact" in haemfed("site", "check", "--config", config)
        haemfed("study", "sign", "study.json", "--config", config, "--out", f"{name}/study.json")
    assert "signed by every site" in haemfed(
        "study", "merge", *[f"{name}/study.json" for name in pins], "--out", "all.json"
    )

    assert studies.validate(studies.parse(Path("all.json").read_bytes(), "all.json"), "all.json").name == "aml-1"
    shown = haemfed("study", "show", "all.json")
    assert "concordance" in shown
    assert "mode A: a round opens only with the upload of every hospital asked, at least 3 of 4" in shown
    assert "the shares of 3 honest hospitals" in shown
    haemfed("study", "draft", "--name", "b", "--purpose", "b", *members, "--mode", "B", "--out", "b.json")
    shown = haemfed("study", "show", "b.json")
    assert "mode B: a round opens without those who drop out of it, as long as 3 of 4 hospitals are left" in shown
    assert "the shares of 2 honest hospitals" in shown
    assert "holdout" in haemfed("budget", "show", "--config", "alder/site.toml")
    assert "chain intact" in haemfed("budget", "verify", "--config", "alder/site.toml")
