"""A site whose directory was restored between two studies: refused by name, recovered by a person, and back again.

Six sites with real ledgers and patients over gRPC and mutual TLS; and the file between the refusal and the recovery.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from dp.errors import ForkedLedger, LedgerCorrupt, RollbackDetected
from dp.witness import Statement
from models.presets import PRESETS
from nodes import accounts as ledgers
from nodes import rollback, tls
from nodes import study as studies
from nodes.cli import app
from nodes.coordinator import Coordinator
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import PRESET, Consortium, DemoSite, found
from nodes.errors import NodeError, StorageProblem
from nodes.protocol import Terms
from nodes.rpc_client import GrpcLink
from nodes.rpc_server import serve
from nodes.signing import approve_and_sign
from nodes.site import Finished, _require_no_objection, run_study
from nodes.store import CoordinatorStore, SiteStore
from nodes.study import Study
from nodes.witness_notes import STATEMENT
from nodes.witnessing import Objected
from secagg.errors import SecaggError
from tests.nodes.witnesses import IDENTITIES, NAMES, Ledger

NOW = dt.datetime.now(dt.UTC)


# ---- rollback.json


def objected(length: int, signer: int = 0, site: int = 0) -> Objected:
    statement = Ledger().grow(length).statement(NAMES[site])
    signature = IDENTITIES[signer].sign(STATEMENT, statement.encode())
    return Objected(statement, signature, ("site-1", "site-2"), RollbackDetected)


def read(path: Path) -> tuple[Statement, ...]:
    return rollback.read(path, NAMES[0], IDENTITIES[0].public)


def test_what_peers_hold_is_kept_over_several_starts(tmp_path: Path) -> None:
    path = tmp_path / rollback.NAME
    assert read(path) == ()
    rollback.add(path, [objected(3)])
    rollback.add(path, [objected(3), objected(5)])
    rollback.add(path, [objected(2)])

    assert {each.sequence for each in read(path)} == {1, 2, 4}
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["held"][0]["peers"] == ["site-1", "site-2"]


def test_what_this_site_signed_under_another_name_is_recovered_from(tmp_path: Path) -> None:
    path = tmp_path / rollback.NAME
    rollback.add(path, [objected(3, site=1)])
    assert [each.site for each in read(path)] == [NAMES[1]]


def test_what_this_site_did_not_sign_is_not_recovered_from(tmp_path: Path) -> None:
    path = tmp_path / rollback.NAME
    rollback.add(path, [objected(5), objected(3, signer=1)])

    with pytest.raises(StorageProblem, match="not what this site wrote; remove it"):
        read(path)


OTHER_FORMAT = '{"format": "haemfed/rollback/2", "held": []}'


@pytest.mark.parametrize("text", ["", "{}", "[]", OTHER_FORMAT, '{"held": 1}', "[" * 9999])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / rollback.NAME
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(StorageProblem, match=f"{path}: damaged; remove it"):
        read(path)
    with pytest.raises(StorageProblem):
        rollback.add(path, [objected(3)])


@pytest.mark.parametrize("line", [{}, {"statement": "AA==", "signature": "AA=="}, {"statement": "?", "signature": ""}])
def test_a_damaged_line_is_named(tmp_path: Path, line: dict[str, str]) -> None:
    path = tmp_path / rollback.NAME
    path.write_text(json.dumps({"format": "haemfed/rollback/1", "held": [line]}))
    path.chmod(0o600)

    with pytest.raises(StorageProblem, match="remove it"):
        read(path)


@pytest.mark.parametrize("unspent", [True, False])
def test_what_nobody_can_have_spent_returns_before_the_recovery(tmp_path: Path, unspent: bool) -> None:
    class Refused:
        objections = (objected(3),)

        def refusal(self) -> Exception:
            return ForkedLedger("another one")

    class Config:
        data_dir = tmp_path

    told: list[str] = []
    refused: Any = Refused()
    config: Any = Config()
    with pytest.raises(ForkedLedger):
        _require_no_objection(refused, config, unspent=lambda: unspent, give_back=lambda: told.append("closed"))
    assert told == ["closed"] * unspent
    assert len(read(tmp_path / rollback.NAME)) == 1
    refused.objections = ()
    _require_no_objection(refused, config, unspent=lambda: True, give_back=lambda: told.append("again"))
    assert "again" not in told


# ---- six hospitals

RESTORED = 2  # position of the site


class Hospitals:
    """A consortium that runs one study after the other."""

    def __init__(self, root: Path) -> None:
        preset = replace(PRESETS[PRESET], steps=1, uploads=3)
        self.consortium: Consortium = found(root, hospitals(6), 1, Terms(0.5, 1e-5, 0.5, 1e-5), 0.0, NOW, preset=preset)
        self.root = root
        self.told: list[tuple[str, dict[str, Any]]] = []
        for site in self.consortium.sites:
            policy = site.config.paths.policy
            policy.write_text(policy.read_text().replace("max_epsilon_total = 0.5", "max_epsilon_total = 9"))
            with SiteStore(site.config.paths.database) as store:
                books = ledgers.of(site.config, store, lambda: NOW)
                for account in ("training", "holdout"):
                    books.grant(account, 9.0, 1e-5)

    @property
    def restored(self) -> DemoSite:
        return self.consortium.sites[RESTORED]

    def sign(self, number: int) -> Study:
        """Have every site sign the study's next run."""
        study = msgspec.structs.replace(self.consortium.study, run_number=number)
        blank = self.root / f"study-{number}.json"
        blank.write_bytes(studies.SignedStudy(study).to_json())
        for site in self.consortium.sites:
            approve_and_sign(site.config, blank, site.folder / "next.json", NOW)
        return study

    def run(self, study: Study) -> dict[str, Finished | Exception | None]:
        """Run a study at all sites; an error is what the site ended with."""
        self.told.clear()
        credentials = tls.load_credentials(self.consortium.coordinator.paths, NOW)
        with CoordinatorStore(self.consortium.coordinator.database_url) as store:
            coordinator = Coordinator(
                study.manifest(),
                store,
                max_words=study.max_words,
                deadline=60.0,
                patience=60.0,
                notice=lambda event, fields: self.told.append((event, dict(fields))),
            )
            names = {site.index: site.name for site in study.sites}
            server, port = serve(coordinator, names, address="127.0.0.1:0", tls=credentials)
            try:
                with ThreadPoolExecutor(6) as pool:
                    runs = {
                        site.hospital.name: pool.submit(self._site, study, site, port) for site in self.consortium.sites
                    }
                    return {name: run.result() for name, run in runs.items()}
            finally:
                coordinator.close()
                server.stop(1.0).wait()

    def _site(self, study: Study, site: DemoSite, port: int) -> Finished | Exception | None:
        credentials = tls.load_credentials(site.config.paths, NOW)
        link = GrpcLink(f"127.0.0.1:{port}", credentials, max_words=study.max_words)
        nothing: Any = lambda *_: None  # noqa: E731
        try:
            return run_study(study, site.config, link, watch=nothing, deliver=nothing, delivered=lambda: False)
        except (NodeError, SecaggError, LedgerCorrupt) as error:
            return error


