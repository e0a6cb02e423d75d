"""The index of threads serves who names a recipient, and nobody else.

PostgreSQL 18 may skip the columns between a tenant and an id, so that for it any index that holds
both will do to check a reference to a message. While few messages were stored all looked equally
cheap, and a session that had chosen this one went through all of a tenant's recipients for each
report, until PostgreSQL looked at the table again. Every message has a recipient: the condition
leaves none out, and only a statement that names one can use the index.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEX, TABLE = "ix_whatsapp_outbound_messages_thread", "whatsapp_outbound_messages"
BESIDE = f"{INDEX}_beside"
COLUMNS = ["tenant_id", "channel_id", "recipient", "id"]


def upgrade() -> None:
    """Apply."""
    _replace(postgresql_where=sa.text("recipient IS NOT NULL"))


def downgrade() -> None:
    """Undo."""
    _replace()


def _replace(**options: Any) -> None:
    """Make the index anew beside the old one, while messages are stored, sent and listed.

    Of a run that was cut off at any point nothing is in the way of the next one.
    """
    with op.get_context().autocommit_block():
        bound = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")  # What is made beside traffic waits, and blocks nobody.
        op.drop_index(BESIDE, TABLE, if_exists=True, postgresql_concurrently=True)
        op.create_index(BESIDE, TABLE, COLUMNS, postgresql_concurrently=True, **options)
        op.drop_index(INDEX, TABLE, if_exists=True, postgresql_concurrently=True)
        op.execute(f"SET lock_timeout = '{bound}'")
        op.execute(f"ALTER INDEX {BESIDE} RENAME TO {INDEX}")
