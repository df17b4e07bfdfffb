import math
from dataclasses import replace
from typing import Any

import pytest

from audits.ledger import examine, privacy_loss_distribution, recount
from dp import ledger
from dp.budget import BudgetKind, Filter
from dp.events import Account, GaussianEvent, NarrowEvent, event
from tests.sweeps import thinned

RUN, STUDY = "7f" * 32, "a1" * 32
GRADIENT = GaussianEvent("gradient", 17.0, Account.TRAINING)
CONCORDANCE = GaussianEvent("concordance", 4.0, Account.HOLDOUT)


def history(uploads: int = 5) -> Any:
    entries: list[ledger.Entry] = []

    def add(item: Any) -> None:
        at = f"2026-11-25T10:{len(entries):02d}:00Z"
        entries.append(ledger.append(entries, item.KIND, item.body(), at))

    for account in Account:
        add(ledger.Grant(account, 4.0, 1e-5))
    add(ledger.Reserve(STUDY, RUN, (ledger.Stage(GRADIENT, 10), ledger.Stage(CONCORDANCE, 1))))
    for number in range(uploads):
        add(ledger.Upload(STUDY, RUN, number, "0c" * 32, GRADIENT))
    add(ledger.Upload(STUDY, RUN, uploads, "0d" * 32, CONCORDANCE))
    return entries


def test_uploads_are_recounted_per_account_by_two_accountants() -> None:
    entries = history()
    found = examine(entries, run=RUN, delta=1e-5)
    training, holdout = found.accounts
    assert (training.account, training.uploads, holdout.account, holdout.uploads) == (
        "training",
        5,
        "holdout",
        1,
    )
    assert training.mu == pytest.approx(math.sqrt(5) / 17)
    assert training.agree
    assert holdout.agree
    assert training.second_epsilon == pytest.approx(training.epsilon, rel=0.01)
    assert training.second_epsilon != training.epsilon  # it really is another calculation
    assert (found.head, found.entries, found.problems) == (entries[-1].hash, 9, ())


def test_another_run_is_not_counted() -> None:
    assert examine(history(), run="00" * 32, delta=1e-5).accounts == ()


@pytest.mark.parametrize("damage", ["edited", "removed", "rolled back"])
def test_a_damaged_chain_is_a_problem_and_not_a_number(damage: str) -> None:
    entries = history()
    witnessed = ledger.Head(entries[-1].sequence, entries[-1].hash)
    match damage:
        case "edited":
            body = {**entries[4].body, "round": 9}
            entries[4] = replace(entries[4], body=body)
        case "removed":
            del entries[4]
        case "rolled back":
            entries = entries[:-2]
    found = examine(entries, run=RUN, delta=1e-5, witnessed=witnessed)
    assert found.accounts == ()
    assert len(found.problems) == 1
    assert "does not verify" in found.problems[0]


@pytest.mark.parametrize("wrong", thinned([1.05, 0.9, math.nan], 2))
def test_accountants_that_differ_do_not_agree(wrong: float) -> None:
    def second(charges: Any, delta: Any) -> Any:
        return wrong * privacy_loss_distribution(charges, delta)

    found = recount([(GRADIENT, 60)], head="", entries=1, delta=1e-5, second=second)
    assert not found.accounts[0].agree


# --- RDP accounts ----------------------------------------------------------------------------------

RDP16 = Filter(BudgetKind.RDP, 16)
POISSON = event("gradient", 5.0, sampling_probability=0.3)
NARROW = NarrowEvent("gradient", 17.3, 784, 7500, Account.TRAINING)


@pytest.mark.parametrize("release", [GRADIENT, POISSON, NARROW])
def test_every_event_of_an_rdp_account_is_recounted_at_its_order(release: Any) -> None:
    found = recount([(release, 60)], head="", entries=1, delta=1e-5, filters={"training": RDP16})
    (training,) = found.accounts
    assert (training.mu, training.order, training.uploads, training.agree) == (None, 16, 60, True)
    assert training.epsilon == pytest.approx(RDP16.epsilon(60 * RDP16.units(release), 1e-5), rel=1e-3)
    assert training.second_epsilon == pytest.approx(training.epsilon, rel=1e-6)
    assert found.problems == ()


@pytest.mark.parametrize("release", [POISSON, NARROW])
def test_what_an_account_cannot_hold_is_a_problem(release: Any) -> None:
    found = recount([(release, 60), (CONCORDANCE, 1)], head="", entries=1, delta=1e-5)
    assert [account.account for account in found.accounts] == ["holdout"]
    assert len(found.problems) == 1
    assert "cannot hold" in found.problems[0]


def test_the_order_comes_from_the_ledgers_own_grant() -> None:
    entries: list[ledger.Entry] = []
    for item in (
        ledger.Grant(Account.TRAINING, 4.0, 1e-5, BudgetKind.RDP, 16),
        ledger.Reserve(STUDY, RUN, (ledger.Stage(POISSON, 10),)),
        ledger.Upload(STUDY, RUN, 0, "0c" * 32, POISSON),
    ):
        entries.append(ledger.append(entries, item.KIND, item.body(), f"2026-11-25T10:{len(entries):02d}:00Z"))
    (training,) = examine(entries, run=RUN, delta=1e-5).accounts
    assert (training.order, training.uploads, training.agree) == (16, 1, True)