def all_complete(ended: dict[str, Any]) -> None:
    assert all(isinstance(each, Finished) for each in ended.values()), ended
    assert len({each.transcript for each in ended.values()}) == 1


@pytest.mark.slow
def test_a_directory_restored_between_two_studies(tmp_path: Path) -> None:
    pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")
    consortium = Hospitals(tmp_path / "root")
    site = consortium.restored
    backup = tmp_path / "backup"
    shutil.copytree(site.folder, backup)  # the whole machine: the anchor goes back as well
    all_complete(consortium.run(consortium.consortium.study))

    shutil.rmtree(site.folder)
    shutil.copytree(backup, site.folder)
    second = consortium.sign(2)
    ended = consortium.run(second)

    refused = ended.pop(site.hospital.name)
    # Its own new reservation stands where the peers have seen the lost one.
    assert isinstance(refused, ForkedLedger)
    with SiteStore(site.config.paths.database) as store:  # reserved by that very process, and nothing uploaded
        assert not ledgers.of(site.config, store, lambda: NOW).state.open_runs()
    others = ", ".join(sorted(ended))
    assert others in str(refused)
    assert str(refused).endswith("run: haemfed budget recover")
    all_complete(ended)  # without it
    index = second.site(site.hospital.name).index
    assert {fields["member"] for event, fields in consortium.told if event == "upload"} == set(range(1, 7)) - {index}
    assert (site.config.data_dir / rollback.NAME).exists()

    told = CliRunner().invoke(app, ["budget", "recover", "--config", str(site.config_file)])
    assert told.exit_code == 0, told.output
    assert not (site.config.data_dir / rollback.NAME).exists()
    with SiteStore(site.config.paths.database) as store:
        books = ledgers.of(site.config, store, lambda: NOW)
        assert not books.state.open_runs()
        for account in books.state.terms:  # all that was reserved for the study that it has forgotten
            assert books.state.committed_units(account) >= consortium.consortium.study.units(account)

        for account in ("training", "holdout"):  # a recovery leaves no grant standing
            books.grant(account, 9.0, 1e-5)

    all_complete(consortium.run(consortium.sign(3)))
