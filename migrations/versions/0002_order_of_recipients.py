"""Each recipient's entries wait behind their first; channels may do without that order.

Entries behind the first of their recipient stand in lanes below zero, where claiming never meets
them. Whatever takes an entry out of the queue brings the next one forward, by trigger: there are
many such statements, and one that forgot would leave a conversation silent for good.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TENANT = "nullif(current_setting('app.jwt_tenant', true), '')::uuid"

# The loop is for a next entry that is cancelled while we wait for its lock: look again. Each
# query of the function sees what was committed by then, unlike the statement that fired it.
BRING_FORWARD = """
CREATE FUNCTION whatsapp_send_queue_bring_forward() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    heads uuid[];
BEGIN
    LOOP
        SELECT array_agg(DISTINCT next.id) INTO heads
        FROM gone CROSS JOIN LATERAL (
            SELECT q.id, q.lane FROM whatsapp_send_queue q
            WHERE q.tenant_id = gone.tenant_id AND q.recipient_key = gone.recipient_key
              AND NOT (q.state = 'ready' AND q.due_at > now() AND q.lease_until IS NULL)
            ORDER BY q.id LIMIT 1
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


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "whatsapp_channels",
        sa.Column("keeps_order", sa.Boolean(), server_default="true", nullable=False),
    )
    op.execute("GRANT UPDATE (due_at) ON whatsapp_send_queue TO tellwire_dispatch")
    op.execute(BRING_FORWARD)
    op.execute(
        "CREATE TRIGGER bring_forward AFTER DELETE ON whatsapp_send_queue "
        "REFERENCING OLD TABLE AS gone "
        "FOR EACH STATEMENT EXECUTE FUNCTION whatsapp_send_queue_bring_forward()"
    )
    # Where a message is deleted, its entry goes by cascade, and PostgreSQL 18 runs the trigger as
    # who cascades: the owner. It sees the current tenant's entries then, and otherwise none.
    op.execute(
        f"CREATE POLICY cascade ON whatsapp_send_queue TO tellwire_owner "
        f"USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})"
    )


def downgrade() -> None:
    """Undo."""
    op.execute("DROP POLICY cascade ON whatsapp_send_queue")
    op.execute("DROP TRIGGER bring_forward ON whatsapp_send_queue")
    op.execute("DROP FUNCTION whatsapp_send_queue_bring_forward()")
    op.execute("UPDATE whatsapp_send_queue SET lane = lane + 10 WHERE lane < 0")
    op.execute("REVOKE UPDATE (due_at) ON whatsapp_send_queue FROM tellwire_dispatch")
    op.drop_column("whatsapp_channels", "keeps_order")
