"""The rows of conversations: who writes to which number, and since when they are answered."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped


class ConversationModel(TenantScoped, Base):
    """A contact of a channel, known by phone, by user id or by both.

    The indexes that mention the time of the last message cost each message an entry; they are what
    lists the latest first without reading the rest. Whoever merged into another has neither
    messages nor addresses any more. `former` holds addresses that were given up, with their ends.
    """

    __tablename__ = "whatsapp_conversations"

    channel_id: Mapped[UUID]
    phone: Mapped[str | None]
    user_id: Mapped[str | None]
    profile_name: Mapped[str | None]
    username: Mapped[str | None]
    last_inbound_at: Mapped[datetime | None]
    last_outbound_at: Mapped[datetime | None]
    unread_count: Mapped[int] = mapped_column(Integer, server_default="0")
    last_message_id: Mapped[UUID | None]
    last_message_at: Mapped[datetime | None]
    marketing_stopped: Mapped[bool] = mapped_column(server_default="false")
    marketing_at: Mapped[datetime | None]
    former: Mapped[list[dict[str, Any]]] = mapped_column(server_default="[]")
    merged_into: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "channel_id"],
            ["whatsapp_channels.tenant_id", "whatsapp_channels.id"],
            ondelete="CASCADE",
        ),
        Index(None, "tenant_id", "channel_id", "id"),
        Index(
            "ix_whatsapp_conversations_latest",
            *("tenant_id", "channel_id", "last_message_at", "id"),
            postgresql_where=text("last_message_at IS NOT NULL"),
        ),
        Index(
            "ix_whatsapp_conversations_unread",
            *("tenant_id", "channel_id", "last_message_at", "id"),
            postgresql_where=text("unread_count > 0"),
        ),
        Index(
            "ix_whatsapp_conversations_merged",
            *("tenant_id", "merged_into"),
            postgresql_where=text("merged_into IS NOT NULL"),
        ),
        CheckConstraint("unread_count >= 0", "unread_count"),
        {"postgresql_with": {"fillfactor": "70"}},
    )


class ConversationAddressModel(TenantScoped, Base):
    """One way to reach a contact: the number as Meta spells it, as it was dialled, or a user id.

    Whoever `left_at` later than they `arrived_at` does not have it any more. `taken_at` is set
    where it was somebody else's before: what is older is not of this conversation.
    """

    __tablename__ = "whatsapp_conversation_addresses"

    conversation_id: Mapped[UUID]
    channel_id: Mapped[UUID]
    address: Mapped[str]
    arrived_at: Mapped[datetime | None]
    left_at: Mapped[datetime | None]
    taken_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("tenant_id", "channel_id", "address"),
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"],
            ["whatsapp_conversations.tenant_id", "whatsapp_conversations.id"],
            ondelete="CASCADE",
        ),
        Index(None, "tenant_id", "conversation_id"),
    )
