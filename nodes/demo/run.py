"""The demo from beginning to end; each stage says what it does in one line and stops with one line if it cannot."""

from __future__ import annotations

import datetime as dt
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from audits import policy as audit_policy
from audits.report_data import epsilon_views
from audits.verdict import Outcome
from dp.queries import Account
from harmonize.split import ONE_IN
from models.predict import SurvivalModel
from nodes.auditing import self_check
from nodes.cohort import Cohort, load_cohort
from nodes.demo.cohort import hospitals
from nodes.demo.consortium import Consortium, found
from nodes.demo.incidents import Script, watch
from nodes.demo.oracles import exact_c_index, oracles
from nodes.demo.outcome import Checked, compare
from nodes.demo.processes import Fleet, free_port
from nodes.enrolment import create_identity
from nodes.errors import InternalError, StorageProblem
from nodes.evaluated import scores
from nodes.files import make_private_directory
from nodes.places import Places, load_secrets
from nodes.protocol import Terms, spec_of
from nodes.reporting import Certified, certify
from nodes.results import MODEL, load_results
from secagg.manifest import Mode

_MARKER = ".haemfed-demo"


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Args:
        folder: where everything goes; an earlier demo in it is replaced, anything else is refused.
        hospitals: 4 to 16.
        epsilon: total ε of a training patient, and of a holdout patient.
        incidents: kill a hospital and the coordinator in the middle.
        seeds: noise seeds per oracle.
        pace: shortest time between rounds in seconds: six hospitals share one machine here.
        policy: audit policy.
        mode: how rounds open.
    """

    folder: Path
    hospitals: int
    epsilon: float
    incidents: bool
    seeds: int
    pace: float
    policy: str
    mode: Mode = Mode.A


def run(options: Options, console: Console) -> int:
    """Run the demo.

    Returns:
        0 if every stage held. An INCONCLUSIVE verdict is an outcome; a FAIL is not.

    Raises:
        NodeError: a stage did not hold; names it and the way out.
    """
    torch.set_num_threads(1)  # many small matrices: threads only wait for each other
    started = time.monotonic()
    stage = _Stages(console)
    root = options.folder.absolute()
    _prepare(root)
    now = dt.datetime.now(dt.UTC)

    with stage("Patients: LeukSurv, adults with AML in north-west England, split by district"):
        cohort = hospitals(options.hospitals)
    terms = _terms(options, sum(len(each) for each in cohort))
    with stage("Consortium: keys, certificates, pinned peers, tables, budgets, and a study that every site signs"):
        consortium = found(root, cohort, free_port(), terms, options.pace, now)
    _show_consortium(console, consortium)

    fleet = Fleet(consortium)
    script = Script(consortium.sites[2].hospital.name) if options.incidents else None
    with stage("Study: one coordinator and one daemon per hospital, mutual TLS over gRPC"):
        fleet.start()
        try:
            watch(fleet, script, console)
        finally:
            fleet.stop()
        checked = compare(consortium)
    _show_checked(console, consortium, checked)

    with stage("Evaluation: released numbers, and oracles that only this demo can compute"):
        _show_evaluation(console, consortium, options.seeds)
    with stage("Audit: self-check, attack, verdict, certificate, report"):
        certified = _certify(root, consortium, options.policy, now)
    return _finish(console, root, consortium, certified, time.monotonic() - started)


def _prepare(root: Path) -> None:
    if root.exists() and any(root.iterdir()):
        if not (root / _MARKER).exists():
            raise StorageProblem(
                f"{root}: not empty and not an earlier demo; nothing was changed, name another folder with --dir"
            )
        shutil.rmtree(root)
    make_private_directory(root)
    (root / _MARKER).touch()


def _terms(options: Options, patients: int) -> Terms:
    return Terms(
        epsilon=options.epsilon,
        holdout_epsilon=options.epsilon,
        declared_patients=float(round(patients * (ONE_IN - 1) / ONE_IN, -2)),
        # One slow laptop plays every hospital at once. In mode B a round waits so long for a hospital that was killed.
        deadline_seconds=90.0 if options.mode is Mode.A else 20.0,
        mode=options.mode,
    )


class _Stages:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        self._number += 1
        self._console.print(f"\n[bold]{self._number}. {title}[/]")
        begun = time.monotonic()
        yield
        self._console.print(f"   [dim]({time.monotonic() - begun:.0f} s)[/]")


def _show_consortium(console: Console, consortium: Consortium) -> None:
    table = Table("hospital", "size typed in", "source", "identity pinned by")
    for site, member in zip(consortium.sites, consortium.study.sites, strict=True):
        table.add_row(member.name, member.size_band, site.format, f"{len(consortium.sites) - 1} peers")
    console.print(table)
    study = consortium.study
    views = epsilon_views(
        math.sqrt(study.mu_squared(Account.TRAINING)),
        roster=len(study.sites),
        collusion=study.privacy.collusion,
        honest=study.manifest().honest(len(study.sites)),
    )
    console.print(f"   a training patient's whole loss in this study, δ = {study.privacy.delta:g}:")
    for view in views:
        console.print(f"     ε = {view.epsilon_5:.2f}  against {view.against[0].lower()}{view.against[1:]}")
    for account in Account:
        parts = [stage for stage in study.stages if stage.account == account]
        shares = ", ".join(f"{stage.kind} {stage.mu_squared / study.mu_squared(account):.0%}" for stage in parts)
        console.print(f"   μ² of a {account.value} patient: {shares}")


def _show_checked(console: Console, consortium: Consortium, checked: Checked) -> None:
    console.print(f"   model {checked.digest[:16]}… is bit-identical at all {len(consortium.sites)} hospitals")
    uploads = ", ".join(f"{name} {count}" for name, count in checked.uploads.items())
    console.print(f"   {checked.sums} sums in {checked.rounds} rounds; uploads in each ledger: {uploads}")


def _cohorts(consortium: Consortium) -> dict[str, Cohort]:
    cohorts = {}
    for site in consortium.sites:
        places = Places(site.config.paths)
        secrets = load_secrets(places)
        cohorts[site.hospital.name] = load_cohort(
            consortium.study, places.table(consortium.study.profile), secrets.split
        )
    return cohorts


def _show_evaluation(console: Console, consortium: Consortium, seeds: int) -> None:
    study = consortium.study
    cohorts = _cohorts(consortium)
    _, model, released = load_results(Places(consortium.sites[0].config.paths), study)
    if not isinstance(model, SurvivalModel):
        raise InternalError("the demonstration trains a survival model")
    table = Table("released through the door", "estimate", "95 % interval", "note")
    for score in scores(study, released):
        if score.estimate is None or score.low is None or score.high is None:
            table.add_row(score.name, "—", "—", score.note)
        else:
            table.add_row(score.name, f"{score.estimate:.3f}", f"{score.low:.3f} to {score.high:.3f}", score.note)
    console.print(table)
    table = Table("oracle (demo only: uses everybody's data)", "C-index", "± over seeds", "runs")
    table.add_row(
        "the released model, without evaluation noise",
        f"{exact_c_index(model, list(cohorts.values())):.3f}",
        "",
        "1",
    )
    uncounted = len(study.sites) - study.manifest().honest(len(study.sites))
    for row in oracles(spec_of(study), cohorts, uncounted, seeds):
        spread = f"{row.spread:.3f}" if row.runs > 1 else ""
        table.add_row(row.name, f"{row.mean:.3f}", spread, str(row.runs))
    console.print(table)


def _certify(root: Path, consortium: Consortium, policy_name: str, now: dt.datetime) -> dict[str, Certified]:
    policy = audit_policy.load(policy_name)
    auditor = root / "auditor.pem"
    create_identity(auditor)
    _, model, _ = load_results(Places(consortium.sites[0].config.paths), consortium.study)
    checked = self_check(consortium.study, model, policy)
    certified = {}
    for site in consortium.sites:
        officer = Places(site.config.paths).officer("dpo")
        create_identity(officer)
        certified[site.hospital.name] = certify(
            site.config, consortium.study, policy, checked, auditor=auditor, officer=officer, now=now
        )
    return certified


def _finish(
    console: Console, root: Path, consortium: Consortium, certified: dict[str, Certified], seconds: float
) -> int:
    first = certified[consortium.sites[0].hospital.name]
    outcomes = sorted({str(each.outcome) for each in certified.values()})
    console.print(f"\n[bold]Verdict: {', '.join(outcomes)}[/]  {first.headline}")
    table = Table("what", "where")
    model = Places(consortium.sites[0].config.paths).run(consortium.study.run_id) / MODEL
    table.add_row("certified model", str(model.relative_to(root)))
    table.add_row("certificate", str(first.certificate.relative_to(root)))
    for name, each in certified.items():
        table.add_row(f"DPO report of {name}", str(each.report.relative_to(root)))
    table.add_row("signed study", "study.json")
    console.print(table)
    site = consortium.sites[0].config_file
    console.print(f"Everything lies below {root}. Open a report in a browser, then try:")
    console.print(f"  haemfed budget show --config {site}", soft_wrap=True)
    console.print(f"  haemfed study show {root / 'study.json'}", soft_wrap=True)
    console.print(f"  haemfed model show {model}", soft_wrap=True)
    console.print(f"[dim]{seconds:.0f} s in total[/]")
    return 1 if any(each.outcome not in (Outcome.PASS, Outcome.INCONCLUSIVE) for each in certified.values()) else 0
