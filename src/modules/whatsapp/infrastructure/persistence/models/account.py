"""The rows of what Meta reports besides messages: events of numbers and accounts, and templates."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, Integer, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped, of_tenant


class AccountEventModel(TenantScoped, Base):
    """A report that is about no message, or one that nobody could read, as Meta wrote it.

    `channel_id` is empty where it is about the whole account; `reason` is set where it was not
    understood. `subject` is the same for all that is about one thing; `came_as` and `place` order
    reports as they came, by the body and by where it stood in it.
    """

    __tablename__ = "whatsapp_account_events"

    channel_id: Mapped[UUID | None]
    provider_account_id: Mapped[str | None]
    field: Mapped[str]
    reason: Mapped[str | None]
    digest: Mapped[UUID]
    raw: Mapped[dict[str, Any]]
    reported_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    subject: Mapped[UUID | None]
    came_as: Mapped[UUID | None]
    place: Mapped[int | None] = mapped_column(Integer)

    __table_args__ = (
        UniqueConstraint("tenant_id", "digest"),
        Index(
            "ix_whatsapp_account_events_tenant_id_subject_came_as_place",
            "tenant_id",
            "subject",
            "came_as",
            "place",
            postgresql_where=text("subject IS NOT NULL"),
        ),
        of_tenant(),
        ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            ondelete="CASCADE",
        ),
    )


class TemplateModel(TenantScoped, Base):
    """A template of an account, as far as Meta has reported on it; each fact with its time."""

    __tablename__ = "whatsapp_templates"

    provider_account_id: Mapped[str]
    name: Mapped[str]
    language: Mapped[str]
    template_id: Mapped[str | None]
    status: Mapped[str | None]
    status_reason: Mapped[str | None]
    status_at: Mapped[datetime | None]
    quality: Mapped[str | None]
    quality_at: Mapped[datetime | None]
    category: Mapped[str | None]
    category_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("tenant_id", "provider_account_id", "name", "language"),
        of_tenant(),
    )
