"""Kinds of budget, limits of a study and a year, resumed and unprotected runs."""

from dataclasses import replace

import pytest

from dp import ledger
from dp.budget import BudgetKind, Filter
from dp.errors import (
    BudgetExceeded,
    BudgetOfAnotherKind,
    ConfigError,
    LedgerCorrupt,
    MisuseError,
    ReservationExceeded,
    RunReused,
    StudyCapExceeded,
    YearExhausted,
)
from dp.events import GaussianEvent, PoissonEvent
from dp.grants import Terms
from dp.ledger import (
    GENESIS,
    Close,
    Entry,
    Grant,
    OpenYear,
    Plain,
    Recover,
    Reserve,
    Resume,
    Stage,
    Unprotected,
    fold,
)
from dp.limits import EXHAUSTED
from tests.dp.books import (
    BRESLOW,
    CONCORDANCE,
    GRADIENT,
    GRANTED,
    HOLDOUT,
    NOON,
    RECOVERED,
    STUDY,
    TRAINING,
    Book,
    reservation,
    run_id,
    upload,
)

# --- kinds of budget, limits, resumed runs ---------------------------------------------------------

POISSON = PoissonEvent("gradient", 1.5, 0.1, TRAINING)


def test_kind_order_and_delta_are_fixed_by_the_first_grant(book: Book) -> None:
    for other in (Grant(TRAINING, 3.0, 1e-6), Grant(TRAINING, 3.0, 1e-5, "RDP", 8)):
        with pytest.raises(BudgetOfAnotherKind, match="since its first grant"):
            book.add(other)
    book.add(Grant(TRAINING, 3.0, 1e-5))


def test_an_event_that_the_budget_cannot_hold(book: Book) -> None:
    with pytest.raises(BudgetOfAnotherKind, match="Poisson"):
        book.add(Reserve(STUDY, run_id(), (Stage(POISSON, 1),)))
    assert len(book.entries) == 2


def test_an_rdp_account_counts_in_rdp() -> None:
    book, rule = Book(), Filter(BudgetKind.RDP, 16)
    book.add(Grant(TRAINING, 20.0, 1e-5, "RDP", 16))
    book.add(Reserve(STUDY, run_id(), (Stage(POISSON, 10), Stage(BRESLOW, 2))))
    book.add(upload(1, BRESLOW))

    assert book.state.spent_units(TRAINING) == rule.units(BRESLOW)
    assert book.state.committed_units(TRAINING) == 10 * rule.units(POISSON) + 2 * rule.units(BRESLOW)
    assert fold([Entry.from_json(entry.to_json()) for entry in book.entries]) == book.state


def test_one_run_has_a_limit(book: Book) -> None:
    book.add(Grant(TRAINING, 2.0, 1e-5, study_epsilon=1.5))
    with pytest.raises(StudyCapExceeded, match=r"one run may take ε = 1.5"):
        book.add(reservation())
    book.add(reservation(uploads=30))
    with pytest.raises(StudyCapExceeded):
        book.add(reservation(2, uploads=30))
    book.add(replace(reservation(2, uploads=10), study="5f" * 32))


def test_a_year_has_a_limit_and_a_person_opens_it(book: Book) -> None:
    book.add(Grant(TRAINING, 4.0, 1e-5, year_epsilon=2.0))
    with pytest.raises(YearExhausted, match="no year is open"):
        book.add(reservation())
    book.add(OpenYear(2025))
    book.add(reservation(1))
    with pytest.raises(YearExhausted, match="in the year 2025"):
        book.add(reservation(2))
    lifetime = book.state.committed_units(TRAINING)
    book.add(OpenYear(2026))
    assert book.state.committed_units(TRAINING) == lifetime  # the lifetime account never resets
    book.add(reservation(2))
    for year, words in ((2026, "years only go on"), (2025, "years only go on"), (2027, "has not begun")):
        with pytest.raises(ConfigError, match=words):
            book.add(OpenYear(year))
    # The clock opens nothing.
    with pytest.raises(YearExhausted):
        book.add(reservation(3), "2027-06-01T00:00:00Z")


def test_what_a_recovery_carries_over_counts_in_the_next_year_too(book: Book) -> None:
    """The backup may be from before the year was opened in which it was spent."""
    limited, later = Grant(TRAINING, 20.0, 1e-5, year_epsilon=2.0), "2026-06-01T00:00:00Z"
    book.add(limited)
    book.add(OpenYear(2024))
    cost = 66 * GRADIENT.units
    book.add(Recover(((9, "ab" * 32),), {TRAINING: cost}, {TRAINING: book.state.terms[TRAINING]}), later)
    book.add(limited, later)
    book.add(Grant(HOLDOUT, 2.0, 1e-5), later)
    for year in (2024, 2025):
        if year > 2024:
            book.add(OpenYear(year), later)
        assert book.state.year_units(TRAINING) == cost
        with pytest.raises(YearExhausted, match=f"in the year {year}"):
            book.add(reservation(1), later)
    book.add(OpenYear(2026), later)
    assert book.state.year_units(TRAINING) == 0
    book.add(reservation(1), later)


def test_a_recovery_that_names_heads_clears_every_grant(book: Book) -> None:
    """The grant that comes back with a backup may be larger than the one that was in force."""
    book.add(Recover())
    assert book.state.remaining_units(TRAINING) > 0  # only the anchor was lost
    book.add(Recover(((9, "ab" * 32),)))
    assert (book.state.remaining_units(TRAINING), book.state.remaining_units(HOLDOUT)) == (0, 0)
    with pytest.raises(BudgetExceeded, match="whose grant a recovery has cleared"):
        book.add(reservation())
    with pytest.raises(BudgetOfAnotherKind):
        book.add(Grant(TRAINING, 2.0, 1e-6))
    book.add(Grant(TRAINING, 1.0, 1e-5))
    with pytest.raises(BudgetExceeded, match="is left"):
        book.add(reservation())
    book.add(Reserve(STUDY, run_id(), (Stage(GRADIENT, 1),)))


