"""Certificate and DPO report of one run at one site, from its own records."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audits import certificate, report, unprotected, verdict
from audits import report_data as data
from audits.policy import Policy
from dp.budget import BudgetKind
from dp.entries import Plain
from dp.events import UNIT_BITS
from dp.queries import Account
from harmonize.modalities import listed
from models.generators.file import StoredGenerator
from models.predict import SurvivalModel
from nodes import columns, files, plans
from nodes.accounts import Accounts, of
from nodes.auditing import SelfCheck, releasable
from nodes.cohort import study_profile
from nodes.config import SiteConfig
from nodes.daemon import LOCAL
from nodes.enrolment import load_identity
from nodes.errors import StudyInvalid
from nodes.evaluated import scores
from nodes.guarantees import accounting, coalitions_of, epsilon_views_of
from nodes.places import Places
from nodes.results import MODEL, Released, load_results, tool
from nodes.store import SiteStore
from nodes.study import Stage, Study
from secagg.manifest import Noise

CERTIFICATE = "certificate.dsse.json"
REPORT = "dpo-report.html"

_LEAVES = {
    "sum": "noisy counts, means and products of covariates; the imputation model",
    "histogram": "noisy counts of each column's levels; how often each occurs",
    "marginals": "noisy counts of pairs of columns; the network",
    "mixture": "noisy sums over places in latent space; the mixture",
    "gradient": "noisy sums of clipped gradients; the model",
    "update": "noisy sums of what local steps did to the weights; the model",
    "newton": "noisy sums of partial likelihoods, their slopes and curvatures; the model",
    "breslow": "noisy counts and expected deaths; the model's baseline",
    "concordance": "noisy concordance sums; the C-index",
    "calibration": "noisy calibration counts",
    "survival-holdout": "noisy counts of deaths and of ends of follow-up by interval; the censoring curve",
    "brier": "noisy sum of squared errors; the Brier score",
    "auc": "noisy counts by predicted risk of those who died and who lived; the AUC",
    "likelihood": "noisy sum of log-likelihoods",
    "score-histogram-members": "noisy histogram of attack scores, training patients",
    "score-histogram-nonmembers": "noisy histogram of attack scores, holdout patients",
}
_OF_GENERATORS = {"sum": "noisy counts and products of columns; the network"}
_DELTA_WHY = (
    "The chance that the guarantee fails outright. It is far below one in the number of patients, so that no single "
    "patient can be the expected victim."
)


@dataclass(frozen=True)
class Certified:
    """What was written.

    Args:
        outcome: PASS, FAIL(…), INCONCLUSIVE or WITHHELD.
        headline: the verdict in one sentence.
        certificate: file.
        report: file.
    """

    outcome: verdict.Outcome
    headline: str
    certificate: Path
    report: Path


def certify(
    config: SiteConfig,
    study: Study,
    policy: Policy,
    checked: SelfCheck,
    *,
    auditor: Path,
    officer: Path,
    now: dt.datetime,
) -> Certified:
    """Judge a finished run, sign the certificate with both keys, verify it, and write the report.

    Args:
        config: the site.
        study: the finished study.
        policy: thresholds.
        checked: self-check on data without patients.
        auditor: private key file of the auditor.
        officer: private key file of this site's data protection officer.
        now: time of issue.

    Raises:
        StudyInvalid: a study without noise claims nothing; `report_without_noise` is for it.
        NodeError, AuditError: a file is missing or damaged, or a signature does not verify.
    """
    if study.privacy.noise is Noise.NONE:
        raise StudyInvalid(f"study {study.name!r} has no noise: it claims nothing that a certificate could attest")
    places = Places(config.paths)
    folder = places.run(study.run_id)
    artefact, model, released = load_results(places, study)
    with SiteStore(config.paths.database) as store:
        accounts = of(config, store, lambda: now)
    evidence = releasable(study, model, released, accounts, policy, checked)
    decided = verdict.decide(evidence, policy)
    facts = _facts(study, model, released, accounts)
    statement = certificate.statement(
        artefact, MODEL, facts=facts, evidence=evidence, verdict=decided, policy=policy, issued=now.date()
    )
    signers = load_identity(auditor), load_identity(officer)
    trusted = certificate.TrustedKeys((signers[0].public,), (signers[1].public,))
    keys = [Ed25519PrivateKey.from_private_bytes(signer.seed) for signer in signers]
    envelope = certificate.sign(statement, keys[0])
    envelope = certificate.cosign(envelope, keys[1], artefact=artefact, trusted=trusted, at=now.date())
    certificate.verify(artefact, envelope, trusted, now.date())
    files.write(folder / CERTIFICATE, envelope)
    note = data.CertificateNote(
        CERTIFICATE,
        hashlib.sha256(envelope).hexdigest(),
        statement.predicate.issued,
        statement.predicate.expires,
    )
    page = _report(config, study, released, accounts, evidence, decided, note, artefact, now)
    files.write(folder / REPORT, report.render_html(page).encode(), private=True)
    files.write(folder / "dpo-report.json", report.to_json(page), private=True)
    return Certified(decided.outcome, decided.headline(), folder / CERTIFICATE, folder / REPORT)


def report_without_noise(config: SiteConfig, study: Study, *, now: dt.datetime) -> Path:
    """Write the report on a finished run without noise; there is no certificate of it.

    Raises:
        NodeError: a file is missing or damaged, or this version ships another profile than the study names.
    """
    places = Places(config.paths)
    folder = places.run(study.run_id)
    artefact, _, released = load_results(places, study)
    with SiteStore(config.paths.database) as store:
        accounts = of(config, store, lambda: now)
    sent = Counter(
        upload.release
        for upload in (Plain.parse(entry.body) for entry in accounts.history if entry.kind == Plain.KIND)
        if upload.run == study.run_id.hex()
    )
    page = unprotected.UnprotectedReport(
        site=config.name,
        generated=now.date().isoformat(),
        software=tool(),
        study=_study(study, released, artefact, sent[plans.main_stage(study).kind]),
        sums=tuple(
            unprotected.ExactSums(
                stage.kind,
                stage.account,
                sent[stage.kind],
                released.completed.get(stage.kind, 0),
                _leaves(study, stage).replace("noisy ", "exact "),
            )
            for stage in study.stages
        ),
        scores=scores(study, released),
        local=_local(places, study),
        entries=accounts.entries,
        head=accounts.head,
    )
    files.write(folder / REPORT, unprotected.render_html(page).encode(), private=True)
    files.write(folder / "dpo-report.json", unprotected.to_json(page), private=True)
    return folder / REPORT


def _local(places: Places, study: Study) -> data.LocalFindings | None:
    return msgspec.json.decode(files.read(places.run(study.run_id) / LOCAL), type=data.LocalFindings | None)


def _leaves(study: Study, stage: Stage) -> str:
    """What leaves in a stage, and what is made of it."""
    known = _LEAVES | _OF_GENERATORS if plans.is_generator(study) else _LEAVES
    return known[stage.kind]


def _facts(
    study: Study, model: SurvivalModel | StoredGenerator, released: Released, accounts: Accounts
) -> certificate.Facts:
    stage = plans.main_stage(study)
    return certificate.Facts(
        study=study.digest().hex(),
        study_name=study.name,
        run=study.run_id.hex(),
        model_digest=model.digest,
        roster=released.largest_roster,
        collusion=study.privacy.collusion,
        uploads=sum(upload.event.kind == stage.kind for upload in accounts.uploads_of(study.run_id)),
        uploads_reserved=stage.uploads,
        steps=released.completed.get(stage.kind, 0),
        tool=tool(),
    )


def _report(
    config: SiteConfig,
    study: Study,
    released: Released,
    accounts: Accounts,
    evidence: verdict.ReleasableEvidence,
    decided: verdict.Verdict,
    note: data.CertificateNote,
    artefact: bytes,
    now: dt.datetime,
) -> data.ReportData:
    views = {account: epsilon_views_of(study, account) for account in Account}
    charged = Counter(upload.event.kind for upload in accounts.uploads_of(study.run_id))
    return data.ReportData(
        site=config.name,
        generated=now.date().isoformat(),
        software=tool(),
        study=_study(study, released, artefact, charged[plans.main_stage(study).kind]),
        verdict=decided,
        certificate=note,
        evidence=evidence,
        delta=study.privacy.delta,
        delta_why=_DELTA_WHY,
        budgets=tuple(_budget(study, accounts, account) for account in Account),
        runs=tuple(_line(study, stage, charged[stage.kind], released) for stage in study.stages),
        training_views=views[Account.TRAINING],
        holdout_views=views[Account.HOLDOUT],
        accounting=tuple(accounting(study, account) for account in Account),
        scores=scores(study, released),
        local=_local(Places(config.paths), study),
        coalitions=coalitions_of(study),
    )


def _study(study: Study, released: Released, artefact: bytes, uploads: int) -> data.Study:
    stage = plans.main_stage(study)
    return data.Study(
        name=study.name,
        digest=study.digest().hex(),
        purpose=study.purpose,
        legal_basis="",
        profile=f"{study.profile}, digest {study.profile_digest[:16]}",
        columns=_columns(study),
        model=plans.title(study),
        artefact=MODEL,
        artefact_sha256=hashlib.sha256(artefact).hexdigest(),
        recipients="the participating hospitals",
        sites=tuple(site.name for site in study.sites),
        collusion=study.privacy.collusion,
        minimum_roster=study.fewest_in_a_sum,
        steps_planned=stage.steps,
        steps_completed=released.completed.get(stage.kind, 0),
        uploads_reserved=stage.uploads,
        uploads=uploads,
    )


def _columns(study: Study) -> tuple[data.ColumnGroup, ...]:
    """What the study reads, by examination; a vector has one name for all its numbers."""
    found = columns.named(study_profile(study), study.learning.features)
    return tuple(
        data.ColumnGroup(each.name, len(each.columns), (listed(each.columns),) if each.vector else each.columns)
        for each in found.modalities
    )


def _budget(study: Study, accounts: Accounts, account: Account) -> data.AccountBudget:
    state = accounts.state
    budget = state.budgets.get(account)
    return data.AccountBudget(
        account=account.value,
        delta=budget.delta if budget is not None else study.delta(account),
        granted=budget.units / (1 << UNIT_BITS) if budget is not None else 0.0,
        spent=state.spent(account),
        reserved=state.reserved(account),
        this_study=accounts.spent_by(study.run_id, account),
        order=accounts.filter(account).order,
        bounded=account not in state.unbounded,
    )


def _line(study: Study, stage: Stage, uploads: int, released: Released) -> data.RunLine:
    rule = study.filter(Account(stage.account))
    cost = uploads * rule.units(study.event(stage))
    return data.RunLine(
        run=study.run_id.hex()[:8],
        stage=stage.kind,
        account=stage.account,
        uploads=uploads,
        completed=released.completed.get(stage.kind, 0),
        multiplier=stage.multiplier,
        mu=math.sqrt(uploads) / stage.multiplier if rule.kind is BudgetKind.GDP else None,
        epsilon_5=rule.epsilon(cost, 1e-5) if cost else 0.0,
        epsilon_6=rule.epsilon(cost, 1e-6) if cost else 0.0,
        leaves=_leaves(study, stage),
        sampling_probability=stage.sampling_probability,
    )
