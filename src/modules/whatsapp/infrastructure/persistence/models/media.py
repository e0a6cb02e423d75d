"""The rows of media: files, their uploads to Meta, and the jobs that move them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped, of_tenant
from whatsapp.domain.media import MediaDirection, MediaStatus
from whatsapp.domain.media_repository import MediaJobKind
from whatsapp.domain.media_type import MediaKind

_CHANNEL = (
    ["tenant_id", "channel_id"],
    ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
)
_MEDIA = (["tenant_id", "media_id"], ["whatsapp_media.tenant_id", "whatsapp_media.id"])


class MediaModel(TenantScoped, Base):
    """A file; its bytes are in a store under tenant, SHA-256 and id."""

    __tablename__ = "whatsapp_media"

    direction: Mapped[str]
    kind: Mapped[str]
    status: Mapped[str]
    channel_id: Mapped[UUID | None]
    message_id: Mapped[UUID | None]
    provider_media_id: Mapped[str | None]
    mime_type: Mapped[str | None]
    filename: Mapped[str | None]
    size: Mapped[int | None]
    sha256: Mapped[bytes | None]
    failure: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime | None]

    __table_args__ = (
        of_tenant(),
        ForeignKeyConstraint(*_CHANNEL),
        # In this order it also serves whoever knows Meta's id and not the channel.
        UniqueConstraint("tenant_id", "provider_media_id", "channel_id"),
        Index(
            "uq_whatsapp_media_outbound",
            *("tenant_id", "sha256", "mime_type"),
            unique=True,
            postgresql_where="direction = 'outbound' AND status = 'stored'",
        ),
        Index(None, "tenant_id", "status", "used_at"),
        Index(None, "tenant_id", "channel_id", "id"),
        Index(None, "tenant_id", "message_id"),
        CheckConstraint(
            f"direction IN ({', '.join(repr(d.value) for d in MediaDirection)})", "direction"
        ),
        CheckConstraint(f"kind IN ({', '.join(repr(k.value) for k in MediaKind)})", "kind"),
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in MediaStatus)})", "status"),
    )


class MediaUploadModel(TenantScoped, Base):
    """An outbound file as Meta knows it for one channel, until `expires_at`."""

    __tablename__ = "whatsapp_media_uploads"

    media_id: Mapped[UUID]
    channel_id: Mapped[UUID]
    provider_media_id: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    failure: Mapped[str | None]

    __table_args__ = (
        ForeignKeyConstraint(*_MEDIA, ondelete="CASCADE"),
        ForeignKeyConstraint(*_CHANNEL, ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "channel_id", "media_id"),
    )


class MediaJobModel(TenantScoped, Base):
    """A file to move: narrow, without payload, gone when it is done.

    `id` is the media's for a fetch and the upload's for an upload. Claiming moves `due_at` to the
    end of the lease; `lease_token` fences what is written afterwards.
    """

    __tablename__ = "whatsapp_media_jobs"

    kind: Mapped[str]
    media_id: Mapped[UUID]
    channel_id: Mapped[UUID]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    lease_token: Mapped[UUID | None]

    __table_args__ = (
        ForeignKeyConstraint(*_MEDIA, ondelete="CASCADE"),
        ForeignKeyConstraint(*_CHANNEL, ondelete="CASCADE"),
        Index(None, "tenant_id", "due_at", "id"),
        CheckConstraint(f"kind IN ({', '.join(repr(k.value) for k in MediaJobKind)})", "kind"),
        {
            "postgresql_with": {
                "fillfactor": "70",
                "autovacuum_vacuum_scale_factor": "0.01",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )
