"""A study without noise: everything that comes of it says "not differentially private", wherever it is read."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audits import policy
from harmonize import synthetic
from harmonize.profile import load as load_profile
from harmonize.table import Table
from models.data import SurvivalData
from models.generators import file as generator_file
from nodes import daemon, files, plans
from nodes.cohort import Cohort
from nodes.config import SiteConfig, load
from nodes.door import Progress
from nodes.errors import StudyInvalid
from nodes.evidence import AttackSums
from nodes.places import Places
from nodes.protocol import Terms
from nodes.provision import create_site
from nodes.reporting import certify, report_without_noise
from nodes.results import write_results
from nodes.site import Finished
from nodes.study import SignedStudy, Study
from secagg.manifest import Noise
from tests.harmonize.test_export import tables
from tests.nodes.modes import NAMES, drafted
from tests.nodes.released import Haemfed, command_line, generator, survival

SAID = "not differentially private"
NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
NOBODY = SurvivalData(np.zeros((0, 1)), np.zeros((0, 1), bool), np.zeros(0), np.zeros(0, bool))


def finished(study: Study, model: Any) -> Finished:
    left = plans.Left(model, {}, AttackSums(None, None))
    return Finished(study, left, Cohort(NOBODY, NOBODY, (), (), ""), "00" * 32, len(NAMES), Counter())


class Walk:
    """Makes whatever a study without noise can leave at a site, and yields what stands in it."""

    def __init__(self, root: Path, haemfed: Haemfed) -> None:
        self.root, self.call = root, haemfed
        create_site(root / NAMES[0], NAMES[0], "127.0.0.1:1")
        self.config = load(SiteConfig, root / NAMES[0] / "site.toml")
        self.places = Places(self.config.paths)
        self.table = root / "table.parquet"
        self.table.write_bytes(tables("aml_core", 4, 5).to_parquet_bytes())

    def said(self, *arguments: object) -> str:
        code, out, err = self.call(*arguments)
        assert code == 0, err
        return out

    def study(self, terms: Terms) -> Iterator[tuple[str, str]]:
        study, _ = drafted(terms)
        path = self.root / "study.json"
        path.write_bytes(SignedStudy(study).to_json())
        yield "study show", self.said("study", "show", path)
        files.make_private_directory(self.places.run(study.run_id))
        status = daemon._status(study, self.places)
        status(Progress("gradient", 1, 3, 1, NAMES, "sum", study.protection), 0)
        yield "status", self.places.status(study.run_id).read_text()

    def survival(self, terms: Terms) -> Iterator[tuple[str, str]]:
        study, _ = drafted(terms)
        model = write_results(self.places, finished(study, survival()))
        shown = self.said("model", "show", model)
        yield "model show, line", shown.splitlines()[1]
        yield "model card", json.dumps(json.loads(shown[shown.index("{") :])["privacy"])
        yield "released.json", model.with_name("released.json").read_text()
        predict = ("model", "predict", model, "--table", self.table)
        yield "predictions, printed", self.said(*predict)
        self.said(*predict, "--out", self.root / "out.csv")
        for number, line in enumerate((self.root / "out.csv").read_text().splitlines()[1:]):
            yield f"predictions, row {number}", line
        for form, package in (("onnx", "onnxruntime"), ("mlflow", ""), ("pycox", "pycox")):
            if package and find_spec(package) is None:
                continue  # the extra `interop` is not installed
            target = self.root / form
            yield (
                f"model export {form}, printed",
                self.said("model", "export", model, "--format", form, "--out", target),
            )
            if form == "mlflow":
                yield "model export mlflow", (target / "MLmodel").read_text()
            elif form == "onnx":
                import onnx

                made = onnx.load(target)
                yield "model export onnx", made.doc_string
                yield "model export onnx, metadata", str({each.key: each.value for each in made.metadata_props})

    def synthetic(self, terms: Terms) -> Iterator[tuple[str, str]]:
        study, _ = drafted(terms, "bayesnet-tables" if terms.noise is Noise.NONE else "bayesnet-scores")
        model = write_results(self.places, finished(study, generator()))
        yield "generator card", json.dumps(generator_file.from_bytes(model.read_bytes())[1]["privacy"])
        yield "synth show", self.said("synth", "show", model).splitlines()[1]
        table = self.root / "s.parquet"
        drawn = self.said("synth", "sample", model, "--patients", 4, "--seed", 1, "--out", table)
        yield "synth sample", drawn.splitlines()[-1]
        origin = synthetic.provenance_of(Table.from_parquet(table.read_bytes(), load_profile("aml_core")))
        yield "synthetic table", str(origin and origin["protection"])
        for form in ("csv", "fhir"):
            self.said("synth", "export", table, "--format", form, "--out", self.root / form)
        yield "synthetic CSV", (self.root / "csv" / "provenance.json").read_text()
        for bundle in (self.root / "fhir").glob("*.json"):
            yield "synthetic Bundle", json.dumps(json.loads(bundle.read_text())["meta"], ensure_ascii=False)

    def report(self, terms: Terms) -> Iterator[tuple[str, str]]:
        study, _ = drafted(terms)
        write_results(self.places, finished(study, survival()))
        files.write(self.places.run(study.run_id) / daemon.LOCAL, b"null", private=True)
        page = report_without_noise(self.config, study, now=NOW)
        yield "report", page.read_text()
        yield "report, JSON", page.with_suffix(".json").read_text()


PARTS = ("study", "survival", "synthetic")


@pytest.fixture
def walk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.chdir(tmp_path)
    return Walk(tmp_path, command_line(capsys, monkeypatch))


@pytest.mark.parametrize("part", [*PARTS, "report"])
def test_whatever_a_study_without_noise_leaves_says_so(part: str, walk: Walk) -> None:
    said = dict(getattr(walk, part)(Terms(noise=Noise.NONE)))

    assert said
    for name, text in said.items():
        assert SAID in text.lower(), f"{name}: {text[:300]}"
        assert not text.lower().replace(SAID, "").count("differentially private:"), name


@pytest.mark.parametrize("part", PARTS)
def test_what_a_study_with_noise_leaves_does_not(part: str, walk: Walk) -> None:
    """The walk sees what it looks for: the same places, with the opposite in them."""
    for name, text in getattr(walk, part)(Terms()):
        assert SAID not in text.lower(), name
        assert "differentially private" in text.lower(), name


def test_local_noise_is_called_what_it_is(walk: Walk) -> None:
    for name, text in walk.study(Terms(noise=Noise.LOCAL)):
        assert "each hospital adds the whole noise" in text.replace("\n", " "), name


def test_there_is_no_certificate_of_a_study_without_noise(walk: Walk) -> None:
    study, _ = drafted(Terms(noise=Noise.NONE))
    write_results(walk.places, finished(study, survival()))

    with pytest.raises(StudyInvalid, match="claims nothing that a certificate could attest"):
        certify(
            walk.config, study, policy.load("research"), Any, auditor=Path("a"), officer=Path("o"), now=NOW,  # type: ignore[arg-type]
        )  # fmt: skip

    assert not list(walk.places.run(study.run_id).glob("*.dsse.json"))
