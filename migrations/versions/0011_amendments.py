"""Edits and removals are found by the message that they are about."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLE = "whatsapp_inbound_messages"
# The owner sees no tenant's rows while row security is forced upon it too.
KNOWN_BEFORE = f"""
    UPDATE {TABLE} SET amends = body ->> 'original_message_id'
    WHERE type IN ('edit', 'revoke') AND length(body ->> 'original_message_id') BETWEEN 1 AND 512
      AND (type = 'revoke' OR body -> 'message' -> (body -> 'message' ->> 'type') IS NOT NULL)
"""  # noqa: S608  # our own table


def upgrade() -> None:
    """Apply."""
    op.add_column(TABLE, sa.Column("amends", sa.Text(), nullable=True))
    op.execute(f"ALTER TABLE {TABLE} NO FORCE ROW LEVEL SECURITY")
    op.execute(KNOWN_BEFORE)
    op.execute(f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY")
    op.create_index(
        "ix_whatsapp_inbound_messages_amends",
        TABLE,
        ["tenant_id", "channel_id", "amends"],
        postgresql_where=sa.text("amends IS NOT NULL"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_whatsapp_inbound_messages_amends", TABLE)
    op.drop_column(TABLE, "amends")
