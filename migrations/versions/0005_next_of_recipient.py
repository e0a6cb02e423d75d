"""Find who comes forward among the recipient's own entries, however old the trigger's plan is.

A connection keeps the plan of the trigger's query. One that was made while the queue was empty
walked through all of a tenant's entries, in the order of their ids, for each entry that left.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The loop is for a next entry that is cancelled while we wait for its lock: look again. Each
# query of the function sees what was committed by then, unlike the statement that fired it.
BRING_FORWARD = """
CREATE OR REPLACE FUNCTION whatsapp_send_queue_bring_forward() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    heads uuid[];
BEGIN
    LOOP
        SELECT array_agg(DISTINCT next.id) INTO heads
        FROM gone CROSS JOIN LATERAL (
            SELECT q.id, q.lane FROM whatsapp_send_queue q
            WHERE q.tenant_id = gone.tenant_id AND q.recipient_key {same}
              AND NOT (q.state = 'ready' AND q.due_at > now() AND q.lease_until IS NULL)
            ORDER BY {order} LIMIT 1
        ) next
        WHERE next.lane < 0;
        EXIT WHEN heads IS NULL;
        UPDATE whatsapp_send_queue q SET lane = q.lane + 10
        FROM (SELECT DISTINCT tenant_id FROM gone) t
        WHERE q.tenant_id = t.tenant_id AND q.id = ANY(heads) AND q.lane < 0;
    END LOOP;
    RETURN NULL;
END
$$
"""
# To a plan without knowledge all indexes cost the same. Written as a range and not as an equality,
# the order by recipient and id is one that only the recipients' index has.
SAME, ORDER = "BETWEEN gone.recipient_key AND gone.recipient_key", "q.recipient_key, q.id"
SAME_BEFORE, ORDER_BEFORE = "= gone.recipient_key", "q.id"


def upgrade() -> None:
    """Apply."""
    op.execute(BRING_FORWARD.format(same=SAME, order=ORDER))


def downgrade() -> None:
    """Undo."""
    op.execute(BRING_FORWARD.format(same=SAME_BEFORE, order=ORDER_BEFORE))
