"""A study without noise: everything that comes of it says "not differentially private", wherever it is read."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from audits import policy
from harmonize import synthetic
from harmonize.profile import load as load_profile
from harmonize.table import Table
from models.data import SurvivalData
from models.generators import file as generator_file
from models.interop import pycox
from nodes import daemon, files, plans, reporting
from nodes.cohort import Cohort
from nodes.config import SiteConfig, load
from nodes.door import Progress
from nodes.errors import DataProblem, StudyInvalid
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


def finished(study: Study, model: Any, evaluation: Mapping[str, object] = MappingProxyType({})) -> Finished:
    left = plans.Left(model, dict(evaluation), AttackSums(None, None))
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
            else:
                inside = {pycox.FACTS: ""}
                torch.jit.load(target, _extra_files=inside)  # type: ignore[no-untyped-call]
                yield "model export pycox", json.dumps(json.loads(inside[pycox.FACTS]), ensure_ascii=False)

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
    terms = Terms(noise=Noise.LOCAL)
    for name, text in (*walk.study(terms), *walk.survival(terms), *walk.synthetic(terms)):
        said = "each hospital adds the whole noise" if not name.startswith("predictions, row") else "private"
        assert said in text.replace("\n", " "), name


@pytest.mark.parametrize("preset", ["aml-small", "bayesnet-tables"])
def test_the_report_lists_what_was_read_and_the_scores_with_their_intervals(preset: str, walk: Walk) -> None:
    study, _ = drafted(Terms(noise=Noise.NONE), preset)
    score: dict[str, object] = {"concordance": {"estimate": 0.652, "low": 0.571, "high": 0.733}}
    scored = not plans.is_generator(study)
    write_results(walk.places, finished(study, *((survival(), score) if scored else (generator(), {}))))
    files.write(walk.places.run(study.run_id) / daemon.LOCAL, b"null", private=True)

    page = report_without_noise(walk.config, study, now=NOW)

    listed = json.loads(page.with_suffix(".json").read_text())["study"]["columns"]
    assert listed == [{"modality": "clinical", "count": 4, "names": ["age", "sex", "wbc", "tpi"]}]
    assert "age, sex, wbc, tpi" in page.read_text()
    assert ("0.571 to 0.733" in page.read_text()) is scored


def test_columns_of_a_report_are_those_of_the_study_by_examination() -> None:
    study, _ = drafted(Terms())
    profile = load_profile("aml")
    features = ("mut_npm1", "age", *(f"slide[{place}]" for place in range(768)), "wbc")
    other = replace(
        study,
        profile=profile.profile,
        profile_digest=profile.digest,
        learning=replace(study.learning, features=features),
    )

    assert [(each.modality, each.count, each.names) for each in reporting._columns(other)] == [
        ("clinical", 2, ("age", "wbc")),
        ("mutations", 1, ("mut_npm1",)),
        ("slide", 768, ("slide[0…767]",)),
    ]
    with pytest.raises(DataProblem, match="needs profile"):
        reporting._columns(replace(other, profile_digest="00"))


def test_there_is_no_certificate_of_a_study_without_noise(walk: Walk) -> None:
    study, _ = drafted(Terms(noise=Noise.NONE))
    write_results(walk.places, finished(study, survival()))

    with pytest.raises(StudyInvalid, match="claims nothing that a certificate could attest"):
        certify(
            walk.config, study, policy.load("research"), Any, auditor=Path("a"), officer=Path("o"), now=NOW,  # type: ignore[arg-type]
        )  # fmt: skip

    assert not list(walk.places.run(study.run_id).glob("*.dsse.json"))
