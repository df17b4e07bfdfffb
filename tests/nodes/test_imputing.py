"""Federated imputation as a study's choice: drafted, signed, run through the door, reported."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from dp.queries import Account, Float64, Query
from harmonize.profile import load
from models import artefact
from models.plan import survival_plan
from nodes import imputing, showing
from nodes.accounts import Accounts
from nodes.approval import _facts
from nodes.door import Door
from nodes.drafting import check_plan
from nodes.errors import StudyInvalid
from nodes.protocol import TRAINING_SHARES, Terms, spec_of
from nodes.reporting import _leaves
from nodes.store import SiteStore
from nodes.study import Imputing, SignedStudy, Study, parse
from secagg.keys import Identity
from secagg.manifest import Noise
from tests.nodes import modes
from tests.nodes.modes import NAMES, Left, patients
from tests.nodes.modes import run as everybody
from tests.nodes.released import drafting
from tests.nodes.studies import NOW
from tests.nodes.test_study import changed

PROFILE = load("aml_core")
EVERYTHING = imputing.chosen(PROFILE, ["all"])


def drafted(imputation: Imputing | None, terms: Terms | None = None) -> tuple[Study, list[Identity]]:
    return modes.drafted(terms or Terms(), imputation=imputation)


# ---------------------------------------------------------------- what a study says


def test_a_study_with_imputation_sums_it_first_and_pays_for_it() -> None:
    study, _ = drafted(EVERYTHING)
    plain, _ = drafted(None)
    stage = study.stages[0]

    assert [each.kind for each in study.stages] == ["sum", *[each.kind for each in plain.stages]]
    assert (stage.account, stage.steps, stage.uploads) == ("training", 2, 2)
    assert stage.length == 1 + 4 + 10
    assert study.epsilon(Account.TRAINING) == pytest.approx(2.0, rel=1e-6)
    assert study.stages[-1].multiplier == plain.stages[-1].multiplier  # a holdout patient pays what he paid
    whole = study.mu_squared(Account.TRAINING)
    assert stage.mu_squared / whole == pytest.approx(0.10)
    for each in study.stages[1:]:
        if each.account == "training":
            assert each.mu_squared / whole == pytest.approx(0.9 * TRAINING_SHARES[each.kind])


def test_bounds_and_kinds_follow_from_the_profile() -> None:
    study, _ = drafted(EVERYTHING)
    asked = spec_of(study).imputation
    assert asked is not None

    age, sex, wbc, _ = asked.covariates
    assert (age.name, age.column, age.low, age.high, age.two_valued) == ("age", 0, -2.625, 1.875, False)
    assert (sex.name, sex.column, sex.low, sex.high, sex.two_valued) == ("sex", 1, -1.0, 1.0, True)
    assert (wbc.low, wbc.high) == (pytest.approx((0 - 2.8) / 1.35), pytest.approx((np.log1p(500) - 2.8) / 1.35))
    assert asked.multiplier == study.stages[0].multiplier
    assert asked.noise_inflation == spec_of(study).noise_inflation > 1
    assert asked.patient_cap == study.privacy.patient_cap
    assert asked.radius == EVERYTHING.radius == 2.0  # √(tr E xxᵀ) of four covariates of variance 1


def test_what_people_declare_decides_what_is_filled() -> None:
    declared = imputing.chosen(PROFILE, ["all"], never_measured=["wbc", "tpi"], cross_site=["tpi"])
    asked = spec_of(drafted(declared)[0]).imputation
    assert asked is not None

    assert asked.start.kept == ("wbc",)


def test_a_study_without_it_is_written_as_before() -> None:
    study, _ = drafted(None)
    document = json.loads(SignedStudy(study).to_json())

    assert set(document["study"]["learning"]) == {"preset", "features", "weights"}
    document["study"]["learning"]["imputation"] = None
    assert parse(json.dumps(document).encode(), "study.json").study.digest() == study.digest()
    assert spec_of(study).imputation is None


def test_what_is_imputed_is_signed() -> None:
    digests = {
        drafted(asked, Terms(noise=Noise.NONE))[0].run_id
        for asked in (EVERYTHING, msgspec.structs.replace(EVERYTHING, never_measured=("tpi",)))
    }
    study, _ = drafted(EVERYTHING)
    radius = changed(study, learning__imputation__radius=3.0)

    assert len(digests) == 2
    assert radius.digest() != study.digest()


def test_a_sites_policy_sees_that_it_is_asked_for_sums(tmp_path: Path) -> None:
    silent, _ = drafted(EVERYTHING, Terms(noise=Noise.NONE))

    with SiteStore(tmp_path / "site.sqlite3") as store:
        assert "sum" in _facts(silent, "alder", Accounts(store, lambda: NOW)).query_kinds


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["albumin"], "'albumin': profile 'aml_core' has no such variable; inputs are age, sex, wbc, tpi"),
        (["age", "all"], "'all': profile 'aml_core' has no such variable"),
        ([], "needs covariates"),
    ],
)
def test_names_that_cannot_be_imputed_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(StudyInvalid, match=said):
        imputing.chosen(PROFILE, names)


def test_a_variable_that_models_do_not_see_is_refused_by_another_word() -> None:
    profile = load("mds")
    hidden = next(name for name in profile.names if name not in {each.name for each in profile.inputs})

    with pytest.raises(StudyInvalid, match="gives models no number of it"):
        imputing.chosen(profile, [hidden])


def test_names_keep_the_profiles_order() -> None:
    assert imputing.chosen(PROFILE, ["wbc", "age"]).covariates == ("age", "wbc")
    assert imputing.chosen(PROFILE, ["wbc", "age"]).radius == 1.41


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"covariates": ()}, "covariates is empty"),
        ({"covariates": ("age", "age")}, "covariates names something twice"),
        ({"covariates": ("age", "hb")}, "covariates names hb, which features does not"),
        ({"never_measured": ("hb",)}, "never_measured names hb, which covariates does not"),
        ({"never_measured": ("wbc",), "cross_site": ("tpi",)}, "cross_site names tpi, which never_measured does not"),
        ({"rounds": 0}, "rounds 0 is not in 1"),
        ({"rounds": 101}, "rounds 101 is not in 1"),
        ({"radius": 0.0}, "radius 0 must be above 0"),
        ({"radius": float("nan")}, "radius nan must be above 0"),
    ],
)
def test_an_imputation_that_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    study, _ = drafted(EVERYTHING)
    wrong = msgspec.structs.replace(EVERYTHING, **changes)
    learning = msgspec.structs.replace(study.learning, imputation=wrong)

    with pytest.raises(StudyInvalid, match=said):
        drafted(wrong)
    if changes.get("radius", 0.0) >= 0:  # JSON has no nan
        with pytest.raises(StudyInvalid, match=said):
            parse(SignedStudy(msgspec.structs.replace(study, learning=learning)).to_json(), "study.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning__imputation": None}, "lists other stages than its model needs"),
        ({"learning__imputation__rounds": 1}, "lists other stages than its model needs"),
        ({"learning__imputation__rounds": 3}, "query 'sum' number 2 is not the one"),
        ({"learning__imputation__covariates": ["age", "wbc"]}, "query 'sum' number 0 is not the one"),
        ({"stages__0__sensitivity": 1.0}, "query 'sum' number 0 is not the one"),
        ({"learning__imputation__radius": 1e9}, "radius between"),
    ],
)
def test_a_study_whose_stages_are_not_its_imputations_is_refused(changes: dict[str, object], said: str) -> None:
    study, _ = drafted(EVERYTHING)

    with pytest.raises(StudyInvalid, match=said):
        check_plan(changed(study, **changes))


def test_what_fills_the_gaps_is_shown_before_signing() -> None:
    asked = msgspec.structs.replace(EVERYTHING, never_measured=("wbc", "tpi"), cross_site=("tpi",))
    lines = "\n".join(showing.terms(drafted(asked)[0]))

    assert "4 covariates are imputed from each other by 2 released sums, radius 2: age, sex, wbc, tpi" in lines
    assert "imputed nowhere: wbc\n" in lines
    assert "imputed there from the others' patients: tpi\n" in lines
    assert "filled by the profile's centre beside a mask" in "\n".join(showing.terms(drafted(None)[0]))


def test_every_field_is_in_the_reference() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "study.md").read_text()

    assert all(f"| `{field}` |" in text for field in Imputing.__struct_fields__)


# ---------------------------------------------------------------- through the door


@pytest.fixture(scope="module")
def ran() -> tuple[Study, list[Left]]:
    """A whole federation with hardly any noise, so that there is something to be seen."""
    study, identities = drafted(EVERYTHING, Terms(epsilon=1e4, holdout_epsilon=1e4, patient_cap=64))
    left = [each for each in everybody(study, identities) if each is not None]
    assert len(left) == len(NAMES)
    return study, left


def test_every_site_ends_with_the_same_bits_and_completes_alike(ran: tuple[Study, list[Left]]) -> None:
    study, left = ran

    assert len({each.outcome.model.digest for each in left}) == 1
    files = {artefact.to_bytes(each.outcome.model, card()) for each in left}
    assert len(files) == 1
    model, _ = artefact.from_bytes(files.pop())
    assert model.imputation is not None
    assert model.features == study.learning.features
    data = patients(study, 1)
    done = model.imputation.of(data)
    assert done.observed.all()
    times = np.array([200.0, 900.0])
    assert np.array_equal(model.survival(data.x, data.observed, times), model.survival(done.x, done.observed, times))
    for each in left:
        assert each.outcome.imputed == 2
        assert [query.kind for query in each.records.queries][:5] == ["sum"] * 2 + ["gradient"] * 3
        assert all(study.stage_of(query) for query in each.records.queries)


def card() -> dict[str, object]:
    return dict.fromkeys(artefact.REQUIRED_CARD, "")


def test_a_site_that_starts_again_replays_its_own_records(ran: tuple[Study, list[Left]]) -> None:
    study, left = ran
    kept = left[0].records
    client = SimpleNamespace(sums=len(kept.sums), admit=lambda _number, _roster: None)
    door = Door(study, cast("Any", client), cast("Any", None), kept, noise_secret=bytes(32), kept=len(kept.sums))

    def never(query: Query, _contribution: object) -> Float64:
        def computed() -> Float64:
            raise AssertionError(query.kind)

        return door(query, computed)

    nobody = patients(study, 1, 0)
    back = survival_plan(spec_of(study), nobody, nobody, never)

    assert back.model.digest == left[0].outcome.model.digest
    assert back.imputed == 2


# ---------------------------------------------------------------- reported


def test_the_report_names_every_stage_of_it() -> None:
    study, _ = drafted(EVERYTHING)
    leaves = {stage.kind: _leaves(study, stage) for stage in study.stages}

    assert leaves["sum"] == "noisy counts, means and products of covariates; the imputation model"
    assert len(leaves) == len(study.stages) == 7


def test_drafted_at_the_keyboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    haemfed, basis = drafting(tmp_path, NAMES, capsys, monkeypatch)

    code, _, said = haemfed(*basis, "--impute", "wbc,age,tpi", "--never-measured", "tpi,wbc", "--cross-site", "wbc")
    assert code == 0, said
    asked = parse(Path("study.json").read_bytes(), "study.json").study.learning.imputation
    assert asked == Imputing(("age", "wbc", "tpi"), 2, 1.73, ("tpi", "wbc"), ("wbc",))
    assert "3 covariates are imputed" in haemfed("study", "show", "study.json")[1]
    for arguments, words in (
        (("--impute", "albumin"), "cannot impute 'albumin': profile 'aml_core' has no such variable"),
        (("--impute", "age", "--never-measured", "wbc"), "never_measured names wbc, which covariates does not"),
        (("--never-measured", "wbc"), "name covariates with --impute"),
        (("--impute", ""), "imputation needs covariates"),
    ):
        code, _, said = haemfed(*basis, *arguments)
        assert code == 12, (code, said)
        assert words in said
