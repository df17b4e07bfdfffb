"""A study is what every site signed, to the byte, and nothing else runs."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path

import msgspec
import pytest

from dp import gdp
from dp.queries import Account
from models.plan import schedule
from nodes.accounts import Accounts
from nodes.approval import _facts
from nodes.drafting import check_plan
from nodes.errors import NotInRoster, StudyInvalid
from nodes.protocol import Terms, histogram_queries, spec_of
from nodes.store import SiteStore
from nodes.study import SignedStudy, Study, merge, parse, require_current, sign, validate
from secagg.keys import Identity
from secagg.manifest import Mode
from tests.nodes.studies import NAMES, NOW, make, signed_by_all


def test_signed_by_all_is_valid() -> None:
    study, identities = make()
    document = signed_by_all(study, identities).to_json()

    assert validate(parse(document, "study.json"), "study.json") == study


def test_unsigned_names_the_site_that_is_missing() -> None:
    study, identities = make()
    signed = signed_by_all(study, identities)
    signed = SignedStudy(study, tuple(entry for entry in signed.signatures if entry.site != "cedar"))

    with pytest.raises(StudyInvalid, match="not signed by 'cedar'"):
        validate(signed, "study.json")


@pytest.mark.parametrize("path", [["study", "privacy", "epsilon"], ["study", "federation", "deadline_seconds"]])
def test_edited_after_signing(path: list[str]) -> None:
    study, identities = make()
    document = json.loads(signed_by_all(study, identities).to_json())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] += 1.0

    with pytest.raises(StudyInvalid, match="edited after signing"):
        validate(parse(json.dumps(document).encode(), "study.json"), "study.json")


def test_every_field_changes_the_digest() -> None:
    study, _ = make()
    plain = msgspec.to_builtins(study)
    for field, value in plain.items():
        changed = value + "x" if isinstance(value, str) else value + 1 if isinstance(value, int) else None
        if changed is not None:
            other = msgspec.convert({**plain, field: changed}, Study)
            assert other.digest() != study.digest()
    assert msgspec.structs.replace(study, run_number=2).run_id != study.run_id


def test_expired() -> None:
    study, _ = make()
    require_current(study, NOW)

    with pytest.raises(StudyInvalid, match="expired on 2027-01-01"):
        require_current(study, dt.datetime(2027, 1, 2, tzinfo=dt.UTC))


def test_foreign_key_cannot_sign() -> None:
    study, _ = make()

    with pytest.raises(NotInRoster, match="another identity key for 'alder'"):
        sign(SignedStudy(study), "alder", Identity(bytes(32)))
    with pytest.raises(NotInRoster, match="'zelkova' is not on study"):
        sign(SignedStudy(study), "zelkova", Identity(bytes(32)))


def test_copies_of_two_studies_do_not_merge() -> None:
    (first, _), (second, _) = make(), make(Terms(epsilon=1.0))

    with pytest.raises(StudyInvalid, match="differ"):
        merge([SignedStudy(first), SignedStudy(second)])


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[1]", b'{"study": {"format": "other"}, "signatures": []}', b"\xff\xfe", b"{" * 100_000]
)
def test_not_a_study(document: bytes) -> None:
    with pytest.raises(StudyInvalid, match=r"study\.json"):
        parse(document, "study.json")


def test_unknown_field_is_refused() -> None:
    study, identities = make()
    document = json.loads(signed_by_all(study, identities).to_json())
    document["study"]["surprise"] = 1

    with pytest.raises(StudyInvalid, match="surprise"):
        parse(json.dumps(document).encode(), "study.json")


def test_all_uploads_together_cost_at_most_the_declared_budget() -> None:
    study, _ = make()
    for account, epsilon, delta in ((Account.TRAINING, 2.0, 1e-5), (Account.HOLDOUT, 2.0, 1e-5)):
        total = gdp.epsilon(math.sqrt(study.mu_squared(account)), delta)
        assert 0.99 * epsilon < total <= epsilon


def test_the_door_knows_exactly_the_signed_queries() -> None:
    study, _ = make()
    wanted = [*schedule(spec_of(study)), *histogram_queries(study)]
    for query in wanted:
        assert study.stage_of(query).kind == query.kind
    assert sum(stage.steps for stage in study.stages) == len(wanted)
    gradient = wanted[0]
    for change in ({"multiplier": gradient.multiplier / 2}, {"sensitivity": 9.0}, {"length": 3}, {"index": 60}):
        other = type(gradient)(**{**{f: getattr(gradient, f) for f in gradient.__dataclass_fields__}, **change})
        with pytest.raises(StudyInvalid, match="is not the one that study 'test' signed"):
            study.stage_of(other)


def test_there_are_round_numbers_for_every_upload_and_for_the_end() -> None:
    study, _ = make()
    assert study.manifest().max_rounds > sum(stage.uploads for stage in study.stages)
    assert all(stage.uploads >= stage.steps for stage in study.stages)


def test_names() -> None:
    study, _ = make()
    assert [site.name for site in study.sites] == list(NAMES)
    assert study.privacy.collusion == 1
    assert 2 * study.federation.minimum_roster > len(NAMES) + 1


def test_mode_b_counts_on_fewer_and_asks_for_more_sites() -> None:
    study, identities = make(Terms(mode=Mode.B))
    plain, _ = make()

    parsed = parse(signed_by_all(study, identities).to_json(), "study.json").study
    assert parsed == study
    manifest = study.manifest()
    assert (manifest.mode, manifest.threshold, manifest.honest(5)) == (Mode.B, 4, 3)
    assert plain.manifest().honest(5) == 4
    assert study.federation.minimum_roster == study.survivors_needed == study.fewest_in_a_sum == 4
    assert plain.fewest_in_a_sum == plain.federation.minimum_roster
    check_plan(study)


def test_a_roster_may_be_larger_than_what_must_survive_of_it(tmp_path: Path) -> None:
    study, _ = make(Terms(mode=Mode.B))
    everybody = changed(study, federation__minimum_roster=5)

    assert everybody.manifest().minimum_roster == 5
    assert everybody.fewest_in_a_sum == 4
    with SiteStore(tmp_path / "site.sqlite3") as store:
        facts = _facts(everybody, "alder", Accounts(store, lambda: NOW))
    assert facts.minimum_roster == 4  # what a site's policy is held against


def test_released_intervals_allow_for_the_most_noise_that_a_sum_may_hold() -> None:
    study, _ = make()
    recoverable, _ = make(Terms(mode=Mode.B))

    assert spec_of(study).noise_inflation == pytest.approx(math.sqrt(4 / 3))  # at the smallest roster
    assert spec_of(recoverable).noise_inflation == pytest.approx(math.sqrt(5 / 3))  # when everybody survives


def test_the_mode_is_signed() -> None:
    study, identities = make()
    document = json.loads(signed_by_all(study, identities).to_json())
    assert document["study"]["federation"]["mode"] == "A"
    del document["study"]["federation"]["mode"], document["study"]["federation"]["lane_bits"]
    assert validate(parse(json.dumps(document).encode(), "study.json"), "study.json") == study
    document["study"]["federation"]["mode"] = "B"

    with pytest.raises(StudyInvalid, match="edited after signing"):
        validate(parse(json.dumps(document).encode(), "study.json"), "study.json")


def test_there_is_no_third_mode() -> None:
    study, _ = make()
    document = json.loads(SignedStudy(study).to_json())
    document["study"]["federation"]["mode"] = "C"

    with pytest.raises(StudyInvalid, match=r"Invalid enum value 'C'.*federation\.mode"):
        parse(json.dumps(document).encode(), "study.json")


def test_an_impossible_roster_is_refused_before_anybody_signs_it() -> None:
    study, _ = make()

    with pytest.raises(StudyInvalid, match="forked histories"):
        check_plan(changed(study, federation__minimum_roster=3))


def test_every_field_is_in_the_reference() -> None:
    from nodes.study import Federation, Learning, Privacy, Site, Stage

    text = (Path(__file__).parents[2] / "docs" / "reference" / "study.md").read_text()
    for part, prefix in ((Study, ""), (Learning, "learning."), (Privacy, "privacy."), (Federation, "federation.")):
        for field in part.__struct_fields__:
            assert f"`{prefix}{field}" in text, field
    for part in (Site, Stage):
        for field in part.__struct_fields__:
            assert f"`{field}`" in text, field


def changed(study: Study, **changes: object) -> Study:
    """The study with other values at dotted paths (`__` for a dot, `stages__0__length` for a list)."""
    plain = json.loads(msgspec.json.encode(study))
    for path, value in changes.items():
        place = plain
        *steps, last = path.split("__")
        for step in steps:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    return msgspec.convert(plain, Study)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning__preset": {"a": 1}},
        {"learning__weights": "%%%"},
        {"learning__weights": "AAAA"},
        {"stages__0__length": 7},
        {"stages__0__sensitivity": 2.0},
        {"stages__0__steps": 59},
        {"privacy__patient_cap": 2**40},
        {"learning__features": ["age"]},
    ],
)
def test_a_study_that_could_not_run_is_refused_before_anybody_signs_it(changes: dict[str, object]) -> None:
    study, _ = make()
    check_plan(study)

    with pytest.raises(StudyInvalid):
        check_plan(changed(study, **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy__epsilon": 0.01}, "it declares ε = 0.01 for a training patient"),
        ({"privacy__holdout_epsilon": 1.9}, "for a holdout patient"),
        ({"privacy__delta": 0.0}, "delta must be above 0"),
        ({"privacy__delta": 7.0}, "delta must be above 0"),
        ({"privacy__epsilon": 0.0}, "epsilon is 0 and must be above 0"),
        ({"privacy__holdout_epsilon": -2.0}, "holdout_epsilon is -2 and must be above 0"),
        ({"privacy__order": 8}, "order 8: a budget of the kind GDP has none"),
        ({"privacy__budget": "RDP"}, "order 0: .* from 2 to 256"),
        ({"privacy__budget": "RDP", "privacy__order": 2}, "declares ε = 2 .* add up to 1[0-9]"),
        ({"privacy__noise": "none"}, "epsilon, delta, holdout_epsilon and holdout_delta must be 0"),
        ({"privacy__hospitals_per_patient": 0}, "hospitals_per_patient 0"),
        ({"privacy__search": {"law": "uniform", "trials": 8.0}}, "'uniform' is none of geometric, poisson, logarit"),
        ({"privacy__search": {"law": "poisson", "trials": 1.0}}, "more than 1 and at most 1000 runs"),
        ({"stages__0__sampling_probability": 0.5}, "only a budget of the kind RDP can pay"),
        ({"stages__0__sampling_probability": 0.0}, "not above 0 and at most 1"),
        ({"stages__1__sampling_probability": 0.5}, "only training can"),
        ({"stages__0__multiplier": 0.0}, "'gradient' has no noise"),
        ({"stages__0__steps": 100}, "wants 100 sums with 66 uploads"),
        ({"federation__deadline_seconds": -1.0}, "deadline_seconds"),
        (
            {"federation__mode": "B", "federation__minimum_roster": 3},
            "3 is too small for mode B: .* if 4 of the 5 sites",
        ),
        ({"federation__lane_bits": 16}, "lane_bits 16: .* only a budget of the kind RDP can pay"),
        ({"not_after": "next year"}, "not_after"),
        ({"not_after": "2030-01-01"}, "time zone"),
        ({"stages__0__account": "trainig"}, "does not exist"),
        ({"stages__1__uploads": 0}, "wants 1 sums with 0 uploads"),
    ],
)
def test_a_study_that_contradicts_itself_is_not_even_read(changes: dict[str, object], said: str) -> None:
    study, _ = make()

    with pytest.raises(StudyInvalid, match=said):
        parse(SignedStudy(changed(study, **changes)).to_json(), "study.json")
