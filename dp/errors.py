"""Everything that can go wrong in ``dp``, split by who must act.

::

    DPError
    ├── MisuseError            we: the calling code broke a contract
    │   ├── AccountantsDisagree    two accountants give different ε: nothing may be released
    │   └── UnknownEvent           an event that is not on the closed list
    ├── ConfigError            the operator: a study, budget or clock that cannot work
    │   ├── BudgetOfAnotherKind    an event, or a grant, that the account's kind of budget cannot hold
    │   ├── BudgetExceeded         a debit would pass the granted budget; nothing was recorded
    │   │   ├── YearExhausted          … would pass what may be spent in the open year
    │   │   └── StudyCapExceeded       … would pass what one run may spend
    │   ├── ReservationExceeded    an upload that no reservation covers; nothing was recorded
    │   ├── RunReused              a run id that was used before
    │   ├── ClockWentBack          an entry older than the last one
    │   └── NotWitnessed           too few peers have receipted the ledger's head: nothing may be uploaded yet
    ├── LedgerCorrupt          the operator: an entry was edited, removed or reordered
    │   ├── RollbackDetected       the ledger ends before a head that somebody else has seen
    │   └── ForkedLedger           the ledger does not extend a head that somebody else has seen
    └── UploadsExhausted       nobody: this stage of the study is over

Messages name things, sizes and the way out. They never carry a patient's value.
"""


class DPError(Exception):
    """Base class of every error that ``dp`` raises on purpose."""


class MisuseError(DPError):
    """The calling code broke a contract of this package."""


class AccountantsDisagree(MisuseError):  # noqa: N818 - named after what happened, like the rest of the tree
    """Two independent accountants give different ε for one history."""


class UnknownEvent(MisuseError):  # noqa: N818 - as above
    """An event whose kind, field or value is not on the closed list."""


class ConfigError(DPError):
    """A study, a budget or a clock that the operator has to change."""


class BudgetOfAnotherKind(ConfigError):  # noqa: N818 - as above
    """An event that the granted kind of budget cannot hold, or a grant that would change an account's kind."""


class BudgetExceeded(ConfigError):  # noqa: N818 - the word of dp_accounting's users and of the design
    """A debit would pass the granted budget; nothing was recorded."""


class YearExhausted(BudgetExceeded):
    """A debit would pass what may be spent in the open year; nothing was recorded."""


class StudyCapExceeded(BudgetExceeded):
    """A debit would pass what one run of a study may spend; nothing was recorded."""


class ReservationExceeded(ConfigError):  # noqa: N818 - as above
    """An upload that no open reservation covers; nothing was recorded."""


class RunReused(ConfigError):  # noqa: N818 - as above
    """A run id is used once, ever."""


class ClockWentBack(ConfigError):  # noqa: N818 - as above
    """An entry would be older than the last one."""


class NotWitnessed(ConfigError):  # noqa: N818 - as above
    """Too few peers have receipted the ledger's head: nothing may be uploaded yet."""


class LedgerCorrupt(DPError):  # noqa: N818 - as above
    """An entry of the ledger was edited, removed, reordered or forged."""


class RollbackDetected(LedgerCorrupt):
    """The ledger does not contain a head that a witness has seen."""


class ForkedLedger(LedgerCorrupt):
    """The ledger does not extend a head that a witness has seen: two copies of it have been written to."""


class UploadsExhausted(DPError):  # noqa: N818 - control flow of a stage, not a fault
    """The stage of this query has no upload left: the stage is over."""
