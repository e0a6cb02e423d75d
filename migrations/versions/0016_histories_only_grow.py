"""Histories only grow, and a number's rest outlives Redis.

What has happened is written once: the application may add to a history and not rewrite it.

It had every right on these tables and made no use of most. What goes with its message, its channel
or its tenant goes by the references, which need no right of the application's.

Until when Meta's restriction lets a number rest stood in Redis alone.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TAKEN = {
    "whatsapp_status_events": "UPDATE, DELETE",
    "whatsapp_message_attempts": "UPDATE, DELETE",
    # Old ones are forgotten.
    "events": "UPDATE",
    "webhook_deliveries": "UPDATE",
    # Deleted by hand, as outbound messages are.
    "whatsapp_inbound_messages": "UPDATE",
}
LEFT = {
    # A report that came before its message's wamid was known is given to its message later.
    "whatsapp_status_events": "message_id",
    # Storing a message once more writes its wamid over itself, to get the stored row.
    "whatsapp_inbound_messages": "wamid",
}


def upgrade() -> None:
    """Apply."""
    for table, rights in TAKEN.items():
        op.execute(f"REVOKE {rights} ON {table} FROM tellwire_app")
    for table, column in LEFT.items():
        op.execute(f"GRANT UPDATE ({column}) ON {table} TO tellwire_app")
    op.add_column("whatsapp_channels", sa.Column("rests_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Undo."""
    op.drop_column("whatsapp_channels", "rests_until")
    for table, column in LEFT.items():
        op.execute(f"REVOKE UPDATE ({column}) ON {table} FROM tellwire_app")
    for table, rights in TAKEN.items():
        op.execute(f"GRANT {rights} ON {table} TO tellwire_app")
