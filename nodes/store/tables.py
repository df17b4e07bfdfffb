"""The two schemas: what a site keeps and what a coordinator keeps.

The tables themselves are made by ``nodes/migrations``; a test compares the two.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Approval",
    "CoordinatorTables",
    "Ledger",
    "RelayedSetup",
    "Run",
    "ServedRun",
    "ServedSum",
    "SiteTables",
    "Sum",
    "Upload",
    "Witnessed",
]

# SQLite numbers rows by itself only in a column declared INTEGER.
_COUNTER = BigInteger().with_variant(Integer, "sqlite")


class SiteTables(DeclarativeBase):
    """Schema of a site's database."""


class Ledger(SiteTables):
    """Append-only by trigger: no row is ever changed or removed."""

    __tablename__ = "ledger"

    sequence: Mapped[int] = mapped_column(_COUNTER, primary_key=True, autoincrement=False)
    previous: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    at: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(Text, unique=True)


class Run(SiteTables):
    """One row per run id, for ever: a used run id is refused."""

    __tablename__ = "run"

    run_id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    study_digest: Mapped[bytes] = mapped_column(LargeBinary)
    last_round: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str | None] = mapped_column(Text)
    reserved_by: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"))


class Approval(SiteTables):
    """A person's yes to one run of a study; at most one is open per study."""

    __tablename__ = "approval"
    __table_args__ = (Index("approval_open", "study_digest", unique=True, sqlite_where=text("run_id IS NULL")),)

    number: Mapped[int] = mapped_column(_COUNTER, primary_key=True)
    study_digest: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[str] = mapped_column(Text)
    run_id: Mapped[bytes | None] = mapped_column(ForeignKey("run.run_id"), unique=True)


class Upload(SiteTables):
    """One row per upload ever made. ``payload`` is erased once it can no longer be asked for."""

    __tablename__ = "upload"

    run_id: Mapped[bytes] = mapped_column(ForeignKey("run.run_id"), primary_key=True)
    round: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    context: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    payload: Mapped[bytes | None] = mapped_column(LargeBinary)
    charged_by: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"), unique=True)


class Sum(SiteTables):
    """The sums that this site verified and applied; ``survivors`` as member indices, spaced."""

    __tablename__ = "sum"

    run_id: Mapped[bytes] = mapped_column(ForeignKey("run.run_id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    round: Mapped[int] = mapped_column(BigInteger)
    roster: Mapped[str] = mapped_column(Text)
    survivors: Mapped[str] = mapped_column(Text)
    words: Mapped[bytes] = mapped_column(LargeBinary)


class Witnessed(SiteTables):
    """The newest statement that another site's ledger made here, signed by that site; it never goes back."""

    __tablename__ = "witnessed"

    identity: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    statement: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)


class CoordinatorTables(DeclarativeBase):
    """Schema of a coordinator's database."""


class ServedRun(CoordinatorTables):
    """One row per run; ``roster`` (member indices, spaced) and ``changes`` belong to the last round."""

    __tablename__ = "run"

    run_id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    last_round: Mapped[int] = mapped_column(BigInteger)
    roster: Mapped[str] = mapped_column(Text)
    changes: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str | None] = mapped_column(Text)
    ok: Mapped[bool | None] = mapped_column()


class ServedSum(CoordinatorTables):
    """The sums, each stored before it was sent; ``survivors`` as member indices, spaced."""

    __tablename__ = "sum"

    run_id: Mapped[bytes] = mapped_column(ForeignKey("run.run_id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    round: Mapped[int] = mapped_column(BigInteger)
    roster: Mapped[str] = mapped_column(Text)
    survivors: Mapped[str] = mapped_column(Text)
    words: Mapped[bytes] = mapped_column(LargeBinary)


class RelayedSetup(CoordinatorTables):
    """Set-up messages, in the order of arrival; ``member`` 0 is the coordinator itself."""

    __tablename__ = "setup"
    __table_args__ = (UniqueConstraint("run_id", "kind", "member", "digest"),)

    number: Mapped[int] = mapped_column(_COUNTER, primary_key=True)
    run_id: Mapped[bytes] = mapped_column(ForeignKey("run.run_id"))
    kind: Mapped[str] = mapped_column(Text)
    member: Mapped[int] = mapped_column(Integer)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
