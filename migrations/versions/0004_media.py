"""Files that come with messages: what they are, what Meta calls them, and jobs that move them.

Whoever moves files sees the queue of jobs across tenants, by ids alone; the file, its channel and
the channel's token are then loaded as the application under the job's own tenant.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TENANT = "nullif(current_setting('app.jwt_tenant', true), '')::uuid"
TABLES = ("whatsapp_media", "whatsapp_media_uploads", "whatsapp_media_jobs")


def upgrade() -> None:
    """Apply."""
    _create_media()
    _create_uploads()
    _create_jobs()
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO tellwire_app "
            f"USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO tellwire_app")
    op.execute(
        "CREATE POLICY process_select ON whatsapp_media_jobs FOR SELECT TO tellwire_process "
        "USING (tenant_id IS NOT NULL)"
    )
    op.execute(
        "CREATE POLICY process_update ON whatsapp_media_jobs FOR UPDATE TO tellwire_process "
        "USING (attempts >= 0) WITH CHECK (lease_token IS NOT NULL)"
    )
    op.execute("GRANT SELECT ON whatsapp_media_jobs TO tellwire_process")
    op.execute(
        "GRANT UPDATE (due_at, attempts, lease_token) ON whatsapp_media_jobs TO tellwire_process"
    )


def downgrade() -> None:
    """Undo; the bytes in the store are left."""
    for table in reversed(TABLES):
        op.drop_table(table)


def _create_media() -> None:
    op.create_table(
        "whatsapp_media",
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("provider_media_id", sa.Text(), nullable=True),
        sa.Column("mime_type", sa.Text(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "direction IN ('inbound', 'outbound')", name=op.f("ck_whatsapp_media_direction")
        ),
        sa.CheckConstraint(
            "kind IN ('image', 'audio', 'video', 'document', 'sticker')",
            name=op.f("ck_whatsapp_media_kind"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'stored', 'failed', 'removing', 'removed')",
            name=op.f("ck_whatsapp_media_status"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_whatsapp_media_tenants"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            name=op.f("fk_whatsapp_media_whatsapp_channels"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_whatsapp_media")),
        sa.UniqueConstraint(
            "tenant_id",
            "provider_media_id",
            "channel_id",
            name=op.f("uq_whatsapp_media_tenant_id_provider_media_id_channel_id"),
        ),
    )
    op.create_index(
        "uq_whatsapp_media_outbound",
        "whatsapp_media",
        ["tenant_id", "sha256", "mime_type"],
        unique=True,
        postgresql_where=sa.text("direction = 'outbound' AND status = 'stored'"),
    )
    op.create_index(
        op.f("ix_whatsapp_media_tenant_id_status_used_at"),
        "whatsapp_media",
        ["tenant_id", "status", "used_at"],
    )
    op.create_index(
        op.f("ix_whatsapp_media_tenant_id_message_id"),
        "whatsapp_media",
        ["tenant_id", "message_id"],
    )


def _create_uploads() -> None:
    op.create_table(
        "whatsapp_media_uploads",
        sa.Column("media_id", sa.Uuid(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("provider_media_id", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        *_references("whatsapp_media_uploads"),
        sa.UniqueConstraint(
            "tenant_id",
            "channel_id",
            "media_id",
            name=op.f("uq_whatsapp_media_uploads_tenant_id_channel_id_media_id"),
        ),
    )


def _create_jobs() -> None:
    op.create_table(
        "whatsapp_media_jobs",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("media_id", sa.Uuid(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        *_references("whatsapp_media_jobs"),
        sa.CheckConstraint("kind IN ('fetch', 'upload')", name=op.f("ck_whatsapp_media_jobs_kind")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.01",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index(
        op.f("ix_whatsapp_media_jobs_tenant_id_due_at_id"),
        "whatsapp_media_jobs",
        ["tenant_id", "due_at", "id"],
    )


def _references(table: str) -> tuple[sa.Constraint, ...]:
    return (
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f(f"pk_{table}")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "media_id"],
            ["whatsapp_media.tenant_id", "whatsapp_media.id"],
            name=op.f(f"fk_{table}_whatsapp_media"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            name=op.f(f"fk_{table}_whatsapp_channels"),
            ondelete="CASCADE",
        ),
    )
