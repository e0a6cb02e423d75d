"""Dead letters: what failed or expired, found by a filter and sent again together."""

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.message_views import MessageFilter
from whatsapp.application.ports import BeginWork
from whatsapp.domain.repositories import Revival

MAX_RETRIED: Final = 1000


@dataclass(frozen=True, slots=True)
class Retried:
    """How many were queued again; `next_before` goes on behind them, None at the end.

    `refused` is how many stay dead letters because their channels would not take them now.
    """

    count: int
    next_before: UUID | None
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDeadLetters:
    """Queues up to MAX_RETRIED dead letters again in one transaction, the newest first."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self,
        tenant_id: UUID,
        wanted: MessageFilter,
        *,
        limit: int = MAX_RETRIED,
        before: UUID | None = None,
        user_id: UUID | None = None,
    ) -> Retried:
        """How many it was; call again from `next_before` until there is none.

        Two at once share the letters: none is queued twice.
        """
        dead = replace(wanted, is_dead=True)
        async with self.begin(tenant_id, user_id) as work:
            page = await work.views.list_outbound(
                dead, limit=min(limit, MAX_RETRIED), before=before
            )
            now = self.now()
            refusals = await work.messages.refusals(page.messages, at=now)
            revivals = [
                Revival(message=message) for message in page.messages if message.id not in refusals
            ]
            queued = await work.messages.send_again(revivals, at=now)
            await work.commit()
        return Retried(len(queued), page.next_before, len(refusals))
