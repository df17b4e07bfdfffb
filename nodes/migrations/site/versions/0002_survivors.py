"""Whose uploads are in a sum: so far always the whole roster's."""

import json

import sqlalchemy as sa
from alembic import op

revision = "site_0002"
down_revision = "site_0001"

_GUARD = "CREATE TRIGGER sum_keeps_values BEFORE UPDATE ON sum BEGIN SELECT RAISE(ABORT, 'history'); END"


def upgrade() -> None:
    op.add_column("sum", sa.Column("survivors", sa.Text, nullable=False, server_default=""))
    total = sa.table(
        "sum",
        sa.column("run_id", sa.LargeBinary),
        sa.column("position", sa.BigInteger),
        sa.column("roster", sa.Text),
        sa.column("survivors", sa.Text),
    )
    connection = op.get_bind()
    # History is completed here, not changed: the trigger is away inside this one transaction only.
    op.execute("DROP TRIGGER sum_keeps_values")
    for run_id, position, roster in connection.execute(
        sa.select(total.c.run_id, total.c.position, total.c.roster)
    ).all():
        members = " ".join(str(member) for member, _ in json.loads(roster))
        row = (total.c.run_id == run_id) & (total.c.position == position)
        connection.execute(sa.update(total).where(row).values(survivors=members))
    op.execute(_GUARD)
