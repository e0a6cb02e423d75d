"""What a channel needs besides sending: retries queued, the unknown settled, the late expired."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork
from whatsapp.application.record_events import record_decided
from whatsapp.domain.send_queue import Lease, SendQueue
from whatsapp.domain.webhook_inbox import WebhookInbox

MAX_RETRIES: Final = 200
MAX_EXPIRED: Final = 500
MAX_LOOKED_AT: Final = 1000
MAX_LOOKED_THROUGH: Final = 1_000_000
THOROUGH_TURN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryFailed:
    """The retry worker: what failed in a way that passes goes into the queue again when due."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(self, tenant_id: UUID) -> int:
        """Put back up to MAX_RETRIES due messages of the tenant; gives how many it was."""
        async with self.begin(tenant_id) as work:
            queued = await work.messages.requeue_due(at=self.now(), limit=MAX_RETRIES)
            await work.commit()
        return queued


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireUnsent:
    """Ends what expired while it waited, so that its sender hears of it in time.

    Whether the channel sends at all makes no difference, nor how long its queue is.
    """

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(self, tenant_id: UUID, channel_id: UUID) -> int:
        """Expire up to MAX_EXPIRED messages of the channel and tell it; gives how many it was."""
        async with self.begin(tenant_id) as work:
            now = self.now()
            expired = await work.messages.expire_unsent(channel_id, at=now, limit=MAX_EXPIRED)
            await record_decided(work, expired, now)
            await work.commit()
        return len(expired)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleUnknown:
    """What may have been sent by a worker that died, and what nobody ever reported about."""

    begin: BeginWork
    queue: SendQueue
    inbox: WebhookInbox
    unknown_for: timedelta
    lease: Lease = field(default_factory=Lease)
    now: Clock = utc_now
    _turns: "count[int]" = field(default_factory=count, init=False)

    async def find_abandoned(
        self, channels: Collection[tuple[UUID, UUID]]
    ) -> Sequence[tuple[UUID, UUID]]:
        """Those of the channels, each with its tenant, that a dead worker has left something on.

        Now and then it looks at the whole queue: behind a long one that waits for a recipient, what
        is abandoned need not be among the first.
        """
        if not channels:
            return ()
        thorough = next(self._turns) % THOROUGH_TURN == 0
        limit = MAX_LOOKED_THROUGH if thorough else MAX_LOOKED_AT
        return await self.queue.find_abandoned(channels, limit=limit)

    async def hold_abandoned(self, tenant_id: UUID, channel_id: UUID) -> int:
        """Hold as unknown what a worker had marked when it lost its lease; gives how many."""
        async with self.begin(tenant_id) as work:
            held = await work.messages.settle_abandoned(
                channel_id,
                unknown_for=self.unknown_for,
                overhang=self.lease.overhang,
                limit=MAX_LOOKED_THROUGH,
            )
            await work.commit()
        return held

    async def give_up(self, tenant_id: UUID, channel_id: UUID) -> int:
        """Do by the channel's policy what silence beyond the deadline leads to; gives how many.

        Silence is what Meta did not report, not what nobody has read yet: a report may lie in the
        inbox, leased by a worker that died.
        """
        heard_until = await self.inbox.read_until()
        async with self.begin(tenant_id) as work:
            now = self.now()
            given_up = await work.messages.give_up_unknown(
                channel_id,
                at=now,
                unknown_for=self.unknown_for,
                heard_until=heard_until,
            )
            await record_decided(work, given_up, now)
            await work.commit()
        return len(given_up)
