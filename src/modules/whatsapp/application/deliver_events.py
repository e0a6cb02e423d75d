"""Deliver what is due for one endpoint: claim, send with no transaction open, record.

At least once: a worker that dies after the request left leaves a lease that ends, and another
sends it again with the same id. A worker that was overtaken records what it tried and nothing else.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.events import (
    Answer,
    ClaimedDelivery,
    DeliveryOutcome,
    DeliveryQueue,
    DeliveryResult,
    EndpointWork,
    Event,
    EventSender,
    EventType,
    NewEvent,
    WebhookEndpoint,
)
from whatsapp.domain.events.delivery import judge

GONE: Final = "It answered 410 Gone"
SILENT: Final = "It took nothing for three days"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Round:
    """How many deliveries were claimed at once, and how many of them were taken."""

    claimed: int
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverEvents:
    """One round for one endpoint: up to `limit` events in parallel, of each message the next."""

    begin: BeginWork
    queue: DeliveryQueue
    sender: EventSender
    lease: timedelta
    now: Clock = utc_now
    rng: Random = field(default_factory=Random)

    async def __call__(self, due: EndpointWork, *, limit: int) -> Round:
        """Raises Unavailable where PostgreSQL is gone; then the leases decide."""
        claimed = await self.queue.claim(due, limit=limit, lease=self.lease)
        if not claimed:
            return Round(0, 0)
        async with self.begin(due.tenant_id) as work:
            endpoint = await work.endpoints.get_by_id(due.endpoint_id)
            events = {
                event.id: event for event in await work.events.load([c.event_id for c in claimed])
            }
        if endpoint is None:
            return Round(0, 0)  # Deleted meanwhile, its queue with it.
        results = await self._deliver(endpoint, claimed, events)
        async with self.begin(due.tenant_id) as work:
            await work.deliveries.record(results)
            await self._heed(work, endpoint, results)
            await work.commit()
        taken = sum(result.outcome is DeliveryOutcome.DELIVERED for result in results)
        return Round(len(claimed), taken)

    async def _deliver(
        self,
        endpoint: WebhookEndpoint,
        claimed: Sequence[ClaimedDelivery],
        events: Mapping[UUID, Event],
    ) -> Sequence[DeliveryResult]:
        async with asyncio.TaskGroup() as requests:
            tasks = [
                requests.create_task(self._one(endpoint, one, events.get(one.event_id)))
                for one in claimed
            ]
        return [task.result() for task in tasks]

    async def _one(
        self, endpoint: WebhookEndpoint, claimed: ClaimedDelivery, event: Event | None
    ) -> DeliveryResult:
        if event is None or not endpoint.is_enabled:
            return DeliveryResult(
                claimed=claimed,
                outcome=DeliveryOutcome.DROPPED,
                answer=Answer(error="endpoint_disabled"),
                at=self.now(),
            )
        answer = await self.sender.send(endpoint, event, at=self.now())
        return judge(claimed, answer, at=self.now(), rng=self.rng)

    async def _heed(
        self, work: Work, endpoint: WebhookEndpoint, results: Sequence[DeliveryResult]
    ) -> None:
        """Note whether the endpoint works; switch it off where it has not for too long."""
        at, outcomes = self.now(), {result.outcome for result in results}
        if DeliveryOutcome.DELIVERED in outcomes:
            if endpoint.failing_since is not None:
                await work.endpoints.note_working(endpoint.id)
            if endpoint.has_recovered(at):
                await work.deliveries.bring_forward(endpoint.id)
        elif outcomes != {DeliveryOutcome.DROPPED} and endpoint.failing_since is None:
            await work.endpoints.note_failing(endpoint.id, at)
        gone = any(result.answer.is_gone for result in results)
        silent = DeliveryOutcome.GIVEN_UP in outcomes and endpoint.has_failed_for_good(at)
        if gone or (silent and DeliveryOutcome.DELIVERED not in outcomes):
            await self._disable(work, endpoint, GONE if gone else SILENT)

    async def _disable(self, work: Work, endpoint: WebhookEndpoint, reason: str) -> None:
        """Deliver nothing more, and report it: in the log, and as an event to all others."""
        if not await work.endpoints.disable(endpoint.id, reason):
            return
        await work.deliveries.clear(endpoint.id)
        logger.warning("webhook endpoint %s disabled: %s", endpoint.id, reason)
        event = NewEvent(
            type=EventType.ENDPOINT_DISABLED,
            occurred_at=self.now(),
            data={"endpoint_id": str(endpoint.id), "reason": reason},
        )
        await work.events.record(others=[event])
