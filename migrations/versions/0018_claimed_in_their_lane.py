"""What is claimed stands in its own lane, also where it was claimed from behind an earlier one.

A channel that gave up its order sent messages out of the lanes of those that wait. From there their
retries and unknown outcomes came into lanes in which nobody looks for them.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

QUEUE = "whatsapp_send_queue"
# Retries are in lanes 10 to 12, unknown outcomes in 20 to 22, and what waits for others below zero.
TO_THEIR_LANE = f"""
    UPDATE {QUEUE} SET lane = lane + 10
    WHERE (state = 'retrying' AND lane < 10) OR (state = 'unknown' AND lane < 20)
       OR (state IN ('leased', 'dispatching') AND lane < 0)
"""  # noqa: S608  # our own table


def upgrade() -> None:
    """Apply."""
    op.execute(f"GRANT UPDATE (lane) ON {QUEUE} TO tellwire_dispatch")
    # The owner sees no tenant's rows while row security is forced upon it too.
    op.execute(f"ALTER TABLE {QUEUE} NO FORCE ROW LEVEL SECURITY")
    op.execute(TO_THEIR_LANE)
    op.execute(f"ALTER TABLE {QUEUE} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    """Undo."""
    op.execute(f"REVOKE UPDATE (lane) ON {QUEUE} FROM tellwire_dispatch")
