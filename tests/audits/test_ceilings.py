"""What a claim allows any attack: closed forms against integrals, and the two kinds of claims beside each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import gaussian, policy, renyi, report
from audits.ceilings import Ceiling
from audits.errors import MalformedCertificate, MisuseError
from audits.evidence import Claim, Outcome
from audits.ledger import recount
from audits.report_data import views
from audits.verdict import decide
from dp.budget import BudgetKind, Filter, gaussian_delta
from dp.events import Account, PoissonEvent
from tests.audits import sample

RESEARCH = policy.load("research")
epsilons = st.floats(0.0, 12.0)
deltas = st.sampled_from([0.0, 1e-6, 1e-5, 1e-3, 0.2])


@given(epsilons, deltas)
def test_the_area_is_that_under_the_curve(epsilon: float, delta: float) -> None:
    ceiling = Ceiling(None, epsilon, delta)
    grid = np.linspace(0.0, 1.0, 200_001)

    area = np.trapezoid([ceiling.tpr(fpr) for fpr in grid[::200]], grid[::200])

    assert ceiling.auc() == pytest.approx(area, abs=2e-3)
    assert 0.5 <= ceiling.auc() <= 1.0


@given(epsilons, deltas, st.floats(0.0, 1.0))
def test_the_curve_is_that_of_epsilon_and_delta(epsilon: float, delta: float, fpr: float) -> None:
    """Hits ≤ e^ε·false alarms + δ, and the same for misses: Kairouz, Oh & Viswanath 2015, theorem 2.1."""
    found = Ceiling(None, epsilon, delta).tpr(fpr)
    bounds = (
        math.exp(epsilon) * fpr + delta,
        1.0 - math.exp(-epsilon) * (1.0 - delta - fpr),
        1.0,
    )

    assert found == pytest.approx(min(bounds), abs=1e-9)
    assert found >= fpr - 1e-12  # guessing is always allowed


@given(st.floats(0.05, 3.0), st.floats(0.0, 1.0))
def test_a_gaussian_claim_allows_no_more_than_its_epsilon_would(mu: float, fpr: float) -> None:
    epsilon = gaussian.epsilon_of(mu, 1e-5)
    known, unknown = Ceiling(mu, epsilon, 1e-5), Ceiling(None, epsilon, 1e-5)

    assert known.tpr(fpr) <= unknown.tpr(fpr) + 1e-9
    assert known.auc() <= unknown.auc() + 1e-9
    assert known.accuracy() <= unknown.accuracy() + 1e-9


def test_without_a_bound_everything_is_allowed() -> None:
    ceiling = Ceiling(None, math.inf, 1e-5)
    assert (ceiling.tpr(0.0), ceiling.tpr(0.01), ceiling.auc(), ceiling.accuracy()) == (1.0, 1.0, 1.0, 1.0)
    with pytest.raises(MisuseError):
        Ceiling(None, math.nan, 1e-5)
    with pytest.raises(MisuseError):
        Ceiling(None, 1.0, 1.0)


@given(st.integers(2, 256), st.floats(1e-5, 20.0), st.sampled_from([1e-7, 1e-5, 1e-3]))
def test_the_second_conversion_of_a_divergence_agrees_with_the_budgets(order: int, cost: float, delta: float) -> None:
    """Two implementations of one formula; the budget's keeps a thousandth of δ back."""
    theirs = Filter(BudgetKind.RDP, order).epsilon(math.ceil(cost * 2**64), delta)
    ours = renyi.epsilon_of(order, cost, delta)

    assert ours <= theirs + 1e-12
    assert theirs == pytest.approx(ours, abs=2e-3)
    assert renyi.epsilon_of(order, 0.0, delta) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"mu": None},
        {"order": 10},
        {"order": 10, "divergence": 0.3},
        {"mu": None, "divergence": 0.3},
    ],
)
def test_a_claim_has_either_a_mu_or_an_order_and_its_divergence(wrong: dict[str, object]) -> None:
    with pytest.raises(MisuseError, match="either"):
        replace(sample.evidence().claims[0], **wrong)  # type: ignore[arg-type]


