"""The rows of messages, of the attempts to send them, and of what Meta reported about them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped, of_tenant
from whatsapp.domain.value_objects import MessageStatus

_CHANNEL_COLUMNS = ["tenant_id", "channel_id"]
_CHANNEL_KEY = ["whatsapp_channels.tenant_id", "whatsapp_channels.id"]
_MESSAGE_COLUMNS = ["tenant_id", "message_id"]
_MESSAGE_KEY = ["whatsapp_outbound_messages.tenant_id", "whatsapp_outbound_messages.id"]
# A message is updated several times, each time without touching an index: room on its own page
# keeps those updates heap-only.
_ROOM_FOR_UPDATES = {"postgresql_with": {"fillfactor": "70"}}


class OutboundMessageModel(TenantScoped, Base):
    """A message to send. No index mentions its status: work is found in the send queue instead."""

    __tablename__ = "whatsapp_outbound_messages"

    channel_id: Mapped[UUID]
    recipient: Mapped[str]
    type: Mapped[str]
    body: Mapped[dict[str, Any]]
    context_wamid: Mapped[str | None]
    idempotency_key: Mapped[str]
    digest: Mapped[bytes]
    status: Mapped[str]
    lane: Mapped[int] = mapped_column(SmallInteger)
    send_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    details: Mapped[dict[str, Any]]
    quoted_id: Mapped[UUID | None]
    callback_data: Mapped[str | None]
    envelope: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    wamid: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(SmallInteger)
    next_attempt_at: Mapped[datetime | None]
    failure_code: Mapped[int | None] = mapped_column(Integer)
    failure_title: Mapped[str | None]
    failure_details: Mapped[str | None]
    created_at: Mapped[datetime]
    status_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        of_tenant(),
        ForeignKeyConstraint(_CHANNEL_COLUMNS, _CHANNEL_KEY),
        Index(None, "tenant_id", "channel_id", "id"),
        Index(
            "ix_whatsapp_outbound_messages_thread",
            *("tenant_id", "channel_id", "recipient", "id"),
            postgresql_where=text("recipient IS NOT NULL"),  # Always: who names none skips it.
        ),
        Index(None, "tenant_id", "wamid", postgresql_where=text("wamid IS NOT NULL")),
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in MessageStatus)})", "status"),
        CheckConstraint("lane BETWEEN 0 AND 2", "lane"),
        _ROOM_FOR_UPDATES,
    )


class InboundMessageModel(TenantScoped, Base):
    """A message of a customer, once per channel and wamid.

    `author` is the name under which its conversation has it; none for what was said in a group.
    `amends` is the wamid of the message that it edits or removes, which may come later or never.
    """

    __tablename__ = "whatsapp_inbound_messages"

    channel_id: Mapped[UUID]
    wamid: Mapped[str]
    sender: Mapped[str | None]
    sender_user_id: Mapped[str | None]
    author: Mapped[str | None]
    profile_name: Mapped[str | None]
    type: Mapped[str]
    body: Mapped[dict[str, Any]]
    context_wamid: Mapped[str | None]
    raw: Mapped[dict[str, Any]]
    amends: Mapped[str | None]
    sent_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("tenant_id", "channel_id", "wamid"),
        of_tenant(),
        ForeignKeyConstraint(_CHANNEL_COLUMNS, _CHANNEL_KEY),
        Index(None, "tenant_id", "channel_id", "sent_at"),
        Index(
            "ix_whatsapp_inbound_messages_thread",
            *("tenant_id", "channel_id", "author", "id"),
            postgresql_where=text("author IS NOT NULL"),
        ),
        Index(
            "ix_whatsapp_inbound_messages_amends",
            *("tenant_id", "channel_id", "amends"),
            postgresql_where=text("amends IS NOT NULL"),
        ),
    )


class MessageAttemptModel(TenantScoped, Base):
    """One request to Meta and what became of it; append-only."""

    __tablename__ = "whatsapp_message_attempts"

    message_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(SmallInteger)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    outcome: Mapped[str]
    code: Mapped[int | None] = mapped_column(Integer)
    reason: Mapped[str | None]
    retry_at: Mapped[datetime | None]
    wamid: Mapped[str | None]

    __table_args__ = (
        ForeignKeyConstraint(_MESSAGE_COLUMNS, _MESSAGE_KEY, ondelete="CASCADE"),
        Index(None, "tenant_id", "message_id", "number"),
    )


class StatusEventModel(TenantScoped, Base):
    """One status that Meta reported; append-only, each once.

    `message_id` is empty for messages that another system sent from the same number, and only then
    is `parked_channel_id` the channel: PostgreSQL checks references row by row, so that each report
    has one and not two.
    """

    __tablename__ = "whatsapp_status_events"

    channel_id: Mapped[UUID]
    message_id: Mapped[UUID | None]
    wamid: Mapped[str]
    status: Mapped[str]
    attempt: Mapped[int | None] = mapped_column(SmallInteger)
    occurred_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    errors: Mapped[list[dict[str, Any]] | None]
    pricing: Mapped[dict[str, Any] | None]
    parked_channel_id: Mapped[UUID | None] = mapped_column(
        Computed("CASE WHEN message_id IS NULL THEN channel_id END", persisted=True)
    )

    __table_args__ = (
        UniqueConstraint(
            *("tenant_id", "channel_id", "wamid", "status", "occurred_at"),
            name="uq_whatsapp_status_events_report",
        ),
        # Those without a message of ours would otherwise keep their tenant from being deleted.
        ForeignKeyConstraint(["tenant_id", "parked_channel_id"], _CHANNEL_KEY, ondelete="CASCADE"),
        ForeignKeyConstraint(_MESSAGE_COLUMNS, _MESSAGE_KEY, ondelete="CASCADE"),
        Index(None, "tenant_id", "message_id", "occurred_at"),
        # Parked: of no message that we know, yet.
        Index(
            "ix_whatsapp_status_events_parked",
            *("tenant_id", "channel_id", "wamid"),
            postgresql_where=text("message_id IS NULL"),
        ),
    )
