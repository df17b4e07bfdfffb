"""What other sites' ledgers said here last, and the one kind of entry that leaves numbers of the ledger out."""

import sqlalchemy as sa
from alembic import op

revision = "site_0003"
down_revision = "site_0002"

# As in 0001, but for a recovery: it stands where the entries end that are lost here and that peers have seen.
_GROWS = (
    "CREATE TRIGGER ledger_grows_by_one BEFORE INSERT ON ledger "
    "WHEN NEW.sequence < (SELECT COALESCE(MAX(sequence), -1) + 1 FROM ledger) "
    "OR (NEW.kind <> 'recover' AND NEW.sequence <> (SELECT COALESCE(MAX(sequence), -1) + 1 FROM ledger)) "
    "OR NEW.previous <> COALESCE((SELECT hash FROM ledger ORDER BY sequence DESC LIMIT 1), NEW.previous) "
    "OR EXISTS (SELECT 1 FROM ledger WHERE hash = NEW.hash) BEGIN SELECT RAISE(ABORT, 'history'); END"
)

_TRIGGERS = {
    "witnessed_is_new": (
        "BEFORE INSERT ON witnessed WHEN EXISTS (SELECT 1 FROM witnessed WHERE identity = NEW.identity)"
    ),
    "witnessed_keeps_rows": "BEFORE DELETE ON witnessed",
    "witnessed_goes_on": (
        "BEFORE UPDATE ON witnessed WHEN NEW.identity <> OLD.identity OR NEW.sequence < OLD.sequence"
    ),
}


def upgrade() -> None:
    op.create_table(
        "witnessed",
        sa.Column("identity", sa.LargeBinary, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("statement", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.execute("DROP TRIGGER ledger_grows_by_one")
    op.execute(_GROWS)
    for name, when in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'history'); END")
