"""What may be released about patients, and what was spent: differential privacy without a shell.

Nothing here opens a file, reads a clock or draws on the operating system's randomness. The parts
that need torch (`dp.bookkeeping`, `dp.optimizer`) or dp_accounting (`dp.accountant`) are imported by
name, so that whoever needs a query or the ledger loads neither.
"""

from dp.budget import GDP_FILTER, Budget, BudgetKind, Filter
from dp.errors import BudgetExceeded, ConfigError, DPError, LedgerCorrupt, MisuseError, UploadsExhausted
from dp.events import KINDS, Account, Event, GaussianEvent, NarrowEvent, PoissonEvent
from dp.noise_shares import Lattice, lattice
from dp.queries import Float64, Int64, Keystream, Query, SecureSum

__all__ = [
    "GDP_FILTER",
    "KINDS",
    "Account",
    "Budget",
    "BudgetExceeded",
    "BudgetKind",
    "ConfigError",
    "DPError",
    "Event",
    "Filter",
    "Float64",
    "GaussianEvent",
    "Int64",
    "Keystream",
    "Lattice",
    "LedgerCorrupt",
    "MisuseError",
    "NarrowEvent",
    "PoissonEvent",
    "Query",
    "SecureSum",
    "UploadsExhausted",
    "lattice",
]
