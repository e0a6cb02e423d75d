"""What waits for one person waits under one key, however their number was written.

The keys were made of the recipient as it was written. Now both spellings of a number have one, and
PostgreSQL makes it, so that what goes to a user id can have that of the number it is known by.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

QUEUE, MESSAGES = "whatsapp_send_queue", "whatsapp_outbound_messages"
# Brazil's ninth digit, Mexico's and Argentina's mobile prefix.
OPTIONAL_DIGIT = (
    r"^(\+55[1-9]{2})9([6-9][0-9]{7})$|^(\+52)1([2-9][0-9]{9})$|^(\+54)9([1-8][0-9]{9})$"
)
# What waits for proof beyond its deadline, or is sent once more then, has its own id for a key, so
# that it holds up nobody.
ONE_KEY = rf"""
    UPDATE {QUEUE} q SET recipient_key = hashtextextended(
        CAST(m.channel_id AS text) || ':'
            || regexp_replace(m.recipient, '{OPTIONAL_DIGIT}', '\1\2\3\4\5\6'), 0)
    FROM {MESSAGES} m
    WHERE m.tenant_id = q.tenant_id AND m.id = q.id
      AND q.recipient_key <> hashtextextended(CAST(q.id AS text), 0)
"""  # noqa: S608  # our own tables


def upgrade() -> None:
    """Apply."""
    # The owner sees no tenant's rows while row security is forced upon it too.
    for table in (QUEUE, MESSAGES):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(ONE_KEY)
    for table in (QUEUE, MESSAGES):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    """Undo: nothing. What waits keeps its keys, and its order among itself."""
