"""Runs, set-up messages, sums."""

import sqlalchemy as sa
from alembic import op

revision = "coordinator_0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "run",
        sa.Column("run_id", sa.LargeBinary, primary_key=True),
        sa.Column("last_round", sa.BigInteger, nullable=False),
        sa.Column("roster", sa.Text, nullable=False),
        sa.Column("changes", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("ok", sa.Boolean),
    )
    op.create_table(
        "sum",
        sa.Column("run_id", sa.LargeBinary, sa.ForeignKey("run.run_id"), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("roster", sa.Text, nullable=False),
        sa.Column("words", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "setup",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("run_id", sa.LargeBinary, sa.ForeignKey("run.run_id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("member", sa.Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("run_id", "kind", "member", "digest"),
    )
