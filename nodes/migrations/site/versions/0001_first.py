"""Ledger, runs, approvals, uploads, sums; history is append-only by trigger."""

import sqlalchemy as sa
from alembic import op

revision = "site_0001"
down_revision = None

# A change of history must fail whoever tries it: an operator with a SQL prompt, a bug, a later migration.
# The conditions on INSERT stand against INSERT OR REPLACE, which fires no DELETE trigger by default.
TRIGGERS = {
    "ledger_grows_by_one": (
        "BEFORE INSERT ON ledger WHEN NEW.sequence <> (SELECT COALESCE(MAX(sequence), -1) + 1 FROM ledger) "
        "OR NEW.previous <> COALESCE((SELECT hash FROM ledger ORDER BY sequence DESC LIMIT 1), NEW.previous) "
        "OR EXISTS (SELECT 1 FROM ledger WHERE hash = NEW.hash)"
    ),
    "run_is_new": "BEFORE INSERT ON run WHEN EXISTS (SELECT 1 FROM run WHERE run_id = NEW.run_id)",
    "upload_is_new": (
        "BEFORE INSERT ON upload WHEN EXISTS (SELECT 1 FROM upload WHERE context = NEW.context "
        "OR charged_by = NEW.charged_by OR (run_id = NEW.run_id AND round = NEW.round))"
    ),
    "sum_is_new": (
        "BEFORE INSERT ON sum WHEN EXISTS (SELECT 1 FROM sum WHERE run_id = NEW.run_id AND position = NEW.position)"
    ),
    "ledger_keeps_rows": "BEFORE DELETE ON ledger",
    "ledger_keeps_values": "BEFORE UPDATE ON ledger",
    "run_keeps_rows": "BEFORE DELETE ON run",
    "run_keeps_values": (
        "BEFORE UPDATE ON run WHEN NEW.run_id <> OLD.run_id OR NEW.study_digest <> OLD.study_digest "
        "OR NEW.last_round < OLD.last_round OR NEW.reserved_by <> OLD.reserved_by "
        "OR (OLD.outcome IS NOT NULL AND NEW.outcome IS NOT OLD.outcome)"
    ),
    "approval_keeps_rows": "BEFORE DELETE ON approval",
    "approval_keeps_values": "BEFORE UPDATE ON approval WHEN OLD.run_id IS NOT NULL",
    "upload_keeps_rows": "BEFORE DELETE ON upload",
    "upload_only_erases": (
        "BEFORE UPDATE ON upload WHEN NEW.run_id <> OLD.run_id OR NEW.round <> OLD.round "
        "OR NEW.context <> OLD.context OR NEW.charged_by <> OLD.charged_by OR NEW.payload IS NOT NULL"
    ),
    "sum_keeps_rows": "BEFORE DELETE ON sum",
    "sum_keeps_values": "BEFORE UPDATE ON sum",
}


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "run",
        sa.Column("run_id", sa.LargeBinary, primary_key=True),
        sa.Column("study_digest", sa.LargeBinary, nullable=False),
        sa.Column("last_round", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("reserved_by", sa.Integer, sa.ForeignKey("ledger.sequence"), nullable=False),
    )
    op.create_table(
        "approval",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("study_digest", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("run_id", sa.LargeBinary, sa.ForeignKey("run.run_id"), unique=True),
    )
    op.create_index("approval_open", "approval", ["study_digest"], unique=True, sqlite_where=sa.text("run_id IS NULL"))
    op.create_table(
        "upload",
        sa.Column("run_id", sa.LargeBinary, sa.ForeignKey("run.run_id"), primary_key=True),
        sa.Column("round", sa.BigInteger, primary_key=True),
        sa.Column("context", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("charged_by", sa.Integer, sa.ForeignKey("ledger.sequence"), nullable=False, unique=True),
    )
    op.create_table(
        "sum",
        sa.Column("run_id", sa.LargeBinary, sa.ForeignKey("run.run_id"), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("roster", sa.Text, nullable=False),
        sa.Column("words", sa.LargeBinary, nullable=False),
    )
    for name, when in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'history'); END")
