"""The index of threads serves who names a recipient, and nobody else.

PostgreSQL 18 may skip the columns between a tenant and an id, so that for it any index that holds
both will do to check a reference to a message. While few messages were stored all looked equally
cheap, and a session that had chosen this one went through all of a tenant's recipients for each
report, until PostgreSQL looked at the table again. Every message has a recipient: the condition
leaves none out, and only a statement that names one can use the index.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEX, TABLE = "ix_whatsapp_outbound_messages_thread", "whatsapp_outbound_messages"
COLUMNS = ["tenant_id", "channel_id", "recipient", "id"]


def upgrade() -> None:
    """Apply."""
    op.drop_index(INDEX, TABLE)
    op.create_index(INDEX, TABLE, COLUMNS, postgresql_where=sa.text("recipient IS NOT NULL"))


def downgrade() -> None:
    """Undo."""
    op.drop_index(INDEX, TABLE)
    op.create_index(INDEX, TABLE, COLUMNS)
