"""What every source yields, whatever its format: patients, facts about them, and issues.

A source translates; it decides nothing. Which of several measurements counts, what is out of range and who is
in the cohort is decided once, in `harmonize.table`, from this stream.

What comes by the hundred thousand (events, places, issues) are msgspec Structs: made in a sixth of the time of a
frozen dataclass, and, holding nothing that can point back at them, unknown to the garbage collector.
"""

__all__ = [
    "FACTS",
    "Event",
    "Fact",
    "Issue",
    "Item",
    "PatientRecord",
    "Pointer",
    "Severity",
    "State",
    "Value",
    "Variant",
    "Withdrawn",
]

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, StrEnum

from msgspec import Struct


class State(IntEnum):
    """What is known about one value: stored beside it in the table (`<variable>__m`)."""

    VALUE = 0  # measured and usable
    NOT_RECORDED = 1  # the source says nothing
    UNKNOWN = 2  # the source says that it is not known
    NOT_TESTED = 3  # the source says that the test was not done
    TESTED_NEGATIVE = 4  # tested and negative: the value is the variable's zero
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
    KARYOTYPE = "karyotype"  # ISCN text
    VARIANT = "variant"  # a `Variant`
    GENES_TESTED = "genes_tested"  # HGNC ids, with or without a finding


FACTS = frozenset(str(fact) for fact in Fact)


class Pointer(Struct, frozen=True, gc=False):
    """A place in a source: for the local report only.

    Attributes:
        file: file name without its folder.
        line: line of a text file, or entry of a Bundle, from 1; 0 means the file as a whole.
        field: column of a CSV file, or JSON path in a resource; may be empty.
    """

    file: str
    line: int = 0
    field: str = ""


class Issue(Struct, frozen=True, gc=False):
    """One finding. Never holds a value: the place leads to it for those who may see it.

    Attributes:
        code: one of `harmonize.reporting.quality.CODES`.
        variable: the variable or fact concerned, or "".
        count: how many equal findings this one stands for; `where` is the first.
    """

    code: str
    where: Pointer
    variable: str = ""
    count: int = 1


class Variant(Struct, frozen=True, gc=False):
    """One finding about one gene, as a source has it.

    Attributes:
        hgnc: id of the gene.
        present: true; false = looked for and not there; None = no call, indeterminate.
        vaf: allele fraction, 0 … 1; None if not stated.
        protein, coding: HGVS p. and c. without the reference sequence, or "".
        effect: change type in words or Sequence Ontology, as written, or "" (insertion, ITD, PTD, frameshift, …).
    """

    hgnc: int
    present: bool | None = True
    vaf: Decimal | None = None
    protein: str = ""
    coding: str = ""
    effect: str = ""

    def __repr__(self) -> str:
        """The gene and what is known of it: nothing that tells a patient."""
        return f"Variant(hgnc={self.hgnc!r}, present={self.present!r})"


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """A record (Patient resource, CSV row) that introduces a patient.

    Attributes:
        keys: every reference under which facts may point to this patient inside this source.
        system: identifier system, the same in every source of a site.
        identifier: the hospital's own identifier; pseudonymised in the table.
        fingerprint: equal for two records that say the same about the patient.
        version: instant of the record's last change, with time zone; "" (or what is no instant) if the source has
            none. The newest of contradicting records wins; without versions the patient is left out.
    """

    keys: tuple[str, ...] = field(repr=False)
    system: str
    identifier: str = field(repr=False)
    fingerprint: str = field(repr=False)
    version: str
    where: Pointer


Value = Decimal | str | dt.date | bool | Variant | frozenset[int] | tuple[float, ...]


class Event(Struct, frozen=True, gc=False):
    """One fact about one patient, as the source has it (units and codes not yet converted).

    Attributes:
        patient: a key of some `PatientRecord` (it may come later in the stream).
        variable: a variable or another outcome of the profile, or a `Fact`.
        value: None when `state` says why there is none; else

            | variable               | value                                              |
            |------------------------|----------------------------------------------------|
            | lab, age               | Decimal, in `unit`                                 |
            | code                   | category                                           |
            | cytogenetic            | true, false, or Decimal (a class or count)         |
            | variant                | true, false, or Decimal (allele fraction)          |
            | features               | tuple of float                                     |
            | outcome                | date of the event; false = has not happened        |
            | `Fact`                 | date, truth, text, `Variant` or set of HGNC ids    |
        unit: unit as written; None if the source has none.
        time: day of the measurement; None means "at index diagnosis".
        where: place in the source; facts at the place of a superseded PatientRecord go with it.
        code: "system|code" that named the variable, for the local report; "" where the column says it.
    """

    patient: str
    variable: str
    value: Value | None
    where: Pointer
    unit: str | None = None
    time: dt.date | None = None
    state: State = State.VALUE
    code: str = ""

    def __repr__(self) -> str:
        """Names and place only: no patient, no value, no day."""
        return f"Event(variable={self.variable!r}, where={self.where!r}, unit={self.unit!r}, state={self.state!r})"


class Withdrawn(Struct, frozen=True, gc=False):
    """Facts at a place do not count after all: an older version of the resource, or a copy of it.

    Comes after the facts that it withdraws, since the better version may be the last thing in a source.

    Attributes:
        where: file and line; every `Event` of this file and line is meant.
    """

    where: Pointer


Item = Event | PatientRecord | Issue | Withdrawn