def test_an_account_that_was_given_up_is_closed_for_ever(book: Book) -> None:
    other = Terms(Filter(BudgetKind.RDP, 8), 1e-5)
    item = Recover(((9, "ab" * 32),), {TRAINING: 5}, {TRAINING: other})
    with pytest.raises(BudgetOfAnotherKind, match="can only be given up"):
        book.add(item)
    book.add(replace(item, exhausted=(TRAINING,)))
    assert book.state.terms[TRAINING] == Terms(Filter(BudgetKind.GDP), 1e-5)
    assert book.state.committed_units(TRAINING) == EXHAUSTED
    for epsilon in (2.0, 1e6):
        book.add(Grant(TRAINING, epsilon, 1e-5))
        with pytest.raises(BudgetExceeded, match="was given up"):
            book.add(reservation())
    book.add(Grant(HOLDOUT, 2.0, 1e-5))
    book.add(Reserve(STUDY, run_id(), (Stage(CONCORDANCE, 1),)))
    assert fold([Entry.from_json(entry.to_json()) for entry in book.entries]) == book.state


def test_a_run_belongs_to_the_year_of_its_reservation(book: Book) -> None:
    book.add(Grant(TRAINING, 4.0, 1e-5, year_epsilon=2.0))
    book.add(OpenYear(2025))
    book.add(reservation(1))
    book.add(OpenYear(2026))
    book.add(upload(1))

    assert book.state.year_units(TRAINING) == 0


def test_a_resumed_run_returns_nothing(book: Book) -> None:
    book.add(reservation())
    book.add(upload(1))
    before = book.state.committed_units(TRAINING)
    book.add(Resume(run_id(), "ab"))
    book.add(upload(2))
    book.add(Close(run_id(), "stopped"))

    assert book.state.spent_units(TRAINING) == before
    assert dict(book.state.events(TRAINING)) == {GRADIENT: 66, BRESLOW: 2}  # what the accountant must take as made
    for item in (Resume(run_id(), "cd"), upload(3)):
        with pytest.raises(ReservationExceeded, match="closed"):
            book.add(item)


def test_a_run_without_noise_charges_nothing_and_is_remembered(book: Book) -> None:
    book.add(Unprotected(STUDY, run_id(), {"gradient": 2}))
    plain = Plain(STUDY, run_id(), 1, "0a", "gradient")
    book.add(plain)
    with pytest.raises(MisuseError, match="not after 1"):
        book.add(plain)
    with pytest.raises(ReservationExceeded, match="without noise"):
        book.add(replace(plain, release="breslow", round=2))
    with pytest.raises(ReservationExceeded, match="another study"):
        book.add(replace(plain, study="ab", round=2))
    with pytest.raises(ReservationExceeded, match="no reservation"):
        book.add(upload(2))
    book.add(replace(plain, round=2))
    with pytest.raises(ReservationExceeded, match="all 2 uploads"):
        book.add(replace(plain, round=3))
    book.add(Close(run_id(), "complete"))

    assert book.state.unbounded == {TRAINING}
    assert book.state.committed_units(TRAINING) == 0
    with pytest.raises(RunReused):
        book.add(reservation())


def test_so_many_runs_may_be_open(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST_OPEN_RUNS", 3)
    cheap = (Stage(GaussianEvent("gradient", 1e6, TRAINING), 1),)
    for number in range(3):
        book.add(Reserve(STUDY, run_id(number), cheap))
    with pytest.raises(ConfigError, match="3 runs are open"):
        book.add(Reserve(STUDY, run_id(3), cheap))
    book.add(Close(run_id(0), "stopped"))
    book.add(Reserve(STUDY, run_id(3), cheap))


def test_only_a_recovery_may_leave_numbers_out(book: Book) -> None:
    entry = book.add(Recover(((9, "ab" * 32),)))
    assert entry.sequence == 10
    assert book.add(Grant(TRAINING, 2.0, 1e-5)).sequence == 11
    head = book.entries[-1]
    with pytest.raises(LedgerCorrupt, match="does not continue"):
        book.state.after(_rehash(Entry(13, head.hash, "grant", GRANTED, NOON, "")))
    with pytest.raises(LedgerCorrupt, match="does not continue"):
        book.state.after(_rehash(Entry(13, head.hash, "recover", RECOVERED, NOON, "")))


def test_an_older_ledger_is_called_older() -> None:
    body = {"account": "training", "delta": "1e-05", "epsilon": "2.0"}
    old = Entry(0, GENESIS, "grant", body, NOON, "c0735f468893c62fbfcfea88bbd54500ee1709c5717c550d3b29ffc956304204")
    with pytest.raises(LedgerCorrupt, match="entry 0: this ledger was written by an older version of haemfed"):
        fold([old])
    with pytest.raises(LedgerCorrupt, match=r"A new directory is an empty account.* grant there only what is left"):
        fold([old])
    with pytest.raises(LedgerCorrupt, match="does not match its hash"):
        fold([replace(old, body={**body, "epsilon": "3.0"})])


def _rehash(entry: Entry) -> Entry:
    return replace(entry, hash=entry.computed_hash())
