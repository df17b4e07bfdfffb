"""What may be released about patients, and what was spent: differential privacy without a shell.

Nothing here opens a file, reads a clock or draws on the operating system's randomness. The parts
that need torch (`dp.clipping`, `dp.optimizer`) or dp_accounting (`dp.accountant`) are imported by
name, so that whoever needs a query or the ledger loads neither.
"""

from dp.budget import Budget
from dp.errors import BudgetExceeded, ConfigError, DPError, LedgerCorrupt, MisuseError, UploadsExhausted
from dp.events import KINDS, Account, GaussianEvent
from dp.noise_shares import Lattice, lattice
from dp.queries import Float64, Int64, Keystream, Query, SecureSum

__all__ = [
    "KINDS",
    "Account",
    "Budget",
    "BudgetExceeded",
    "ConfigError",
    "DPError",
    "Float64",
    "GaussianEvent",
    "Int64",
    "Keystream",
    "Lattice",
    "LedgerCorrupt",
    "MisuseError",
    "Query",
    "SecureSum",
    "UploadsExhausted",
    "lattice",
]
