"""A small, complete, synthetic set of evidence; nothing in it comes from a patient."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from audits import gaussian, policy
from audits.certificate import Facts
from audits.histogram import NoisyHistogram, ScoreBins, attack_evidence, members_query, nonmembers_query
from audits.interval import Interval
from audits.ledger import recount
from audits.mechanism import PathRun, conformance, null_contributions
from audits.report_data import (
    AccountBudget,
    Accounting,
    CertificateNote,
    Coalition,
    ColumnGroup,
    LocalFindings,
    ReleasedScore,
    ReportData,
    RunLine,
    Study,
    epsilon_views,
)
from audits.sensitivity import Probe, Sensitivity
from audits.verdict import Claim, ReleasableEvidence, decide
from dp.budget import gaussian_delta
from dp.events import Account, GaussianEvent
from dp.queries import Query

ISSUED = date(2026, 11, 25)
ARTEFACT = b"weights of a model"
BINS = ScoreBins()
RECIPE = hashlib.sha256(b"public recipe").digest()
MU = 0.5
COLUMNS = (
    ColumnGroup("clinical", 3, ("age", "sex", "wbc")),
    ColumnGroup("mutations", 60, tuple(f"mut_gene{place}" for place in range(60))),
    ColumnGroup("slide", 768, ("slide[0…767]",)),
)
Noise = Callable[[np.random.Generator, tuple[int, int, int], float], np.ndarray]


def honest_noise(rng: np.random.Generator, shape: tuple[int, int, int], std: float) -> np.ndarray:
    return rng.normal(0.0, std, shape)


@dataclass
class MemoryPath:
    """Six sites in memory, one share of noise each; `noise` draws [rounds, sites, d] shares."""

    noise: Noise = honest_noise
    seed: int = 1
    sites: int = 6
    length: int = 160
    multiplier: float = 17.0
    clip: float = 3.0
    collusion: int = 1

    def run(self, contributions: np.ndarray) -> PathRun:
        honest = self.sites - self.collusion
        query = Query("gradient", 0, self.length, self.clip, self.multiplier, Account.TRAINING, 500)
        share = self.multiplier * self.clip / math.sqrt(honest)
        noise = self.noise(np.random.default_rng(self.seed), contributions.shape, share)
        return PathRun(query, (contributions + noise).sum(axis=1), self.sites, honest)


def checked(path: MemoryPath, rounds: int = 60) -> Any:
    zeros = null_contributions(path, rounds)
    return conformance(path.run(zeros), zeros)


def histograms(members: np.ndarray, nonmembers: np.ndarray, *, noise: float = 6.0, seed: int = 1) -> Any:
    """Noisy histograms of true counts; noise is the honest std in patients."""
    rng = np.random.default_rng(seed)
    inflation = math.sqrt(6 / 5)
    queries = (
        members_query(BINS, multiplier=noise, patient_cap=500, references=RECIPE),
        nonmembers_query(BINS, multiplier=noise, patient_cap=500, references=RECIPE),
    )
    return tuple(
        NoisyHistogram(query, tuple((counts + rng.normal(0, noise * inflation, counts.size)).tolist()), inflation)
        for query, counts in zip(queries, (members, nonmembers), strict=True)
    )


def spread(total: int, tilt: float = 0.0) -> np.ndarray:
    weights = np.exp(tilt * np.linspace(-1, 1, BINS.count))
    return np.round(total * weights / weights.sum())


def attack(members: int = 834, nonmembers: int = 209, tilt: float = 0.0, noise: float = 4.0, seed: int = 1) -> Any:
    return attack_evidence(*histograms(spread(members, tilt), spread(nonmembers), noise=noise, seed=seed), alpha=0.05)


def evidence(**changes: Any) -> ReleasableEvidence:
    z = math.sqrt(66 / (0.85 * MU**2))
    charges = [
        (GaussianEvent("gradient", z, Account.TRAINING), 62),
        (GaussianEvent("breslow", math.sqrt(1 / (0.1 * MU**2)), Account.TRAINING), 1),
        (GaussianEvent("score-histogram-members", math.sqrt(1 / (0.05 * MU**2)), Account.TRAINING), 1),
        (GaussianEvent("concordance", 3.0, Account.HOLDOUT), 1),
        (GaussianEvent("calibration", 4.0, Account.HOLDOUT), 1),
        (GaussianEvent("score-histogram-nonmembers", 4.0, Account.HOLDOUT), 1),
    ]
    # Stands in for dp.accountant: the tests of the agreement itself use the real one.
    ledger = recount(
        charges,
        head="5e" * 32,
        entries=71,
        delta=1e-5,
        second=lambda events, delta: gaussian.epsilon_of(
            math.sqrt(sum(count / event.multiplier**2 for event, count in events)), delta
        ),
    )
    holdout = math.sqrt(1 / 9 + 1 / 16 + 1 / 16)
    base = ReleasableEvidence(
        claims=(
            Claim("training", MU, gaussian.epsilon_of(MU, gaussian_delta(1e-5)), 1e-5, 1),
            Claim("holdout", holdout, gaussian.epsilon_of(holdout, gaussian_delta(1e-5)), 1e-5, 1),
        ),
        ledger=ledger,
        mechanism=checked(MemoryPath()),
        sensitivity=Sensitivity(3.0, (Probe("ordinary patient", 0.41, True), Probe("features of 1e300", 0.99, True))),
        attack=attack(),
        positive_control=Interval(0.84, 0.88, 0.91, 0.05, "DeLong"),
        baseline_grid_days=30.4375,
    )
    return replace(base, **changes)


FACTS = Facts(
    study="a1" * 32,
    study_name="AML survival 2026",
    run="7f" * 32,
    model_digest="c3" * 32,
    roster=6,
    collusion=1,
    uploads=62,
    uploads_reserved=66,
    steps=60,
    tool="haemfed 0.1.0",
)


def report(found: ReleasableEvidence | None = None, name: str = "research") -> ReportData:
    found = found or evidence()
    rules = policy.load(name)
    training, holdout = found.claims
    mus = [math.sqrt(share) * MU for share in (0.85, 0.1, 0.05)]
    lines = [
        ("training", "training", 62, 60, math.sqrt(66) / mus[0], "60 noisy sums; the model's weights"),
        ("recalibration", "training", 1, 1, 1 / mus[1], "the baseline hazard on six public intervals"),
        ("attack scores, members", "training", 1, 1, 1 / mus[2], "a noisy histogram of 11 counts"),
        ("concordance", "holdout", 1, 1, 3.0, "two noisy sums; the C-index"),
        ("calibration", "holdout", 1, 1, 4.0, "a noisy histogram; the calibration"),
        ("attack scores, hold-out", "holdout", 1, 1, 4.0, "a noisy histogram of 11 counts"),
    ]
    return ReportData(
        site="St Bartholomew's Hospital <North>",
        generated="2026-11-25",
        software="haemfed 0.1.0",
        study=Study(
            name="AML survival 2026",
            digest="a1" * 32,
            purpose="Predicting overall survival after a diagnosis of acute myeloid leukaemia",
            legal_basis="Public interest in health research (as declared by the hospital)",
            profile="profile aml 1, digest 2b7e1516",
            columns=COLUMNS,
            model="DeepSurv, piecewise-exponential likelihood, preset aml-small",
            artefact="aml-survival-2026.safetensors",
            artefact_sha256=hashlib.sha256(ARTEFACT).hexdigest(),
            recipients="Researchers of the six hospitals under contract",
            sites=(
                "Ashbourne",
                "Birkdale",
                "Calder Valley",
                "Duddon",
                "Eden",
                "St Bartholomew's Hospital <North>",
            ),
            collusion=1,
            minimum_roster=5,
            steps_planned=60,
            steps_completed=60,
            uploads_reserved=66,
            uploads=62,
        ),
        verdict=decide(found, rules),
        certificate=CertificateNote("aml-survival-2026.audit.json", "d4" * 32, "2026-11-25", "2027-11-25"),
        evidence=found,
        delta=1e-5,
        delta_why="far below one patient in the largest cohort foreseen (10,000)",
        budgets=(
            AccountBudget("training", 1e-5, granted=1.0, spent=0.34, reserved=0.02, this_study=0.24),
            AccountBudget("holdout", 1e-5, granted=0.6, spent=0.236, reserved=0.0, this_study=0.236),
        ),
        runs=tuple(
            RunLine(
                "7f3a91",
                stage,
                account,
                up,
                done,
                z,
                math.sqrt(up) / z,
                gaussian.epsilon_of(math.sqrt(up) / z, 1e-5),
                gaussian.epsilon_of(math.sqrt(up) / z, 1e-6),
                leaves,
            )
            for stage, account, up, done, z, leaves in lines
        ),
        training_views=epsilon_views(training.mu, roster=6, collusion=1),
        holdout_views=epsilon_views(holdout.mu, roster=6, collusion=1),
        accounting=tuple(
            Accounting(
                each.account,
                each.budget,
                each.epsilon,
                each.delta,
                each.epsilon_at(1e-6),
                each.epsilon,
                gaussian.epsilon_of(2 * each.mu, 1e-5),
                2,
                gaussian.epsilon_of(2 * each.mu, 1e-5),
            )
            for each in found.claims
        ),
        scores=(
            ReleasedScore("C-index, within hospitals", 0.652, 0.571, 0.733, "patients and noise; 0.5 is a coin"),
            ReleasedScore("Alive after 1 year, observed", 0.41, 0.29, 0.53, "predicted 0.44"),
            ReleasedScore("Alive after 5 years, observed", None, None, None, "too few patients after noise"),
        ),
        local=LocalFindings(
            members=39,
            nonmembers=11,
            shadows=32,
            lines=(
                ("LiRA, log|martingale residual|: AUC", "0.531 (0.402 to 0.660)"),
                ("LiRA, log|martingale residual|: hits at 10 % false alarms", "not resolvable with n = 11"),
                ("Attacker without the model: AUC", "0.488 (0.362 to 0.614); should be 0.5"),
            ),
            worst_records=10,
            notes=("One hospital alone is too small for a firm statement; read the certificate part first.",),
        ),
        coalitions=tuple(
            Coalition(k, k, (6 - k) / 5, *(_weaker(each.mu, (6 - k) / 5) for each in (training, holdout)), main=k == 1)
            for k in range(6)
        ),
    )


def _weaker(mu: float, noise: float) -> float:
    return gaussian.epsilon_of(mu / math.sqrt(noise), gaussian_delta(1e-5))
