"""Delete events and logged deliveries that are older than they are to be kept."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork

BATCH: Final = 1000


class Overdue(Protocol):
    """Who has something to forget."""

    def __call__(self, *, before: datetime) -> AsyncIterator[UUID]:
        """The tenants with events or logged deliveries from before that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetEvents:
    """Sees to the tenants with something to forget, one after another, in short transactions."""

    begin: BeginWork
    overdue: Overdue
    keep: timedelta
    now: Clock = utc_now

    async def __call__(self) -> int:
        """Delete what is too old; gives how many rows it was."""
        before, total = self.now() - self.keep, 0
        async for tenant_id in self.overdue(before=before):
            while True:
                async with self.begin(tenant_id) as work:
                    gone = await work.events.forget(before=before, limit=BATCH)
                    await work.commit()
                total += gone
                if gone < BATCH:
                    break
        return total
