"""Events of decisions that belong to no attempt; what was put aside can be processed anew.

An event without an attempt is one that Tellwire decided by itself (cancelled, expired, given up):
such a thing may happen to one message several times before anything is sent.

What lies in quarantine from before this revision has no body of its own and stays to be looked at.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Apply."""
    op.alter_column("events", "attempt", nullable=True)
    op.add_column("webhook_inbox", sa.Column("origin_id", sa.Uuid(), nullable=True))
    op.add_column("webhook_quarantine", sa.Column("body", sa.LargeBinary(), nullable=True))
    for table in QUEUES:
        op.add_column(
            table, sa.Column("requeues", sa.SmallInteger(), server_default="0", nullable=False)
        )
    op.execute("GRANT INSERT ON webhook_inbox TO tellwire_process")
    # PostgreSQL lets nobody lock a row who may not change any of it.
    op.execute("GRANT UPDATE (requeues) ON webhook_quarantine TO tellwire_process")


QUEUES = ("webhook_inbox", "webhook_quarantine")


def downgrade() -> None:
    """Undo. Events without an attempt go: nothing before this revision can hold them."""
    op.execute("REVOKE INSERT ON webhook_inbox FROM tellwire_process")
    op.execute("REVOKE UPDATE (requeues) ON webhook_quarantine FROM tellwire_process")
    for table in QUEUES:
        op.drop_column(table, "requeues")
    op.drop_column("webhook_quarantine", "body")
    op.drop_column("webhook_inbox", "origin_id")
    # Forced policies show the owner no row of any tenant.
    op.execute("ALTER TABLE events NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM events WHERE attempt IS NULL")
    op.execute("ALTER TABLE events FORCE ROW LEVEL SECURITY")
    op.alter_column("events", "attempt", nullable=False)
