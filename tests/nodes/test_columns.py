"""Columns of a study: chosen by modality, the blocks of a fusion, found by name at a site and by a stored model."""

from __future__ import annotations

import base64
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harmonize import mapping, modalities, sources
from harmonize.profile import load
from harmonize.table import Table, build
from models.artefact import to_bytes
from models.errors import ArtefactError
from models.loading import load as load_model
from models.networks import FusedBlocks
from models.predict import SurvivalModel
from models.presets import PRESETS, Preset
from models.training import initial_weights
from nodes import cli, columns, imputing, showing
from nodes.cohort import load_cohort
from nodes.drafting import check_plan, draft
from nodes.errors import DataProblem, StudyInvalid
from nodes.plans import preset_named
from nodes.protocol import Terms, spec_of
from nodes.provision import create_site
from nodes.references import reference_plan
from nodes.study import SignedStudy, Study, parse
from secagg.keys import Identity
from tests.harmonize.test_export import tables
from tests.nodes.released import command_line, write_generator

MM = load("mm")
FUSION = PRESETS["fusion-wide"]


def drafted(preset: Any, asked: list[str] | None = None, **more: Any) -> Study:
    if isinstance(preset, Preset):
        preset = replace(preset, steps=3, uploads=5)
    study = draft(
        "test",
        "a test",
        profile=MM,
        preset=preset,
        sites=[(name, Identity.generate(os.urandom).public, "100-249") for name in ("a", "b", "c", "d")],
        terms=Terms(declared_patients=200.0),
        seed=b"seed",
        not_after="2027-01-01T00:00:00+00:00",
        columns=columns.chosen(MM, preset, asked),
        **more,
    )
    read = parse(SignedStudy(study).to_json(), "study.json").study
    check_plan(read)
    return read


def learning(study: Study, **changes: Any) -> Study:
    return msgspec.structs.replace(study, learning=msgspec.structs.replace(study.learning, **changes))


def with_preset(study: Study, **changes: Any) -> Study:
    return learning(study, preset={**study.learning.preset, **changes})


def table(vectors: list[bool]) -> Table:
    """Invented patients, of whom some have a vector."""
    found = tables("mm", 7, len(vectors))
    rows: dict[str, Any] = {name: found.arrow[name].to_pylist() for name in found.arrow.column_names}
    drawn = np.random.default_rng(5).uniform(-1, 1, (len(vectors), 31))
    rows["radiomics"] = [row.tolist() if has else None for row, has in zip(drawn, vectors, strict=True)]
    rows["radiomics__m"] = [int(not has) for has in vectors]
    return Table.from_columns(rows, MM)


# ---------------------------------------------------------------- drafting


def test_a_fusion_has_a_block_for_every_modality() -> None:
    study = drafted(FUSION)

    network = Preset.from_json(study.learning.preset).network
    groups = modalities.of(MM)
    assert network == FusedBlocks((), 8, tuple(len(each.columns) for each in groups), (3,))
    assert study.learning.features == tuple(column for each in groups for column in each.columns)
    assert study.learning.features != (*(v.name for v in MM.inputs), *groups[-1].columns), "the profile groups nothing"
    assert spec_of(study).length == study.stages[0].length


def test_other_learners_take_no_vector_unless_it_is_asked_for() -> None:
    plain, asked = drafted(PRESETS["aml-small"]), drafted(PRESETS["aml-small"], ["radiomics", "clinical"])

    assert sorted(plain.learning.features) == sorted(variable.name for variable in MM.inputs)
    assert [name for name in asked.learning.features if "[" in name] == [f"radiomics[{i}]" for i in range(31)]
    assert len(asked.learning.features) == len(modalities.of(MM)[0].columns) + 31
    assert asked.learning.preset["blocks"] == []


def test_modalities_are_chosen_in_any_order() -> None:
    study = drafted(FUSION, ["mutations", "clinical"])

    clinical, _, mutations, _ = modalities.of(MM)
    assert study.learning.features == (*clinical.columns, *mutations.columns)
    assert Preset.from_json(study.learning.preset).network.to_json()["blocks"] == [
        len(clinical.columns),
        len(mutations.columns),
    ]


@pytest.mark.parametrize(
    ("preset", "asked", "said"),
    [
        ("fusion-wide", ["clinical", "imaging"], "no modality 'imaging'; it has clinical, cytogenetic, mutations, rad"),
        ("aml-small", [], "at least one modality"),
        ("bayesnet-scores", ["clinical"], "leave modalities out"),
    ],
)
def test_modalities_that_cannot_be_chosen(preset: str, asked: list[str], said: str) -> None:
    with pytest.raises(StudyInvalid, match=said):
        columns.chosen(MM, preset_named(preset), asked)


