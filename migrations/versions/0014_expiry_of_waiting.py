"""What expires while it waits is found in the queue, without being claimed.

A worker noticed it only when its turn came: on a paused channel never.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

QUEUE, MESSAGES = "whatsapp_send_queue", "whatsapp_outbound_messages"
INDEX = "ix_whatsapp_send_queue_tenant_id_channel_id_expires_at"
KNOWN_BEFORE = f"""
    UPDATE {QUEUE} q SET expires_at = m.expires_at
    FROM {MESSAGES} m
    WHERE m.tenant_id = q.tenant_id AND m.id = q.id AND m.expires_at IS NOT NULL
"""  # noqa: S608  # our own tables


def upgrade() -> None:
    """Apply."""
    op.add_column(QUEUE, sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    # The owner sees no tenant's rows while row security is forced upon it too.
    for table in (QUEUE, MESSAGES):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(KNOWN_BEFORE)
    for table in (QUEUE, MESSAGES):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    # What waits for proof (lanes from 20 on) does not expire, and would lie in the way.
    op.create_index(
        INDEX,
        QUEUE,
        ["tenant_id", "channel_id", "expires_at"],
        postgresql_where=sa.text("expires_at IS NOT NULL AND lane < 20"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index(INDEX, QUEUE)
    op.drop_column(QUEUE, "expires_at")
