"""Send an endpoint an event that means nothing, to see whether it arrives."""

from dataclasses import dataclass
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork
from whatsapp.domain.events import EndpointNotEnabled, EndpointNotFound, EventType, NewEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTestEvent:
    """Queues a test event for one endpoint alone; the delivery log shows what came of it."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self, tenant_id: UUID, endpoint_id: UUID, *, user_id: UUID | None = None
    ) -> UUID:
        """The event's id. Raises EndpointNotFound, EndpointNotEnabled."""
        event = NewEvent(
            type=EventType.ENDPOINT_TEST,
            occurred_at=self.now(),
            data={"endpoint_id": str(endpoint_id)},
        )
        async with self.begin(tenant_id, user_id) as work:
            endpoint = await work.endpoints.get_by_id(endpoint_id)
            if endpoint is None:
                raise EndpointNotFound
            if not endpoint.is_enabled:
                raise EndpointNotEnabled
            await work.events.record(others=[event])
            await work.commit()
        return event.id