def test_the_binary_columns_of_savae_are_those_of_the_study() -> None:
    study = drafted(PRESETS["savae-wide"])

    binary = {study.learning.features[place] for place in study.learning.preset["binary"]}
    assert {v.name for v in MM.inputs if v.name.startswith("mut_") and not v.name.endswith("_vaf")} <= binary
    assert not binary & {"age", "hb", "iss", "mut_tp53_vaf", "cyto_abnormalities"}


def test_a_generator_keeps_the_order_of_the_profile() -> None:
    study = drafted(preset_named("bayesnet-scores"))

    assert study.learning.features == tuple(variable.name for variable in MM.inputs)


def test_covariates_are_where_the_study_has_them() -> None:
    chosen = columns.chosen(MM, FUSION, ["mutations", "cytogenetic"])
    asked = imputing.chosen(MM, ["all"], columns=chosen.names)
    study = drafted(FUSION, ["mutations", "cytogenetic"], imputation=asked)

    assert sorted(asked.covariates) == sorted(chosen.names)
    imputation = imputing.imputation_of(study, 1.0, 1.0)
    assert imputation is not None
    assert all(study.learning.features[each.column] == each.name for each in imputation.covariates)
    with pytest.raises(StudyInvalid, match="cannot impute 'age'"):
        imputing.chosen(MM, ["age"], columns=chosen.names)


# ---------------------------------------------------------------- before anybody signs


def _torn(study: Study) -> Study:
    names = list(study.learning.features)
    names[-1], names[-2] = names[-2], names[-1]
    return learning(study, features=tuple(names))


def _shuffled(study: Study) -> Study:
    first, *names = study.learning.features
    return learning(study, features=(*names[:30], first, *names[30:]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_torn, "not all 31 of them in order"),
        (_shuffled, "not its modalities"),
        (lambda s: with_preset(s, blocks=[25, *s.learning.preset["blocks"][1:]]), "not its modalities: clinical 2"),
        (lambda s: with_preset(s, vectors=[2, 3]), "not its modalities"),
        (lambda s: with_preset(s, blocks=[], vectors=[]), "not its modalities"),
        (lambda s: learning(s, features=("nothing", *s.learning.features[1:])), "no column nothing"),
        (lambda s: learning(s, features=(*s.learning.features[:-1], "radiomics[31]")), "not all 31 of"),
    ],
    ids=["torn", "shuffled", "width", "vectors", "none", "unknown", "no such number"],
)
def test_blocks_that_are_not_the_modalities_are_refused(change: Any, said: str) -> None:
    study = drafted(FUSION)

    with pytest.raises(StudyInvalid, match=said):
        check_plan(change(study))


def test_a_fusion_of_one_block_as_earlier_versions_drafted_it_still_runs() -> None:
    study = drafted(FUSION, ["clinical", "mutations", "cytogenetic"])
    names = tuple(variable.name for variable in MM.inputs)
    preset = replace(FUSION, steps=3, uploads=5, normaliser=200.0)
    weights = initial_weights(preset, len(names), b"s")

    earlier = learning(
        with_preset(study, blocks=[]), features=names, weights=base64.b64encode(weights).decode(), imputation=None
    )

    columns.require_fit(earlier)
    assert spec_of(earlier).length == len(weights) // 8


def test_what_a_model_sees_and_what_not_is_shown() -> None:
    shown = list(showing.terms(drafted(PRESETS["aml-small"], ["mutations", "radiomics"])))

    assert f"columns: mutations {len(modalities.of(MM)[2].columns)}, radiomics (a vector of 31)" in shown
    assert f"not used of the profile: clinical {len(modalities.of(MM)[0].columns)}, cytogenetic 12" in shown


def test_drafted_at_the_keyboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = []
    for name in ("alder", "birch", "cedar", "dogwood"):
        request, _ = create_site(tmp_path / name, name, "127.0.0.1:1")
        sites += ["--site", f"{request}=100-249"]

    def haemfed(*more: str) -> tuple[object, str]:
        base = ["haemfed", "study", "draft", "--name", "x", "--purpose", "x", "--profile", "mm", *sites]
        monkeypatch.setattr(sys, "argv", [*base, "--out", str(tmp_path / "s.json"), *more])
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    code, said = haemfed()
    assert code == 0, said
    assert said.splitlines()[-1] == "  not used of the profile: radiomics (a vector of 31)"
    code, said = haemfed("--preset", "fusion-wide")
    assert code == 0, said
    assert said.splitlines()[-1].endswith(", radiomics (a vector of 31)")
    code, said = haemfed("--preset", "fusion-wide", "--modalities", "clinical,slide")
    assert code == 12, said
    assert "has no modality 'slide'; it has clinical, cytogenetic, mutations, radiomics" in said
    code, said = haemfed("--preset", "fusion-wide", "--modalities", "clinical,radiomics", "--impute", "all")
    assert code == 0, said
    study = parse((tmp_path / "s.json").read_bytes(), "s.json").study
    assert study.learning.imputation is not None
    assert set(study.learning.imputation.covariates) == set(modalities.of(MM)[0].columns)


