"""The row of a message that still has to be sent: narrow, without payload, gone when it settles."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped
from whatsapp.domain.send_queue import UNKNOWN_LANES, QueueState


class SendQueueModel(TenantScoped, Base):
    """One message to send; `id` is the message's own.

    `recipient_key` is a hash, the same for one person of one channel, by which their order is kept
    (`recipient_statements`). `lease_token` fences: whoever settles the entry must still hold it.
    `expires_at` is the message's own, so that what waits past it is found without being claimed.
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
    expires_at: Mapped[datetime | None]

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "id"],
            ["whatsapp_outbound_messages.tenant_id", "whatsapp_outbound_messages.id"],
            ondelete="CASCADE",
        ),
        # Claiming walks (tenant, channel, lane) in order of due time. State and lease stand in no
        # index, so that claiming and marking are heap-only updates.
        Index(None, "tenant_id", "channel_id", "lane", "due_at", "id"),
        # The key knows the channel; were the channel in here too, the planner might take this index
        # for the other one as long as it has no statistics.
        Index(None, "tenant_id", "recipient_key", "id"),
        # What never expires is not in it, and costs nothing. Nor is what waits for proof: nobody
        # can say that it was unsent, and while Meta reports nothing it would lie in the way.
        Index(
            None,
            "tenant_id",
            "channel_id",
            "expires_at",
            postgresql_where=f"expires_at IS NOT NULL AND lane < {UNKNOWN_LANES}",
        ),
        CheckConstraint(f"state IN ({', '.join(repr(s.value) for s in QueueState)})", "state"),
        {
            "postgresql_with": {
                "fillfactor": "50",
                "autovacuum_vacuum_scale_factor": "0.01",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )
