"""Deliver events again: by their ids, or all that were recorded in a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.events import EndpointNotEnabled, EndpointNotFound, Replayed

MAX_REPLAYED: Final = 5000
"""By one call; the answer says where the next one goes on."""
MAX_LOOKED_AT: Final = 20_000
"""By one call, whatever the endpoint wants of them: it holds its endpoint as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayEvents:
    """Queues events that an endpoint wants once more, with the ids that they had.

    `keep` is how long events are kept: of what is younger nothing can be missing.
    """

    begin: BeginWork
    keep: timedelta
    now: Clock = utc_now

    async def __call__(
        self,
        tenant_id: UUID,
        endpoint_id: UUID,
        *,
        event_ids: Sequence[UUID] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        user_id: UUID | None = None,
    ) -> Replayed:
        """How many it was. Raises EndpointNotFound, EndpointNotEnabled."""
        async with self.begin(tenant_id, user_id) as work:
            endpoint = await work.endpoints.get_for_change(endpoint_id)
            if endpoint is None:
                raise EndpointNotFound
            if not endpoint.is_enabled:
                raise EndpointNotEnabled
            replayed = await work.deliveries.replay(
                endpoint,
                event_ids=event_ids,
                since=since,
                until=until,
                after=after,
                limit=MAX_REPLAYED,
                look_at=MAX_LOOKED_AT,
            )
            lacks_some = await self._lacks_some(work, event_ids, since, after)
            await work.commit()
        return replayed._replace(is_incomplete=lacks_some)

    async def _lacks_some(
        self, work: Work, event_ids: Sequence[UUID] | None, since: datetime | None, after: int
    ) -> bool:
        if event_ids is not None:
            return await work.events.count(event_ids) < len(set(event_ids))
        if since is None or since > self.now() - self.keep:
            return False
        return await work.events.lacks_some_since(since, after=after)
