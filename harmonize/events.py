"""What every source yields, whatever its format: patients, facts about them, and issues.

A source translates; it decides nothing. Which of several measurements counts, what is out of range and who is
in the cohort is decided once, in `harmonize.table`, from this stream.
"""

__all__ = ["FACTS", "Event", "Fact", "Issue", "Item", "PatientRecord", "Pointer", "Severity", "State"]

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, StrEnum


class State(IntEnum):
    """What is known about one value: stored beside it in the table (`<variable>__m`)."""

    VALUE = 0  # measured and usable
    NOT_RECORDED = 1  # the source says nothing
    UNKNOWN = 2  # the source says that it is not known
    NOT_TESTED = 3  # the source says that the test was not done
    TESTED_NEGATIVE = 4  # tested and negative; the value is the variable's zero (genes: a later profile)
    INVALID = 5  # the source has something that cannot be used: unit, range, notation, contradiction
    BELOW_LIMIT = 6  # "<": the value is the detection limit
    ABOVE_LIMIT = 7  # ">": the value is the limit
    OTHER = 8  # a known category that models do not use

    @property
    def usable(self) -> bool:
        """Whether a number stands in the column."""
        return self in _USABLE


_USABLE = frozenset({State.VALUE, State.TESTED_NEGATIVE, State.BELOW_LIMIT, State.ABOVE_LIMIT})


class Severity(StrEnum):
    """Severities of FHIR's OperationOutcome."""

    FATAL = "fatal"
    ERROR = "error"  # something of the source is not used
    WARNING = "warning"  # used, but somebody should look
    INFORMATION = "information"


class Fact(StrEnum):
    """Facts of a patient that are not variables of the profile."""

    BIRTH_DATE = "birth_date"
    INDEX_DATE = "index_date"
    DECEASED = "deceased"
    DEATH_DATE = "death_date"
    LAST_FOLLOW_UP = "last_follow_up"


FACTS = frozenset(str(fact) for fact in Fact)


@dataclass(frozen=True, slots=True)
class Pointer:
    """A place in a source: for the local report only.

    Attributes:
        file: file name without its folder.
        line: line of a text file, or entry of a Bundle, from 1; 0 means the file as a whole.
        field: column of a CSV file, or JSON path in a resource; may be empty.
    """

    file: str
    line: int = 0
    field: str = ""


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding. Never holds a value: the place leads to it for those who may see it.

    Attributes:
        code: one of `harmonize.quality.CODES`.
        variable: the variable or fact concerned, or "".
    """

    code: str
    where: Pointer
    variable: str = ""


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """A record (Patient resource, CSV row) that introduces a patient.

    Attributes:
        keys: every reference under which facts may point to this patient inside this source.
        system: identifier system, the same in every source of a site.
        identifier: the hospital's own identifier; pseudonymised in the table.
        fingerprint: equal for two records that say the same about the patient.
        version: ISO time of the record's last change; "" if the source has none. The newest of contradicting
            records wins; without versions the patient is left out.
    """

    keys: tuple[str, ...] = field(repr=False)
    system: str
    identifier: str = field(repr=False)
    fingerprint: str = field(repr=False)
    version: str
    where: Pointer


@dataclass(frozen=True, slots=True)
class Event:
    """One fact about one patient, as the source has it (units and codes not yet converted).

    Attributes:
        patient: a key of some `PatientRecord` (it may come later in the stream).
        variable: a variable of the profile, or a `Fact`.
        value: number, category, date or truth; None when `state` says why there is none.
        unit: unit as written; None if the source has none.
        time: day of the measurement; None means "at index diagnosis".
        where: place in the source; facts at the place of a superseded PatientRecord go with it.
    """

    patient: str = field(repr=False)
    variable: str
    value: Decimal | str | dt.date | bool | None = field(repr=False)
    where: Pointer
    unit: str | None = None
    time: dt.date | None = field(default=None, repr=False)
    state: State = State.VALUE


Item = Event | PatientRecord | Issue
