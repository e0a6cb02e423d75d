"""Tenants, channels, messages, the send queue and webhook intake, with their policies and rights.

A migration runs while the previous release still serves: add first, remove a release later.
Every table with `tenant_id` gets `ENABLE` and `FORCE ROW LEVEL SECURITY`, a policy for named roles,
and rights granted by name, in the same revision that creates it (tests/architecture and
tests/integration/rls hold it).
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TENANT = "nullif(current_setting('app.jwt_tenant', true), '')::uuid"
"""Written bare: Citus takes no subquery here, and the planner keeps its statistics (docs/adr)."""

TENANT_TABLES = {
    "tenants": "id",
    "api_keys": "tenant_id",
    "whatsapp_channels": "tenant_id",
    "whatsapp_conversations": "tenant_id",
    "whatsapp_conversation_addresses": "tenant_id",
    "whatsapp_outbound_messages": "tenant_id",
    "whatsapp_inbound_messages": "tenant_id",
    "whatsapp_message_attempts": "tenant_id",
    "whatsapp_status_events": "tenant_id",
    "whatsapp_send_queue": "tenant_id",
}
PLATFORM_TABLES = ("meta_apps", "webhook_inbox", "webhook_quarantine")


def upgrade() -> None:
    """Apply."""
    _create_tables()
    for table in (*TENANT_TABLES, *PLATFORM_TABLES):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    for table, column in TENANT_TABLES.items():
        op.execute(
            f"CREATE POLICY tenant ON {table} TO tellwire_app "
            f"USING ({column} = {TENANT}) WITH CHECK ({column} = {TENANT})"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO tellwire_app")
    for statement in RIGHTS_OF_THE_OTHER_ROLES:
        op.execute(statement)


RIGHTS_OF_THE_OTHER_ROLES = (
    # The dispatcher sees whose turn it is in every queue; it can lease and mark entries. It
    # settles none, and puts none back that waits for a retry or for proof. What a message says, to
    # whom, and with which token stays out of its reach.
    (
        "CREATE POLICY dispatch_select ON whatsapp_send_queue FOR SELECT TO tellwire_dispatch "
        "USING (tenant_id IS NOT NULL)"
    ),
    (
        "CREATE POLICY dispatch_update ON whatsapp_send_queue FOR UPDATE TO tellwire_dispatch "
        "USING (state IN ('ready', 'leased', 'dispatching')) "
        "WITH CHECK (state IN ('ready', 'leased', 'dispatching'))"
    ),
    "GRANT SELECT ON whatsapp_send_queue TO tellwire_dispatch",
    (
        "GRANT UPDATE (state, attempt, lease_token, lease_until) ON whatsapp_send_queue "
        "TO tellwire_dispatch"
    ),
    # Intake writes down what came in, and can read nothing back.
    (
        "CREATE POLICY intake_insert ON webhook_inbox FOR INSERT TO tellwire_intake "
        "WITH CHECK (attempts = 0 AND lease_token IS NULL)"
    ),
    "GRANT INSERT ON webhook_inbox TO tellwire_intake",
    # The processor empties the inbox. It may ask whose number a body is about (verified channels
    # only, never their tokens), and then goes on as the application under that tenant's context.
    (
        "CREATE POLICY process_all ON webhook_inbox TO tellwire_process "
        "USING (attempts >= 0) WITH CHECK (attempts >= 0)"
    ),
    "GRANT SELECT, DELETE ON webhook_inbox TO tellwire_process",
    "GRANT UPDATE (attempts, lease_token, lease_until) ON webhook_inbox TO tellwire_process",
    (
        "CREATE POLICY process_all ON webhook_quarantine TO tellwire_process "
        "USING (inbox_id IS NOT NULL) WITH CHECK (inbox_id IS NOT NULL)"
    ),
    "GRANT SELECT, INSERT, DELETE ON webhook_quarantine TO tellwire_process",
    (
        "CREATE POLICY process_route ON whatsapp_channels FOR SELECT TO tellwire_process "
        "USING (verified_at IS NOT NULL)"
    ),
    (
        "GRANT SELECT (tenant_id, id, phone_number_id, provider_account_id, app_id, verified_at) "
        "ON whatsapp_channels TO tellwire_process"
    ),
    # Operators' jobs (key rotation, reports) go from tenant to tenant; this is how they find them.
    "CREATE POLICY process_list ON tenants FOR SELECT TO tellwire_process USING (id IS NOT NULL)",
    "GRANT SELECT (id) ON tenants TO tellwire_process",
    # Apps belong to the installation; their secrets are ciphertext.
    (
        "CREATE POLICY app_all ON meta_apps TO tellwire_app "
        "USING (app_id <> '') WITH CHECK (app_id <> '')"
    ),
    "GRANT SELECT, INSERT, UPDATE, DELETE ON meta_apps TO tellwire_app",
    # Processes refuse to start on a schema that is not theirs.
    "GRANT SELECT ON alembic_version TO tellwire_app",
)


def _create_tables() -> None:
    op.create_table(
        "meta_apps",
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
        sa.Column("verify_token", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("app_id", name=op.f("pk_meta_apps")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("name <> ''", name=op.f("ck_tenants_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "webhook_inbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_inbox")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.01",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_table(
        "webhook_quarantine",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("inbox_id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("phone_number_id", sa.Text(), nullable=True),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_quarantine")),
    )
    op.create_index(
        op.f("ix_webhook_quarantine_received_at"),
        "webhook_quarantine",
        ["received_at"],
        unique=False,
    )
    op.create_table(
        "api_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenants"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "whatsapp_channels",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phone_number_id", sa.Text(), nullable=False),
        sa.Column("provider_account_id", sa.Text(), nullable=True),
        sa.Column("app_id", sa.Text(), nullable=True),
        sa.Column("display_phone_number", sa.Text(), nullable=True),
        sa.Column("access_token", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("messages_per_second", sa.Integer(), nullable=False),
        sa.Column("window_policy", sa.Text(), server_default="enforce", nullable=False),
        sa.Column("on_unknown", sa.Text(), server_default="fail", nullable=False),
        sa.Column("quality_rating", sa.Text(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'active', 'paused', 'disabled')",
            name=op.f("ck_whatsapp_channels_status"),
        ),
        sa.CheckConstraint(
            "messages_per_second > 0", name=op.f("ck_whatsapp_channels_messages_per_second")
        ),
        sa.CheckConstraint(
            "window_policy IN ('enforce', 'allow')",
            name=op.f("ck_whatsapp_channels_window_policy"),
        ),
        sa.CheckConstraint(
            "on_unknown IN ('fail', 'resend', 'hold')",
            name=op.f("ck_whatsapp_channels_on_unknown"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_whatsapp_channels_tenants"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_channels")),
        sa.UniqueConstraint(
            "tenant_id",
            "phone_number_id",
            name=op.f("uq_whatsapp_channels_tenant_id_phone_number_id"),
        ),
    )
    op.create_index(
        op.f("ix_whatsapp_channels_phone_number_id"),
        "whatsapp_channels",
        ["phone_number_id"],
        unique=False,
    )
    op.create_table(
        "whatsapp_conversations",
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("profile_name", sa.Text(), nullable=True),
        sa.Column("last_inbound_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_outbound_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unread_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_message_id", sa.Uuid(), nullable=True),
        sa.Column("last_message_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "unread_count >= 0", name=op.f("ck_whatsapp_conversations_unread_count")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            name=op.f("fk_whatsapp_conversations_whatsapp_channels"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_conversations")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        op.f("ix_whatsapp_conversations_tenant_id_channel_id_id"),
        "whatsapp_conversations",
        ["tenant_id", "channel_id", "id"],
        unique=False,
    )
    op.create_table(
        "whatsapp_conversation_addresses",
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "conversation_id"],
            ["whatsapp_conversations.tenant_id", "whatsapp_conversations.id"],
            name=op.f("fk_whatsapp_conversation_addresses_whatsapp_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_conversation_addresses")),
        sa.UniqueConstraint(
            "tenant_id",
            "channel_id",
            "address",
            name=op.f("uq_whatsapp_conversation_addresses_tenant_id_channel_id_address"),
        ),
    )
    op.create_index(
        op.f("ix_whatsapp_conversation_addresses_tenant_id_conversation_id"),
        "whatsapp_conversation_addresses",
        ["tenant_id", "conversation_id"],
        unique=False,
    )
    op.create_table(
        "whatsapp_inbound_messages",
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("wamid", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("sender_user_id", sa.Text(), nullable=True),
        sa.Column("profile_name", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("context_wamid", sa.Text(), nullable=True),
        sa.Column("raw", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_whatsapp_inbound_messages_tenants"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            name=op.f("fk_whatsapp_inbound_messages_whatsapp_channels"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_inbound_messages")),
        sa.UniqueConstraint(
            "tenant_id",
            "channel_id",
            "wamid",
            name=op.f("uq_whatsapp_inbound_messages_tenant_id_channel_id_wamid"),
        ),
    )
    op.create_index(
        op.f("ix_whatsapp_inbound_messages_tenant_id_channel_id_sent_at"),
        "whatsapp_inbound_messages",
        ["tenant_id", "channel_id", "sent_at"],
        unique=False,
    )
    op.create_table(
        "whatsapp_outbound_messages",
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("context_wamid", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("send_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("quoted_id", sa.Uuid(), nullable=True),
        sa.Column("callback_data", sa.Text(), nullable=True),
        sa.Column(
            "envelope", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False
        ),
        sa.Column("wamid", sa.Text(), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure_code", sa.Integer(), nullable=True),
        sa.Column("failure_title", sa.Text(), nullable=True),
        sa.Column("failure_details", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'sending', 'retrying', 'unknown', 'cancelled', 'expired', "
            "'sent', 'failed', 'delivered', 'read', 'played')",
            name=op.f("ck_whatsapp_outbound_messages_status"),
        ),
        sa.CheckConstraint("lane BETWEEN 0 AND 2", name=op.f("ck_whatsapp_outbound_messages_lane")),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_whatsapp_outbound_messages_tenants"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            name=op.f("fk_whatsapp_outbound_messages_whatsapp_channels"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_outbound_messages")),
        sa.UniqueConstraint(
            "tenant_id",
            "idempotency_key",
            name=op.f("uq_whatsapp_outbound_messages_tenant_id_idempotency_key"),
        ),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        op.f("ix_whatsapp_outbound_messages_tenant_id_channel_id_id"),
        "whatsapp_outbound_messages",
        ["tenant_id", "channel_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_whatsapp_outbound_messages_tenant_id_wamid"),
        "whatsapp_outbound_messages",
        ["tenant_id", "wamid"],
        unique=False,
        postgresql_where=sa.text("wamid IS NOT NULL"),
    )
    op.create_table(
        "whatsapp_message_attempts",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wamid", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "message_id"],
            ["whatsapp_outbound_messages.tenant_id", "whatsapp_outbound_messages.id"],
            name=op.f("fk_whatsapp_message_attempts_whatsapp_outbound_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_message_attempts")),
    )
    op.create_index(
        op.f("ix_whatsapp_message_attempts_tenant_id_message_id_number"),
        "whatsapp_message_attempts",
        ["tenant_id", "message_id", "number"],
        unique=False,
    )
    op.create_table(
        "whatsapp_send_queue",
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("recipient_key", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "state IN ('ready', 'leased', 'dispatching', 'retrying', 'unknown')",
            name=op.f("ck_whatsapp_send_queue_state"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "id"],
            ["whatsapp_outbound_messages.tenant_id", "whatsapp_outbound_messages.id"],
            name=op.f("fk_whatsapp_send_queue_whatsapp_outbound_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_send_queue")),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0.01",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index(
        op.f("ix_whatsapp_send_queue_tenant_id_channel_id_lane_due_at_id"),
        "whatsapp_send_queue",
        ["tenant_id", "channel_id", "lane", "due_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_whatsapp_send_queue_tenant_id_recipient_key_id"),
        "whatsapp_send_queue",
        ["tenant_id", "recipient_key", "id"],
        unique=False,
    )
    op.create_table(
        "whatsapp_status_events",
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("wamid", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("errors", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("pricing", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            name=op.f("fk_whatsapp_status_events_whatsapp_channels"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "message_id"],
            ["whatsapp_outbound_messages.tenant_id", "whatsapp_outbound_messages.id"],
            name=op.f("fk_whatsapp_status_events_whatsapp_outbound_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_status_events")),
        sa.UniqueConstraint(
            "tenant_id",
            "channel_id",
            "wamid",
            "status",
            "occurred_at",
            name=op.f("uq_whatsapp_status_events_report"),
        ),
    )
    op.create_index(
        op.f("ix_whatsapp_status_events_tenant_id_message_id_occurred_at"),
        "whatsapp_status_events",
        ["tenant_id", "message_id", "occurred_at"],
        unique=False,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("whatsapp_status_events")
    op.drop_table("whatsapp_send_queue")
    op.drop_table("whatsapp_message_attempts")
    op.drop_table("whatsapp_outbound_messages")
    op.drop_table("whatsapp_inbound_messages")
    op.drop_table("whatsapp_conversation_addresses")
    op.drop_table("whatsapp_conversations")
    op.drop_table("whatsapp_channels")
    op.drop_table("api_keys")
    op.drop_table("webhook_quarantine")
    op.drop_table("webhook_inbox")
    op.drop_table("tenants")
    op.drop_table("meta_apps")
