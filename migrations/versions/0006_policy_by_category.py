"""Unknown outcomes are decided by category unless a channel wants otherwise."""

from collections.abc import Sequence

from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLE, COLUMN = "whatsapp_channels", "on_unknown"


def _allow(default: str, *policies: str) -> None:
    name = op.f(f"ck_{TABLE}_{COLUMN}")
    op.drop_constraint(name, TABLE)
    op.create_check_constraint(name, TABLE, f"{COLUMN} IN {policies!r}")
    op.alter_column(TABLE, COLUMN, server_default=default)


def upgrade() -> None:
    """Apply. Channels that exist keep what they have: nobody can tell whether it was chosen."""
    _allow("category", "category", "fail", "resend", "hold")


def downgrade() -> None:
    """Undo."""
    # Forced policies show the owner no row of any tenant.
    op.execute(f"ALTER TABLE {TABLE} NO FORCE ROW LEVEL SECURITY")
    op.execute(f"UPDATE {TABLE} SET {COLUMN} = 'fail' WHERE {COLUMN} = 'category'")  # noqa: S608  # ours
    op.execute(f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY")
    _allow("fail", "fail", "resend", "hold")
