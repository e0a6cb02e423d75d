"""What a channel needs besides sending: due retries queued again, unknown outcomes settled."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork

MAX_RETRIES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryFailed:
    """The retry worker: what failed in a way that passes goes into the queue again when due."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(self, tenant_id: UUID) -> int:
        """Put back up to MAX_RETRIES due messages of the tenant; gives how many it was."""
        async with self.begin(tenant_id) as work:
            due = await work.messages.get_failed_for_retry(MAX_RETRIES)
            for message in due:
                message.requeue(self.now())
                await work.messages.update_outbound(message)
            await work.commit()
        return len(due)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleUnknown:
    """What may have been sent by a worker that died, and what nobody ever reported about."""

    begin: BeginWork
    unknown_for: timedelta
    now: Clock = utc_now

    async def hold_abandoned(self, tenant_id: UUID, channel_id: UUID) -> int:
        """Hold as unknown what a worker had marked when it lost its lease; gives how many."""
        async with self.begin(tenant_id) as work:
            held = await work.messages.settle_abandoned(channel_id, unknown_for=self.unknown_for)
            await work.commit()
        return held

    async def give_up(self, tenant_id: UUID, channel_id: UUID) -> int:
        """Fail what no status has settled by its deadline; it is not sent again. Gives how many."""
        async with self.begin(tenant_id) as work:
            failed = await work.messages.give_up_unknown(channel_id, at=self.now())
            await work.commit()
        return failed
