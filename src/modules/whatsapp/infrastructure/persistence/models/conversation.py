"""The rows of conversations: who writes to which number, and since when they are answered."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, Integer, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped


class ConversationModel(TenantScoped, Base):
    """A contact of a channel, known by phone, by user id or by both.

    No index mentions what changes with every message, so that those updates stay heap-only.
    """

    __tablename__ = "whatsapp_conversations"

    channel_id: Mapped[UUID]
    phone: Mapped[str | None]
    user_id: Mapped[str | None]
    profile_name: Mapped[str | None]
    last_inbound_at: Mapped[datetime | None]
    last_outbound_at: Mapped[datetime | None]
    unread_count: Mapped[int] = mapped_column(Integer, server_default="0")
    last_message_id: Mapped[UUID | None]
    last_message_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            ondelete="CASCADE",
        ),
        Index(None, "tenant_id", "channel_id", "id"),
        CheckConstraint("unread_count >= 0", "unread_count"),
        {"postgresql_with": {"fillfactor": "70"}},
    )


class ConversationAddressModel(TenantScoped, Base):
    """One way to reach a contact: the number as Meta spells it, as it was dialled, or a user id."""

    __tablename__ = "whatsapp_conversation_addresses"

    conversation_id: Mapped[UUID]
    channel_id: Mapped[UUID]
    address: Mapped[str]

    __table_args__ = (
        UniqueConstraint("tenant_id", "channel_id", "address"),
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"],
            ["whatsapp_conversations.tenant_id", "whatsapp_conversations.id"],
            ondelete="CASCADE",
        ),
        Index(None, "tenant_id", "conversation_id"),
    )
