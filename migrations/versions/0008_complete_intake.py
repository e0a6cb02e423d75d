"""Bodies known again by their digest, what Meta reports besides messages, late matches made sure.

A report that does not carry our id and the answer that tells its wamid may be stored at the same
instant; `whatsapp_adopt_parked` is where the two meet. It is a function because each of its
queries sees what was committed by then, unlike the statement that calls it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TENANT = "nullif(current_setting('app.jwt_tenant', true), '')::uuid"
TENANT_TABLES = ("whatsapp_account_events", "whatsapp_templates")

# One of 64 locks of a channel for each wamid: few enough for a batch of a thousand.
LOCK_OF = """
CREATE FUNCTION whatsapp_wamid_lock(channel uuid, wamid text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended(channel::text, 2000 + (hashtext(wamid) & 63))
"""
# Shared: those who know a wamid do not wait for each other, but for whoever parks a report
# (`whatsapp_expect_answers`), and the other way round.
ADOPT_PARKED = """
CREATE FUNCTION whatsapp_adopt_parked(tenant uuid, ids uuid[], channels uuid[], wamids text[])
RETURNS SETOF whatsapp_status_events LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(l.lock) FROM (
        SELECT DISTINCT whatsapp_wamid_lock(k.channel, k.wamid) AS lock
        FROM unnest(channels, wamids) AS k(channel, wamid) ORDER BY 1
    ) l;
    RETURN QUERY
        UPDATE whatsapp_status_events e SET message_id = p.message_id
        FROM unnest(ids, channels, wamids) AS k(id, channel, wamid)
        CROSS JOIN LATERAL (
            SELECT s.id, k.id AS message_id FROM whatsapp_status_events s
            WHERE s.tenant_id = tenant AND s.channel_id = k.channel AND s.wamid = k.wamid
              AND s.message_id IS NULL
            LIMIT 1000
        ) p
        WHERE e.tenant_id = tenant AND e.id = p.id
        RETURNING e.*;
END
$$
"""
EXPECT_ANSWERS = """
CREATE FUNCTION whatsapp_expect_answers(channel uuid, wamids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(l.lock) FROM (
        SELECT DISTINCT whatsapp_wamid_lock(channel, k.wamid) AS lock
        FROM unnest(wamids) AS k(wamid) ORDER BY 1
    ) l;
END
$$
"""


def upgrade() -> None:
    """Apply."""
    _create_tables()
    op.add_column(
        "whatsapp_channels",
        sa.Column(
            "reported",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
        ),
    )
    op.add_column("webhook_quarantine", sa.Column("field", sa.Text(), nullable=True))
    op.add_column("webhook_quarantine", sa.Column("waba_id", sa.Text(), nullable=True))
    op.create_index(
        op.f("ix_whatsapp_channels_provider_account_id"),
        "whatsapp_channels",
        ["provider_account_id"],
        unique=False,
    )
    op.create_index(
        "ix_whatsapp_status_events_parked",
        "whatsapp_status_events",
        ["tenant_id", "channel_id", "wamid"],
        unique=False,
        postgresql_where=sa.text("message_id IS NULL"),
    )
    for table in ("webhook_digests", *TENANT_TABLES):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    for table in TENANT_TABLES:
        op.execute(
            f"CREATE POLICY tenant ON {table} TO tellwire_app "
            f"USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO tellwire_app")
    for statement in (*DIGEST_RIGHTS, LOCK_OF, ADOPT_PARKED, EXPECT_ANSWERS):
        op.execute(statement)


DIGEST_RIGHTS = (
    # Intake learns which of its own digests were new. They say nothing about a body.
    (
        "CREATE POLICY intake_insert ON webhook_digests FOR INSERT TO tellwire_intake "
        "WITH CHECK (digest IS NOT NULL)"
    ),
    (
        "CREATE POLICY intake_select ON webhook_digests FOR SELECT TO tellwire_intake "
        "USING (digest IS NOT NULL)"
    ),
    "GRANT INSERT ON webhook_digests TO tellwire_intake",
    "GRANT SELECT (digest) ON webhook_digests TO tellwire_intake",
    (
        "CREATE POLICY process_all ON webhook_digests TO tellwire_process "
        "USING (digest IS NOT NULL) WITH CHECK (digest IS NOT NULL)"
    ),
    "GRANT SELECT, DELETE ON webhook_digests TO tellwire_process",
)


def _create_tables() -> None:
    op.create_table(
        "webhook_digests",
        sa.Column("digest", sa.Uuid(), nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_webhook_digests")),
    )
    op.create_index(
        op.f("ix_webhook_digests_seen_at"), "webhook_digests", ["seen_at"], unique=False
    )
    op.create_table(
        "whatsapp_account_events",
        sa.Column("channel_id", sa.Uuid(), nullable=True),
        sa.Column("provider_account_id", sa.Text(), nullable=True),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("digest", sa.Uuid(), nullable=False),
        sa.Column("raw", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
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
            name=op.f("fk_whatsapp_account_events_tenants"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            name=op.f("fk_whatsapp_account_events_whatsapp_channels"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_account_events")),
        sa.UniqueConstraint(
            "tenant_id", "digest", name=op.f("uq_whatsapp_account_events_tenant_id_digest")
        ),
    )
    op.create_table(
        "whatsapp_templates",
        sa.Column("provider_account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("template_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quality", sa.Text(), nullable=True),
        sa.Column("quality_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("category_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_whatsapp_templates_tenants"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_templates")),
        sa.UniqueConstraint(
            "tenant_id",
            "provider_account_id",
            "name",
            "language",
            name=op.f("uq_whatsapp_templates_tenant_id_provider_account_id_name_language"),
        ),
    )


def downgrade() -> None:
    """Undo."""
    op.execute("DROP FUNCTION whatsapp_expect_answers(uuid, text[])")
    op.execute("DROP FUNCTION whatsapp_adopt_parked(uuid, uuid[], uuid[], text[])")
    op.execute("DROP FUNCTION whatsapp_wamid_lock(uuid, text)")
    op.drop_table("whatsapp_templates")
    op.drop_table("whatsapp_account_events")
    op.drop_table("webhook_digests")
    op.drop_index("ix_whatsapp_status_events_parked", "whatsapp_status_events")
    op.drop_index("ix_whatsapp_channels_provider_account_id", "whatsapp_channels")
    op.drop_column("webhook_quarantine", "waba_id")
    op.drop_column("webhook_quarantine", "field")
    op.drop_column("whatsapp_channels", "reported")
