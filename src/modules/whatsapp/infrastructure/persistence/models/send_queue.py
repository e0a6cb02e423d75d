"""The row of a message that still has to be sent: narrow, without payload, gone when it settles."""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped


RETRY_LANES: Final = 10
UNKNOWN_LANES: Final = 20
"""Added to the lane of an entry that waits for a retry, or for proof of an unknown outcome.

Such entries stand in ranges of the index of their own: claiming never walks over them, and they
are found without an index on the state, which would make every claim touch every index.
"""


class QueueState(StrEnum):
    """Where an entry stands.

    `leased` has not left us and may be claimed again once its lease ran out; `dispatching` may have
    left us, so that an expired lease makes it `unknown` (held until `due_at`); `retrying` waits for
    its time, `ready` for its turn.
    """

    READY = "ready"
    LEASED = "leased"
    DISPATCHING = "dispatching"
    RETRYING = "retrying"
    UNKNOWN = "unknown"


class SendQueueModel(TenantScoped, Base):
    """One message to send; `id` is the message's own.

    `recipient_key` is a hash, the same for one recipient of one channel, by which their order is
    kept. `lease_token` fences: whoever settles the entry must still hold it.
    """

    __tablename__ = "whatsapp_send_queue"

    channel_id: Mapped[UUID]
    recipient_key: Mapped[int] = mapped_column(BigInteger)
    lane: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str]
    due_at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "id"],
            ["whatsapp_outbound_messages.tenant_id", "whatsapp_outbound_messages.id"],
            ondelete="CASCADE",
        ),
        # Claiming walks (tenant, channel, lane) in order of due time. State and lease stand in no
        # index, so that claiming and marking are heap-only updates.
        Index(None, "tenant_id", "channel_id", "lane", "due_at", "id"),
        Index(None, "tenant_id", "channel_id", "recipient_key", "id"),
        CheckConstraint(f"state IN ({', '.join(repr(s.value) for s in QueueState)})", "state"),
        {
            "postgresql_with": {
                "fillfactor": "50",
                "autovacuum_vacuum_scale_factor": "0.01",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )
