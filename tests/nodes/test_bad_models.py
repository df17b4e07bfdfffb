"""Bad tables and bad constants on their way to a model: a refusal with a status, or a way on that everybody takes.

From a CSV file through `haemfed harmonize run` to a study through real doors. What a study meets *while it runs* is
refused by nobody: a refusal that depends on patients would be a release.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dp.queries import Float64, Query
from harmonize.errors import HarmonizeError
from harmonize.profile import load as load_profile
from harmonize.table import Table
from models.plan import Outcome, survival_plan
from models.presets import preset
from nodes import cli
from nodes.cohort import Cohort, load_cohort
from nodes.config import SiteConfig, load
from nodes.door import Door
from nodes.drafting import check_plan
from nodes.errors import DataProblem, StudyInvalid, from_core
from nodes.places import Places, load_secrets
from nodes.protocol import Terms, spec_of
from nodes.provision import create_site
from nodes.study import SignedStudy, Study, parse
from secagg.manifest import Noise
from tests.nodes.hospitals import MAPPING
from tests.nodes.modes import NAMES, drafted, patients, run

HEADER = "PatNr;born;dx;sex;WBC =1+1;died;seen"
Row = list[str]
Spoil = Callable[[int, Row], Row | None]
PATIENT, BORN, DX, SEX, WBC, DIED, SEEN = range(7)


def good(number: int) -> Row:
    """Men with many white cells die earlier."""
    died = f"20{11 + number % 3}-03-04" if number % 3 else ""
    born, sex, cells = f"19{50 + number % 20}-01-02", "mw"[number % 2], f"{4321 + 97 * number}"
    return [f"P-{number}", born, "2010-05-06", sex, cells, died, "2015-01-02"]


def cell(place: int, text: str, every: int = 1) -> Spoil:
    """One column's text in every n-th row."""
    return lambda number, row: [*row[:place], text if number % every == 0 else row[place], *row[place + 1 :]]


def only(count: int) -> Spoil:
    return lambda number, row: row if number < count else None


class Hospital:
    """A site whose CSV file is spoiled on its way."""

    def __init__(self, root: Path, name: str, spoil: Spoil, patients: int = 60, minimum: int = 5) -> None:
        create_site(root / name, name, "127.0.0.1:1")
        self.file = root / name / "site.toml"
        self.places = Places(load(SiteConfig, self.file).paths)
        (root / name / "data" / "policy.toml").write_text(f"minimum_cohort = {minimum}\n")
        source = root / name / "source"
        source.mkdir()
        found = (spoil(number, good(number)) for number in range(patients))
        (source / "cohort.csv").write_text("\n".join([HEADER, *(";".join(row) for row in found if row)]) + "\n")
        self.mapping = source / "mapping.toml"
        self.mapping.write_text(MAPPING)

    def harmonise(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        command = ["haemfed", "harmonize", "run", str(self.mapping), "--config", str(self.file)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.err

    def table(self, study: Study) -> Path:
        return self.places.table(study.profile)

    def cohort(self, study: Study) -> Cohort:
        return load_cohort(study, self.table(study), load_secrets(self.places).split)


def together(study: Study, identities: Any, hospitals: Iterable[Hospital]) -> list[Outcome]:
    """The study at every site on what lies in its folder."""
    cohorts = {member: hospital.cohort(study) for member, hospital in enumerate(hospitals, start=1)}

    def learn(study: Study, member: int, through: Any, _door: Door) -> Outcome:
        return survival_plan(spec_of(study), cohorts[member].train, cohorts[member].holdout, through)

    return [each.outcome for each in run(study, identities, learn=learn) if each is not None]


def both(*spoilers: Spoil) -> Spoil:
    def spoil(number: int, row: Row) -> Row | None:
        found: Row | None = row
        for each in spoilers:
            found = None if found is None else each(number, found)
        return found

    return spoil


def plain(_: int, row: Row) -> Row:
    return row


POOR = {
    "as they are": plain,
    "constant columns": both(cell(SEX, "m"), cell(WBC, "5000")),
    "columns that nobody measured": both(cell(SEX, ""), cell(WBC, "")),
    "no event": cell(DIED, ""),
    "five patients": only(5),
}


@pytest.mark.parametrize(
    "spoilers",
    [
        pytest.param(tuple(POOR.values()), id="one of each"),
        *(
            pytest.param((spoil,) * len(NAMES), id=name, marks=pytest.mark.slow)
            for name, spoil in POOR.items()
            if spoil is not plain
        ),
    ],
)
def test_a_poor_table_is_carried_through_the_study(
    spoilers: tuple[Spoil, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, identities = drafted(Terms())
    hospitals = [Hospital(tmp_path, name, spoil) for name, spoil in zip(NAMES, spoilers, strict=True)]
    assert [each.harmonise(monkeypatch, capsys) for each in hospitals] == [(0, "")] * len(NAMES)

    for each in hospitals:
        cohort = each.cohort(study)
        assert len(cohort.train.bounded(365.25)) == len(cohort.train_pids), "a gap costs no patient"

    left = together(study, identities, hospitals)

    assert len(left) == len(NAMES)
    assert len({each.model.digest for each in left}) == 1
    assert all(each.trained.steps_done == 3 and each.recalibrated for each in left)
    assert len({str(each.evaluation.summary()) for each in left}) == 1
    model = left[0].model
    for observed in (True, False):
        x = np.zeros((1, len(model.features)))
        alive = model.survival(x, np.full(x.shape, observed), np.array([365.25]))
        assert 0 <= float(alive[0, 0]) <= 1


def test_five_patients_are_refused_when_a_person_harmonises_and_never_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Hospital(tmp_path, "alder", only(5), minimum=20)

    code, said = refused.harmonise(monkeypatch, capsys)

    assert code == 16
    assert "minimum_cohort" in said
    assert not refused.places.table("aml_core").exists()
    unset = Hospital(tmp_path, "birch", only(5))
    (tmp_path / "birch" / "data" / "policy.toml").write_text("")
    assert unset.harmonise(monkeypatch, capsys)[0] == 11
    (study, _), taken = drafted(Terms()), Hospital(tmp_path, "cedar", only(5))
    assert taken.harmonise(monkeypatch, capsys)[0] == 0
    (tmp_path / "cedar" / "data" / "policy.toml").write_text("minimum_cohort = 20\n")
    assert taken.cohort(study).size == 5


@pytest.mark.parametrize(
    ("spoil", "left", "code"),
    [
        (cell(SEX, "x", 6), 60, "code-unknown"),
        (cell(DIED, "2009-12-31", 6), 50, "death-before-diagnosis"),
        (cell(SEEN, "2009-12-31", 6), 50, "follow-up-before-diagnosis"),
        (cell(DIED, "NaN", 6), 60, "date-malformed"),
        (lambda n, row: [*row[:DIED], "", "NaN"] if n % 6 == 0 else row, 50, "follow-up-missing"),
        (cell(WBC, "NaN", 6), 60, "number-malformed"),
        (cell(WBC, "-4", 6), 60, "range-hard"),
    ],
    ids=["unknown category", "negative time", "negative follow-up", "NaN date", "NaN outcome", "NaN value", "negative"],
)
def test_a_bad_cell_costs_its_value_or_its_patient_and_is_reported(
    spoil: Spoil,
    left: int,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hospital = Hospital(tmp_path, "alder", spoil)

    status, said = hospital.harmonise(monkeypatch, capsys)

    assert (status, said) == (0, "")
    profile = load_profile("aml_core")
    table = Table.from_parquet(hospital.places.table("aml_core").read_bytes(), profile)
    assert len(table) == left
    times = table.arrow["time"].to_pylist()
    assert all(time is not None and time >= 0 for time in times)
    report = next(hospital.places.table("aml_core").parent.glob("*quality*.html")).read_text()
    assert code in report


@pytest.mark.parametrize(
    ("column", "value"), [("time", -1), ("time", None), ("event", None)], ids=["negative", "no time", "no status"]
)
def test_a_table_edited_by_hand_is_refused_before_the_study(
    column: str,
    value: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hospital, (study, _) = Hospital(tmp_path, "alder", plain), drafted(Terms())
    assert hospital.harmonise(monkeypatch, capsys)[0] == 0
    path = hospital.table(study)
    arrow = pq.read_table(io.BytesIO(path.read_bytes()))
    changed = arrow[column].to_pylist()
    changed[0] = value
    place = arrow.schema.get_field_index(column)
    field = arrow.schema.field(place)
    field = field if value is not None else field.with_nullable(nullable=True)
    pq.write_table(arrow.set_column(place, field, pa.array(changed, field.type)), path)

    with pytest.raises(HarmonizeError, match=r"column time: outside|columns are not those") as refused:
        hospital.cohort(study)

    assert from_core(refused.value).exit_code == 17


def test_a_table_of_another_version_of_its_profile_is_refused_before_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hospital, (study, _) = Hospital(tmp_path, "alder", plain), drafted(Terms())
    assert hospital.harmonise(monkeypatch, capsys)[0] == 0
    path = hospital.table(study)
    arrow = pq.read_table(io.BytesIO(path.read_bytes()))
    metadata = {**(arrow.schema.metadata or {})}
    name = next(key for key, value in metadata.items() if study.profile_digest.encode() in value)
    metadata[name] = metadata[name].replace(study.profile_digest.encode(), b"0" * 64)
    pq.write_table(arrow.replace_schema_metadata(metadata), path)

    with pytest.raises(DataProblem, match="run `haemfed harmonize run` again") as refused:
        hospital.cohort(study)

    assert refused.value.exit_code == 17


def test_more_patients_than_the_public_cap_change_nothing_but_their_weight() -> None:
    study, identities = drafted(Terms(patient_cap=8))  # 30 patients at each site

    left = [each for each in run(study, identities) if each is not None]

    assert len({each.outcome.model.digest for each in left}) == 1
    assert left[0].outcome.trained.steps_done == 3


def test_patients_beyond_the_public_cap_weigh_as_much_as_it_lets_them() -> None:
    study, identities = drafted(Terms(patient_cap=1, noise=Noise.NONE))
    given: dict[Query, list[Float64]] = {}
    released: dict[Query, Float64] = {}

    def learn(study: Study, member: int, through: Any, _door: Door) -> Outcome:
        def noted(query: Query, contribution: Callable[[], Float64]) -> Float64:
            def computed() -> Float64:
                found = contribution()
                given.setdefault(query, []).append(found)
                return found

            released[query] = through(query, computed)
            return released[query]

        return survival_plan(spec_of(study), patients(study, member), patients(study, member + 100, 12), noted)

    run(study, identities, learn=learn)

    beyond = set()
    for query, parts in given.items():
        bound = query.sensitivity  # of one patient
        assert len(parts) == len(NAMES)
        beyond |= {query.kind for part in parts if np.abs(part).max() > bound}
        wanted = sum(np.clip(part, -bound, bound) for part in parts)
        np.testing.assert_allclose(released[query], wanted, atol=1e-4 * bound)
    assert beyond >= {"breslow", "concordance"}


def test_constants_beyond_those_of_the_study_are_refused_before_anybody_signs() -> None:
    study, _ = drafted(Terms())
    learning = study.learning
    finer = replace(preset("aml-small"), grid=(0.0, 10.0, *preset("aml-small").grid[1:])).to_json()
    wider = {**learning.preset, "grid": finer["grid"]}
    more = {**learning.preset, "steps": 4, "uploads": 5}
    for changed in (wider, more):
        other = msgspec.structs.replace(study, learning=msgspec.structs.replace(learning, preset=changed))
        with pytest.raises(StudyInvalid) as refused:
            check_plan(parse(SignedStudy(other).to_json(), "study.json").study)
        assert refused.value.exit_code == 12
    for cap, word in ((2**21 + 1, "patient cap"), (2**20, "sum of 5 sites with at most 1048576 patients each")):
        privacy = msgspec.structs.replace(study.privacy, patient_cap=cap)
        with pytest.raises(StudyInvalid, match=word):
            check_plan(msgspec.structs.replace(study, privacy=privacy))
    with pytest.raises(StudyInvalid, match=r"other|not the one"):
        check_plan(msgspec.structs.replace(study, stages=tuple(replaced(stage) for stage in study.stages)))
    first, *others = study.stages
    longer = msgspec.structs.replace(first, steps=first.steps + 1)
    another = msgspec.structs.replace(first, kind="sum")
    for stages in ((longer, *others), (another, *study.stages)):
        with pytest.raises(StudyInvalid, match="lists other stages than its model needs"):
            check_plan(msgspec.structs.replace(study, stages=stages))


def replaced(stage: Any) -> Any:
    return msgspec.structs.replace(stage, length=stage.length + 2) if stage.kind == "breslow" else stage
