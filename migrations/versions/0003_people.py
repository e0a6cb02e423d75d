"""One person behind several addresses: merged, moved, opted out; threads that can be listed.

Who has merged into whom stays known by the old id. An address that somebody gave up (a changed
number) leads to nobody until whoever has it next writes from it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TIME = sa.DateTime(timezone=True)
NEW_COLUMNS = (
    ("whatsapp_conversations", sa.Column("username", sa.Text(), nullable=True)),
    (
        "whatsapp_conversations",
        sa.Column("marketing_stopped", sa.Boolean(), server_default="false", nullable=False),
    ),
    ("whatsapp_conversations", sa.Column("marketing_at", _TIME, nullable=True)),
    ("whatsapp_conversations", sa.Column("merged_into", sa.Uuid(), nullable=True)),
    (
        "whatsapp_conversations",
        sa.Column(
            "former",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="[]",
            nullable=False,
        ),
    ),
    ("whatsapp_conversation_addresses", sa.Column("arrived_at", _TIME, nullable=True)),
    ("whatsapp_conversation_addresses", sa.Column("left_at", _TIME, nullable=True)),
    ("whatsapp_conversation_addresses", sa.Column("taken_at", _TIME, nullable=True)),
    (
        "whatsapp_channels",
        sa.Column("marketing_policy", sa.Text(), server_default="enforce", nullable=False),
    ),
    ("whatsapp_inbound_messages", sa.Column("author", sa.Text(), nullable=True)),
)


def upgrade() -> None:
    """Apply."""
    for table, column in NEW_COLUMNS:
        op.add_column(table, column)
    op.create_check_constraint(
        op.f("ck_whatsapp_channels_marketing_policy"),
        "whatsapp_channels",
        "marketing_policy IN ('enforce', 'allow')",
    )
    op.execute(
        "UPDATE whatsapp_inbound_messages SET author = coalesce(sender, sender_user_id) "
        "WHERE raw ->> 'group_id' IS NULL"
    )
    op.create_index(
        "ix_whatsapp_inbound_messages_thread",
        "whatsapp_inbound_messages",
        ["tenant_id", "channel_id", "author", "id"],
        postgresql_where=sa.text("author IS NOT NULL"),
    )
    op.create_index(
        "ix_whatsapp_outbound_messages_thread",
        "whatsapp_outbound_messages",
        ["tenant_id", "channel_id", "recipient", "id"],
    )
    op.create_index(
        "ix_whatsapp_conversations_latest",
        "whatsapp_conversations",
        ["tenant_id", "channel_id", "last_message_at", "id"],
        postgresql_where=sa.text("last_message_at IS NOT NULL"),
    )
    op.create_index(
        "ix_whatsapp_conversations_unread",
        "whatsapp_conversations",
        ["tenant_id", "channel_id", "last_message_at", "id"],
        postgresql_where=sa.text("unread_count > 0"),
    )
    op.create_index(
        "ix_whatsapp_conversations_merged",
        "whatsapp_conversations",
        ["tenant_id", "merged_into"],
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )


def downgrade() -> None:
    """Undo; people who were merged stay merged."""
    op.execute("DELETE FROM whatsapp_conversations WHERE merged_into IS NOT NULL")
    op.drop_index("ix_whatsapp_conversations_merged", "whatsapp_conversations")
    op.drop_index("ix_whatsapp_conversations_unread", "whatsapp_conversations")
    op.drop_index("ix_whatsapp_conversations_latest", "whatsapp_conversations")
    op.drop_index("ix_whatsapp_outbound_messages_thread", "whatsapp_outbound_messages")
    op.drop_index("ix_whatsapp_inbound_messages_thread", "whatsapp_inbound_messages")
    for table, column in reversed(NEW_COLUMNS):
        op.drop_column(table, column.name)
