"""Everything that can go wrong in ``dp``, split by who must act.

::

    DPError
    ├── MisuseError            we: the calling code broke a contract
    │   ├── AccountantsDisagree    two accountants give different ε: nothing may be released
    │   └── UnknownEvent           an event that is not on the closed list
    ├── ConfigError            the operator: a study, budget or clock that cannot work
    │   ├── BudgetExceeded         a debit would pass the granted budget; nothing was recorded
    │   ├── ReservationExceeded    an upload that no reservation covers; nothing was recorded
    │   ├── RunReused              a run id that was used before
    │   └── ClockWentBack          an entry older than the last one
    ├── LedgerCorrupt          the operator: an entry was edited, removed or reordered
    │   └── RollbackDetected       the ledger ends before a head that somebody else has seen
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


class BudgetExceeded(ConfigError):  # noqa: N818 - the word of dp_accounting's users and of the design
    """A debit would pass the granted budget; nothing was recorded."""


class ReservationExceeded(ConfigError):  # noqa: N818 - as above
    """An upload that no open reservation covers; nothing was recorded."""


class RunReused(ConfigError):  # noqa: N818 - as above
    """A run id is used once, ever."""


class ClockWentBack(ConfigError):  # noqa: N818 - as above
    """An entry would be older than the last one."""


class LedgerCorrupt(DPError):  # noqa: N818 - as above
    """An entry of the ledger was edited, removed, reordered or forged."""


class RollbackDetected(LedgerCorrupt):
    """The ledger does not contain a head that a witness has seen."""


class UploadsExhausted(DPError):  # noqa: N818 - control flow of a stage, not a fault
    """The stage of this query has no upload left: the stage is over."""