# ---------------------------------------------------------------- at a site, and for a stored model


def test_a_site_reads_the_studys_columns_by_name(tmp_path: Path) -> None:
    study, written = drafted(FUSION), tmp_path / "t.parquet"
    whole = table([True, False] * 30)
    written.write_bytes(whole.to_parquet_bytes())

    cohort = load_cohort(study, written, b"k" * 32)

    rows = {pid: place for place, pid in enumerate(whole.pids)}
    x, observed = whole.matrix().columns(study.learning.features)
    for data, pids in ((cohort.train, cohort.train_pids), (cohort.holdout, cohort.holdout_pids)):
        mine = [rows[pid] for pid in pids]
        assert np.array_equal(data.x, x[mine])
        assert np.array_equal(data.observed, observed[mine])
        assert set(np.count_nonzero(data.observed[:, -31:], axis=1)) == {0, 31}
    with pytest.raises(DataProblem, match="nothing"):
        load_cohort(learning(study, features=("nothing",)), written, b"k" * 32)


def test_a_stored_model_finds_its_columns_by_name(tmp_path: Path) -> None:
    study = drafted(FUSION)
    preset, names = Preset.from_json(study.learning.preset), study.learning.features
    weights = np.random.default_rng(0).normal(0, 0.1, len(study.weights) // 8).astype("<f8").tobytes()
    model = SurvivalModel.as_trained(names, preset.network, preset.grid, weights)
    card: dict[str, Any] = {
        "profile": {"name": "mm", "digest": MM.digest}, "study": {}, "transcript": "", "metrics": {},
        "intended_use": "", "limits": [], "privacy": {},
    }  # fmt: skip
    patients = table([True, False, True])

    (tmp_path / "m").write_bytes(to_bytes(model, card))
    found = load_model(tmp_path / "m").predict(patients)

    x, observed = patients.matrix().columns(names)
    assert np.array_equal(found.risk, model.risk(x, observed))
    assert len(set(found.risk)) == 3
    other = SurvivalModel.as_trained(("radiomics[31]", *names[1:]), preset.network, preset.grid, weights)
    (tmp_path / "m").write_bytes(to_bytes(other, card))
    with pytest.raises(ArtefactError, match=r"needs radiomics\[31\]"):
        load_model(tmp_path / "m").predict(patients)


def test_reference_models_know_the_same_columns() -> None:
    study = drafted(FUSION)

    laws = reference_plan(study).dictionary.features

    assert tuple(law.name for law in laws) == study.learning.features
    assert {(law.low, law.high, law.missing) for law in laws[-31:]} == {(-1.0, 1.0, 0.0)}
    assert all(law.missing > 0 for law in laws[:-31])


# ---------------------------------------------------------------- what vectors are left out of


def test_vectors_are_neither_drawn_nor_exported_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    haemfed, model = command_line(capsys, monkeypatch), tmp_path / "g" / "model.safetensors"
    write_generator(model, "mm")

    code, out, err = haemfed("synth", "sample", model, "--patients", 20, "--seed", 1, "--out", "drawn.parquet")
    assert code == 0, err
    assert "no generator draws vectors: radiomics is empty" in out
    drawn = Table.from_parquet((tmp_path / "drawn.parquet").read_bytes(), MM)
    assert not drawn.matrix().vectors["radiomics"][1].any()
    for form in ("csv", "fhir"):
        assert haemfed("synth", "export", "drawn.parquet", "--format", form, "--out", f"drawn-{form}")[0] == 0

    whole = table([True, False, True])
    (tmp_path / "whole.parquet").write_bytes(whole.to_parquet_bytes())
    for form in ("csv", "fhir"):
        code, out, err = haemfed(
            "harmonize", "export", "whole.parquet", f"whole-{form}", "--profile", "mm", "--format", form
        )
        assert code == 0, err
        assert f"vectors have no place in {form} and stay behind: radiomics" in out
        plan = mapping.load(tmp_path / f"whole-{form}" / "mapping.toml", MM)
        back, _ = build(sources.read(tmp_path / f"whole-{form}", plan, MM), MM, bytes(32))
        assert len(back) == 3
        assert not back.matrix().vectors["radiomics"][1].any()
        assert sorted(back.matrix().duration) == sorted(whole.matrix().duration)