def of_rdp(cost: float = 0.4) -> dict[str, object]:
    """Evidence of a study that samples: its claims, and a ledger that charges half of them."""
    epsilon, rule = renyi.epsilon_of(16, cost, gaussian_delta(1e-5)), Filter(BudgetKind.RDP, 16)
    claims = tuple(
        Claim(account, None, epsilon, 1e-5, 1, order=16, divergence=cost) for account in ("training", "holdout")
    )
    charges = [(PoissonEvent("gradient", 4.0, 0.2, Account.TRAINING), 10)]
    ledger = recount(charges, head="5e" * 32, entries=50, delta=1e-5, filters={"training": rule, "holdout": rule})
    return {"claims": claims, "ledger": ledger}


def test_a_claim_in_rdp_is_judged_by_epsilon_and_delta_alone() -> None:
    found = sample.evidence(**of_rdp())
    reasons = {reason.rule: reason for reason in decide(found, RESEARCH).reasons}

    assert reasons["ledger"].outcome is Outcome.PASS, reasons["ledger"]
    assert "where there is no μ" in reasons["mu_max"].sentence
    epsilon = found.claims[0].epsilon
    assert reasons["ceiling"].limit == pytest.approx(Ceiling(None, epsilon, 1e-5).auc())
    assert reasons["epsilon_max"].outcome is Outcome.PASS


def test_a_claim_in_rdp_that_is_smaller_than_its_divergence_is_caught() -> None:
    changes = of_rdp()
    claims = tuple(replace(claim, epsilon=0.5) for claim in changes["claims"])  # type: ignore[attr-defined]

    verdict = decide(sample.evidence(**changes | {"claims": claims}), RESEARCH)

    assert verdict.outcome is Outcome.FAIL_INTEGRITY
    assert any("own divergence of order 16" in reason.sentence for reason in verdict.reasons)


def test_a_ledger_that_charges_more_rdp_than_was_claimed_is_caught() -> None:
    verdict = decide(sample.evidence(**of_rdp() | {"claims": of_rdp(0.01)["claims"]}), RESEARCH)

    assert verdict.outcome is Outcome.FAIL_CONTRADICTION
    assert any("The ledger charges ε" in reason.sentence for reason in verdict.reasons)


def test_a_report_on_an_rdp_study_speaks_of_no_mu() -> None:
    found = sample.evidence(**of_rdp())
    plain = sample.report()
    against = views(lambda left: (None, 2.0 / left, 2.3 / left), roster=6, collusion=1)
    page = report.render_html(
        replace(
            plain,
            evidence=found,
            verdict=decide(found, RESEARCH),
            training_views=against,
            holdout_views=against,
            budgets=tuple(replace(budget, order=16) for budget in plain.budgets),
            runs=tuple(replace(line, mu=None, sampling_probability=0.2) for line in plain.runs),
            accounting=tuple(
                replace(each, budget="RDP at order 16", pld=None, remarks=("PLD: there is none",))
                for each in plain.accounting
            ),
        )
    )

    assert "RDP at order 16" in page
    assert "R of order 16" in page
    assert "samples of probability 0.2" in page
    assert "PLD: there is none" in page
    assert "rule\nout for every attack" in page
    assert "μ =" not in page.split('id="glossary"')[0]
    assert "Rényi" in page


def test_an_account_that_a_run_without_noise_has_read_is_not_bounded() -> None:
    plain = sample.report()
    page = report.render_html(replace(plain, budgets=tuple(replace(each, bounded=False) for each in plain.budgets)))
    assert page.count("ε is not bounded") == 2


def test_a_certificate_with_half_a_claim_is_malformed() -> None:
    """An inconsistent claim in a certificate is a malformed certificate, not a fault of the reader."""
    from audits import certificate

    with pytest.raises(MalformedCertificate):
        certificate._read(b'{"_type": 1}')


@given(st.integers(3, 40), st.integers(1, 8), st.floats(0.1, 3.0))
def test_more_noise_protects_more(roster: int, collusion: int, mu: float) -> None:
    """Outsiders face at least what the claim counts on, everybody else together at most one share of it."""
    if roster - collusion < 2:
        return
    seen = views(lambda left: (mu / left**0.5, mu / left**0.5, mu / left**0.5), roster=roster, collusion=collusion)
    assert seen[0].epsilon_5 <= seen[1].epsilon_5 <= seen[2].epsilon_5
    assert seen[1].epsilon_5 == mu
    local = views(
        lambda left: (None, 1 / left, 1 / left), roster=roster, collusion=collusion, honest=1, outside=roster - 1
    )
    assert local[1].epsilon_5 == local[2].epsilon_5 == 1.0
    assert local[0].epsilon_5 == 1 / (roster - 1)
