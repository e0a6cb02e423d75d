"""What tenants are told: their events, the endpoints they go to, what waits and what was tried.

Events are numbered per tenant under the lock of `event_streams`, so that numbers become visible in
order. Of the deliveries the dispatching role sees the queue alone: which endpoint of which tenant
is due, never an event, a URL or a secret.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TENANT = "nullif(current_setting('app.jwt_tenant', true), '')::uuid"

TABLES = {
    "event_streams": """
        CREATE TABLE event_streams (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            last_number bigint NOT NULL,
            forgotten_number bigint NOT NULL,
            is_open boolean NOT NULL,
            CONSTRAINT pk_event_streams PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_event_streams_tenants FOREIGN KEY (tenant_id)
                REFERENCES tenants (id) ON DELETE CASCADE
        ) WITH (fillfactor = 50)
    """,
    "events": """
        CREATE TABLE events (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            number bigint NOT NULL,
            type text NOT NULL,
            subject_id uuid,
            attempt smallint NOT NULL,
            channel_id uuid,
            data jsonb NOT NULL,
            meta jsonb,
            occurred_at timestamptz NOT NULL,
            recorded_at timestamptz DEFAULT now() NOT NULL,
            CONSTRAINT pk_events PRIMARY KEY (tenant_id, id),
            CONSTRAINT uq_events_told UNIQUE (tenant_id, subject_id, type, attempt),
            CONSTRAINT fk_events_tenants FOREIGN KEY (tenant_id)
                REFERENCES tenants (id) ON DELETE CASCADE
        )
    """,
    "webhook_endpoints": """
        CREATE TABLE webhook_endpoints (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            url text NOT NULL,
            description text NOT NULL,
            event_types jsonb NOT NULL,
            channel_ids jsonb NOT NULL,
            format text NOT NULL,
            secret bytea NOT NULL,
            previous_secret bytea,
            previous_secret_until timestamptz,
            is_enabled boolean NOT NULL,
            disabled_reason text,
            failing_since timestamptz,
            created_at timestamptz DEFAULT now() NOT NULL,
            updated_at timestamptz DEFAULT now() NOT NULL,
            CONSTRAINT pk_webhook_endpoints PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_webhook_endpoints_tenants FOREIGN KEY (tenant_id)
                REFERENCES tenants (id) ON DELETE CASCADE,
            CONSTRAINT ck_webhook_endpoints_format CHECK (format IN ('tellwire', 'meta'))
        )
    """,
    "webhook_delivery_queue": """
        CREATE TABLE webhook_delivery_queue (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            endpoint_id uuid NOT NULL,
            event_id uuid NOT NULL,
            number bigint NOT NULL,
            order_key uuid NOT NULL,
            due_at timestamptz NOT NULL,
            attempt smallint NOT NULL,
            queued_at timestamptz NOT NULL,
            lease_token uuid,
            lease_until timestamptz,
            CONSTRAINT pk_webhook_delivery_queue PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_webhook_delivery_queue_webhook_endpoints
                FOREIGN KEY (tenant_id, endpoint_id)
                REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE,
            CONSTRAINT fk_webhook_delivery_queue_events FOREIGN KEY (tenant_id, event_id)
                REFERENCES events (tenant_id, id) ON DELETE CASCADE
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01,
                autovacuum_vacuum_cost_delay = 0)
    """,
    "webhook_deliveries": """
        CREATE TABLE webhook_deliveries (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            endpoint_id uuid NOT NULL,
            event_id uuid NOT NULL,
            event_type text NOT NULL,
            attempt smallint NOT NULL,
            outcome text NOT NULL,
            status smallint,
            error text,
            excerpt text NOT NULL,
            took_ms integer NOT NULL,
            attempted_at timestamptz NOT NULL,
            next_attempt_at timestamptz,
            CONSTRAINT pk_webhook_deliveries PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_webhook_deliveries_webhook_endpoints
                FOREIGN KEY (tenant_id, endpoint_id)
                REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE
        )
    """,
}
INDEXES = (
    ("events", ["tenant_id", "number"]),
    ("webhook_delivery_queue", ["tenant_id", "endpoint_id", "due_at", "number"]),
    ("webhook_delivery_queue", ["tenant_id", "endpoint_id", "order_key", "number"]),
    ("webhook_delivery_queue", ["tenant_id", "event_id"]),
    ("webhook_deliveries", ["tenant_id", "endpoint_id", "id"]),
)
RIGHTS_OF_THE_DISPATCHER = (
    (
        "CREATE POLICY dispatch_select ON webhook_delivery_queue FOR SELECT TO tellwire_dispatch "
        "USING (tenant_id IS NOT NULL)"
    ),
    (
        "CREATE POLICY dispatch_update ON webhook_delivery_queue FOR UPDATE TO tellwire_dispatch "
        "USING (tenant_id IS NOT NULL) WITH CHECK (lease_token IS NOT NULL)"
    ),
    "GRANT SELECT ON webhook_delivery_queue TO tellwire_dispatch",
    "GRANT UPDATE (lease_token, lease_until) ON webhook_delivery_queue TO tellwire_dispatch",
)


def upgrade() -> None:
    """Apply."""
    for table, statement in TABLES.items():
        op.execute(statement)
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO tellwire_app "
            f"USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO tellwire_app")
    for table, columns in INDEXES:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns, unique=False)
    for statement in RIGHTS_OF_THE_DISPATCHER:
        op.execute(statement)


def downgrade() -> None:
    """Undo."""
    for table in reversed(TABLES):
        op.drop_table(table)
