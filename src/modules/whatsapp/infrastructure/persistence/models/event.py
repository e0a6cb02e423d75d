"""The rows of events, of the endpoints they go to, and of what waits and was tried."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped, of_tenant
from shared.infrastructure.encryption import EncryptedString
from shared.kernel.secret import Secret
from whatsapp.domain.events import EndpointFormat


class EventStreamModel(TenantScoped, Base):
    """Where a tenant's events stand; `id` is the tenant's own.

    Its lock is what gives events their order. Nothing is recorded until somebody opened it.
    """

    __tablename__ = "event_streams"

    last_number: Mapped[int]
    forgotten_number: Mapped[int]
    is_open: Mapped[bool]

    __table_args__ = (of_tenant(), {"postgresql_with": {"fillfactor": "50"}})


class EventModel(TenantScoped, Base):
    """Something that happened; never changed, deleted for its age.

    `number` is the tenant's own and unique because it is given out under the stream's lock. Without
    an `attempt` it was Tellwire's own decision about a message.
    """

    __tablename__ = "events"

    number: Mapped[int]
    type: Mapped[str]
    subject_id: Mapped[UUID | None]
    attempt: Mapped[int | None] = mapped_column(SmallInteger)
    channel_id: Mapped[UUID | None]
    data: Mapped[dict[str, Any]]
    meta: Mapped[dict[str, Any] | None]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        of_tenant(),
        Index(None, "tenant_id", "number"),
        UniqueConstraint("tenant_id", "subject_id", "type", "attempt", name="uq_events_told"),
    )


class WebhookEndpointModel(TenantScoped, Base):
    """Where a tenant wants to hear; the secrets are ciphertext."""

    __tablename__ = "webhook_endpoints"

    url: Mapped[str]
    description: Mapped[str]
    event_types: Mapped[list[str]]
    channel_ids: Mapped[list[str]]
    format: Mapped[str]
    secret: Mapped[Secret] = mapped_column(
        EncryptedString(table="webhook_endpoints", column="secret")
    )
    previous_secret: Mapped[Secret | None] = mapped_column(
        EncryptedString(table="webhook_endpoints", column="previous_secret")
    )
    previous_secret_until: Mapped[datetime | None]
    is_enabled: Mapped[bool]
    disabled_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        of_tenant(),
        CheckConstraint(
            f"format IN ({', '.join(repr(f.value) for f in EndpointFormat)})", "format"
        ),
    )


_OF_ENDPOINT = ("webhook_endpoints.tenant_id", "webhook_endpoints.id")


class DeliveryQueueModel(TenantScoped, Base):
    """An event that an endpoint still has to get: narrow, without payload, gone once it has it.

    `order_key` is the event's subject: of each one the oldest entry goes first.
    """

    __tablename__ = "webhook_delivery_queue"

    endpoint_id: Mapped[UUID]
    event_id: Mapped[UUID]
    number: Mapped[int]
    order_key: Mapped[UUID]
    due_at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    queued_at: Mapped[datetime]
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], _OF_ENDPOINT, ondelete="CASCADE"),
        ForeignKeyConstraint(
            ["tenant_id", "event_id"], ["events.tenant_id", "events.id"], ondelete="CASCADE"
        ),
        Index(None, "tenant_id", "endpoint_id", "due_at", "number"),
        Index(None, "tenant_id", "endpoint_id", "order_key", "number"),
        # For the cascade from events that are deleted for their age.
        Index(None, "tenant_id", "event_id"),
        {
            "postgresql_with": {
                "fillfactor": "50",
                "autovacuum_vacuum_scale_factor": "0.01",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )


class DeliveryModel(TenantScoped, Base):
    """One attempt to deliver, kept as long as events are."""

    __tablename__ = "webhook_deliveries"

    endpoint_id: Mapped[UUID]
    event_id: Mapped[UUID]
    event_type: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    outcome: Mapped[str]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    error: Mapped[str | None]
    excerpt: Mapped[str]
    took_ms: Mapped[int] = mapped_column(Integer)
    attempted_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime | None]

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], _OF_ENDPOINT, ondelete="CASCADE"),
        Index(None, "tenant_id", "endpoint_id", "id"),
    )
