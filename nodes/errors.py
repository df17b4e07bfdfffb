"""What can go wrong for the person at the keyboard, and the exit status a script sees.

An exit status is an interface: it is documented in ``docs/reference/exit-codes.md`` (generated from this
file) and never given a second meaning.

==== ======================= ==========================================================================
Code Error                   Meaning
==== ======================= ==========================================================================
0    --                      done; for an audit: PASS
1    --                      for an audit: FAIL or WITHHELD
2    --                      the command line was not understood
3    --                      for an audit: INCONCLUSIVE
4    --                      for an audit: not a valid certificate for this file
10   ConfigError             a configuration or policy file is missing, unreadable or wrong
11   PolicyRefusal           this site's policy does not allow it
12   StudyInvalid            the study is unsigned, edited or not what was approved
13   CertificateProblem      a certificate or key is expired, foreign or damaged
14   NotInRoster             this site is not on the study
15   BudgetTooSmall          the account has too little left for the study
16   CohortTooSmall          the cohort is below the site's own minimum
17   DataProblem             the source data cannot be used (NaN, truncated, unknown unit, other profile)
18   PortInUse               the address to listen on is taken or not allowed
19   StorageProblem          the disk is full, a file is missing or open to others, a database is damaged
20   PeerProblem             the other side broke the protocol, or a sum was forged
21   CoordinatorUnreachable  no connection to the coordinator within the configured patience
22   StudyStopped            the study ended without completing
23   AlreadyRunning          another process uses the data directory
24   Sealed                  the model failed its audit, was withheld, or was retired
25   StudyDisputed           the sites ended the study with different sums or models; nobody may use any
70   InternalError           a fault in haemfed itself: please report it
130  Interrupted             stopped by Ctrl-C or SIGTERM; nothing is lost
==== ======================= ==========================================================================
"""

# ruff: noqa: N818 -- "PolicyRefusal" says more in a traceback than "PolicyRefusalError"
from collections.abc import Mapping
from typing import ClassVar, Final

__all__ = [
    "AlreadyRunning",
    "BudgetTooSmall",
    "CertificateProblem",
    "CohortTooSmall",
    "ConfigError",
    "CoordinatorUnreachable",
    "DataProblem",
    "InternalError",
    "Interrupted",
    "NodeError",
    "NotInRoster",
    "PeerProblem",
    "PolicyRefusal",
    "PortInUse",
    "Sealed",
    "StorageProblem",
    "StudyDisputed",
    "StudyInvalid",
    "StudyStopped",
    "from_core",
]


class NodeError(Exception):
    """An error for a person: one line that names the thing and the way out, and an exit status.

    Args:
        message: Our own sentence. It never holds a value read from a patient's record. Line breaks are
            folded into spaces, so that a log line and a terminal line are one line.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(NodeError):
    """A configuration or policy file is missing, unreadable or wrong."""

    exit_code = 10


class PolicyRefusal(NodeError):
    """This site's policy does not allow it."""

    exit_code = 11


class StudyInvalid(NodeError):
    """The study is unsigned, edited or not what was approved."""

    exit_code = 12


class CertificateProblem(NodeError):
    """A certificate or key is expired, foreign or damaged."""

    exit_code = 13


class NotInRoster(NodeError):
    """This site is not on the study."""

    exit_code = 14


class BudgetTooSmall(NodeError):
    """The account has too little left for the study."""

    exit_code = 15


class CohortTooSmall(NodeError):
    """The cohort is below the site's own minimum."""

    exit_code = 16


class DataProblem(NodeError):
    """The source data cannot be used (NaN, truncated, unknown unit, other profile)."""

    exit_code = 17


class PortInUse(NodeError):
    """The address to listen on is taken or not allowed."""

    exit_code = 18


class StorageProblem(NodeError):
    """The disk is full, a file is missing or open to others, a database is damaged."""

    exit_code = 19


class PeerProblem(NodeError):
    """The other side broke the protocol, or a sum was forged."""

    exit_code = 20


class CoordinatorUnreachable(NodeError):
    """No connection to the coordinator within the configured patience."""

    exit_code = 21


class StudyStopped(NodeError):
    """The study ended without completing."""

    exit_code = 22


class StudyDisputed(StudyStopped):
    """The sites ended the study with different sums or models; nobody may use any."""

    exit_code = 25


class AlreadyRunning(NodeError):
    """Another process uses the data directory."""

    exit_code = 23


class Sealed(NodeError):
    """The model failed its audit, was withheld, or was retired."""

    exit_code = 24


class InternalError(NodeError):
    """A fault in haemfed itself: please report it."""

    exit_code = 70


class Interrupted(NodeError):
    """Stopped by Ctrl-C or SIGTERM; nothing is lost."""

    exit_code = 130


# By name, not by import: an error that reached us has its package loaded already, and a command that fails
# early must not load torch to learn its exit status. tests/nodes/test_errors.py resolves every name. The most
# derived class that is listed wins.
_CORES: Final[Mapping[tuple[str, str], type[NodeError]]] = {
    ("secagg", "UnpinnedMember"): PolicyRefusal,
    ("secagg", "SnapshotError"): StorageProblem,
    ("secagg", "ConfigError"): StudyInvalid,
    ("secagg", "PeerError"): PeerProblem,
    ("secagg", "SecaggError"): InternalError,
    ("dp", "BudgetExceeded"): BudgetTooSmall,
    ("dp", "ReservationExceeded"): BudgetTooSmall,
    ("dp", "RunReused"): PolicyRefusal,
    ("dp", "ClockWentBack"): ConfigError,
    ("dp", "NotWitnessed"): StudyStopped,
    ("dp", "BudgetOfAnotherKind"): BudgetTooSmall,
    ("dp", "ConfigError"): StudyInvalid,
    ("dp", "LedgerCorrupt"): StorageProblem,
    ("dp", "DPError"): InternalError,
    ("models", "ConfigError"): StudyInvalid,
    ("models", "ArtefactError"): DataProblem,
    ("models", "ModelsError"): InternalError,
    ("harmonize", "ConfigError"): ConfigError,
    ("harmonize", "MisuseError"): InternalError,
    ("harmonize", "NotReady"): CohortTooSmall,
    ("harmonize", "HarmonizeError"): DataProblem,
    ("audits", "PolicyError"): ConfigError,
    ("audits", "CertificateError"): CertificateProblem,
    ("audits", "IntegrityError"): DataProblem,
    ("audits", "AuditError"): InternalError,
}


def from_core(error: BaseException) -> NodeError:
    """Return the error to show for whatever was raised.

    A core's error keeps its sentence, because the cores promise names and sizes only. The text of any other
    exception may quote a record (pandas, a parser), so that only its class is named.

    Args:
        error: Anything caught at the edge of the program.

    Returns:
        ``error`` itself if it is a NodeError; else a NodeError whose class decides the exit status. Chain it:
        ``raise from_core(error) from error``.
    """
    if isinstance(error, NodeError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted; nothing is lost: start the same command again to go on")
    for cls in type(error).__mro__:
        package = cls.__module__.partition(".")[0]
        if (target := _CORES.get((package, cls.__name__))) is not None:
            return target(str(error))
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return InternalError(f"unexpected {name}: a fault in haemfed, please report it with the log file")
