"""A ledger under test, and the entries of one small study."""

from dp import ledger
from dp.calibration import split_budget
from dp.events import Account, GaussianEvent
from dp.ledger import (
    Entry,
    Grant,
    Recover,
    Reserve,
    Stage,
    State,
    Upload,
    append,
)

NOON = "2026-01-01T12:00:00Z"
TRAINING, HOLDOUT = Account.TRAINING, Account.HOLDOUT
Z = split_budget(2.0, 1e-5, {"gradient": (0.9, 66), "breslow": (0.1, 2)})
GRADIENT = GaussianEvent("gradient", Z["gradient"], TRAINING)
BRESLOW = GaussianEvent("breslow", Z["breslow"], TRAINING)
CONCORDANCE = GaussianEvent("concordance", 3.0, HOLDOUT)


class Book:
    """A ledger under test: appends typed items and keeps the state."""

    def __init__(self) -> None:
        self.entries, self.state = [], State()

    def add(self, item: ledger.Item, at: str = NOON) -> Entry:
        entry = append(self.state, item.KIND, item.body(), at)
        self.entries.append(entry)
        self.state = self.state.after(entry)
        return entry


def run_id(number: int = 1) -> str:
    return f"{number:064x}"


STUDY = "5e" * 32


def reservation(number: int = 1, uploads: int = 66) -> Reserve:
    stages = (Stage(GRADIENT, uploads), Stage(BRESLOW, 2), Stage(CONCORDANCE, 1))
    return Reserve(STUDY, run_id(number), stages)


def upload(round_number: int, event: GaussianEvent = GRADIENT, number: int = 1, study: str = STUDY) -> Upload:
    return Upload(study, run_id(number), round_number, f"{round_number:064x}", event)


GRANTED = Grant(TRAINING, 2.0, 1e-5).body()
RECOVERED = Recover().body()


def granted() -> Book:
    """A ledger whose two accounts may spend ε = 2 each."""
    book = Book()
    book.add(Grant(TRAINING, 2.0, 1e-5))
    book.add(Grant(HOLDOUT, 2.0, 1e-5))
    return book
