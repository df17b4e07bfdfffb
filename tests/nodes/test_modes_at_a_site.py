"""Real sites with ledger, policy and files: what each kind of study leaves, is charged and is called."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audits import certificate, policy
from dp.queries import Account
from models import artefact
from models.presets import PRESETS
from nodes import accounts as ledgers
from nodes import files, showing
from nodes import study as studies
from nodes.accounts import Accounts
from nodes.approval import check_study
from nodes.auditing import self_check
from nodes.config import SiteConfig
from nodes.daemon import LOCAL
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import PRESET, Consortium, found
from nodes.enrolment import create_identity, load_identity
from nodes.errors import PolicyRefusal, StudyInvalid
from nodes.places import Places
from nodes.protocol import Terms
from nodes.reporting import certify, report_without_noise
from nodes.results import load_results
from nodes.store import SiteStore
from nodes.study import Study
from secagg.lanes import WIDE
from secagg.manifest import Mode, Noise
from tests.nodes.test_endings import World

pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")
NOW = dt.datetime.now(dt.UTC)
RDP: dict[str, Any] = {"budget": "RDP", "order": 10, "patient_cap": 512}


@pytest.fixture
def founded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Terms], World]]:
    made: list[World] = []
    monkeypatch.setattr("tests.nodes.test_endings.PATIENCE", 120.0)  # four sites build references on one processor

    def make(terms: Terms) -> World:
        preset = replace(PRESETS[PRESET], steps=3, uploads=5)
        consortium: Consortium = found(tmp_path / "new", hospitals(4), 1, terms, 0.0, NOW, preset=preset)
        made.append(World(consortium, tmp_path / "root"))
        return made[-1]

    yield make
    for world in made:
        world.coordinator.close()
        world.store.close()


def complete(world: World) -> None:
    ended = world.all()
    assert all(getattr(each, "study", None) == world.study for each in ended.values()), ended
    assert len({world.model(name) for name in world.names}) == 1


def certified(world: World, name: str, keys: Path) -> tuple[certificate.Certificate, str]:
    config, limits = world.config(name), policy.load("research")
    places = Places(config.paths)
    files.write(places.run(world.study.run_id) / LOCAL, b"null", private=True)
    data, model, _ = load_results(places, world.study)
    auditor, officer = keys / "auditor.pem", keys / "officer.pem"
    trusted = certificate.TrustedKeys((create_identity(auditor).public,), (create_identity(officer).public,))
    done = certify(
        config,
        world.study,
        limits,
        self_check(world.study, model, limits),
        auditor=auditor,
        officer=officer,
        now=NOW,
    )
    checked = certificate.verify(data, files.read(done.certificate), trusted, NOW.date())
    return checked, done.report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "terms",
    [
        Terms(**RDP, sampling_probability=0.5),
        Terms(**RDP, lane_bits=16),
        Terms(**RDP, lane_bits=21, mode=Mode.B),
        Terms(noise=Noise.LOCAL, hospitals_per_patient=2),
        Terms(search=studies.Search("geometric", 4.0)),
    ],
    ids=["sampled", "narrow", "narrow, mode B", "local", "one of a search"],
)
def test_a_study_is_charged_certified_and_called_what_it_is(
    founded: Callable[[Terms], World], terms: Terms, tmp_path: Path
) -> None:
    world = founded(terms)

    complete(world)

    study, name = world.study, world.names[0]
    accounts = world.accounts(name)
    for account in Account:
        rule = accounts.filter(account)
        assert rule == study.filter(account)
        charged = accounts.units_of(study.run_id, account)
        assert 0 < charged <= study.units(account)
    events = {upload.event for upload in accounts.uploads_of(study.run_id)}
    # On a busy machine a round may be lost, and with it a stage's only upload.
    assert study.event(study.stages[0]) in events
    assert events <= {study.event(stage) for stage in study.stages}

    checked, page = certified(world, name, tmp_path)
    claim = checked.statement.predicate.evidence.claims[0]
    outcomes = {reason.rule: reason for reason in checked.statement.predicate.verdict.reasons}
    assert outcomes["ledger"].outcome == "PASS", outcomes["ledger"]
    assert outcomes["mechanism"].outcome == "PASS", outcomes["mechanism"]
    assert claim.noise == study.protection
    assert str(study.filter(Account.TRAINING)) in page
    assert study.protection in page
    if terms.budget == "RDP":
        assert claim.mu is None
        assert claim.order == 10
        assert claim.divergence == pytest.approx(study.units(Account.TRAINING) / 2**64)
        assert "where there is no μ" in page
    if terms.noise is Noise.LOCAL:
        assert "each hospital adds the whole noise" in page
        assert "A patient of 2 hospitals" in page
    if terms.search is not None:
        assert "together ε = " in page
    _, card = artefact.from_bytes(world.model(name))
    assert card["privacy"]["protection"] == study.protection
    lines = "\n".join(showing.terms(study))
    assert study.protection in lines
    assert ("lanes of" in lines) is (terms.lane_bits != WIDE)


@pytest.mark.slow
def test_a_study_without_noise_is_called_unprotected_everywhere(founded: Callable[[Terms], World]) -> None:
    world = founded(Terms(noise=Noise.NONE))

    complete(world)

    study, name = world.study, world.names[0]
    config, accounts = world.config(name), world.accounts(name)
    assert accounts.state.unbounded == {Account.TRAINING, Account.HOLDOUT}
    assert all(accounts.units_of(study.run_id, account) == 0 for account in Account)
    assert all("not bounded" in showing.row(study, stage) for stage in study.stages)
    assert any("not differentially private" in line for line in showing.terms(study))
    _, card = artefact.from_bytes(world.model(name))
    assert card["privacy"]["epsilon"] == "not bounded"
    assert card["privacy"]["protection"].startswith("not differentially private")
    places = Places(config.paths)
    files.write(places.run(study.run_id) / LOCAL, b"null", private=True)
    with pytest.raises(StudyInvalid, match="claims nothing that a certificate could attest"):
        certify(config, study, policy.load("research"), Any, auditor=Path(), officer=Path(), now=NOW)  # type: ignore[arg-type]

    page = report_without_noise(config, study, now=NOW).read_text()

    assert "Not differentially private" in page
    assert "not bounded" in page
    assert not list(places.run(study.run_id).glob("*.dsse.json"))
    body = json.loads((places.run(study.run_id) / "dpo-report.json").read_text())
    assert {line["stage"]: line["uploads"] for line in body["sums"]}["gradient"] == 3

    again = replace_run(study)
    with pytest.raises(PolicyRefusal, match="has taken part in such a run before"):
        check_study(again, config, load_identity(config.paths.identity), accounts)


@pytest.mark.slow
def test_a_study_without_noise_needs_its_own_yes(founded: Callable[[Terms], World]) -> None:
    world = founded(Terms(noise=Noise.NONE))
    config = world.config(world.names[0])
    allowed = config.paths.policy.read_text()
    assert "allow_without_dp = true" in allowed
    files.write(config.paths.policy, allowed.replace("allow_without_dp = true\n", "").encode())

    with pytest.raises(PolicyRefusal, match="allow_without_dp is not true in the policy"):
        check_study(world.study, config, load_identity(config.paths.identity), fresh(config))


def fresh(config: SiteConfig) -> Accounts:
    return ledgers.of(config, SiteStore(config.paths.database), lambda: NOW)


def replace_run(study: Study) -> Study:
    import msgspec

    assert base64.b64decode(study.learning.weights)
    return msgspec.structs.replace(study, run_number=study.run_number + 1)
