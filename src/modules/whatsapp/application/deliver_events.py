"""Deliver what is due for one endpoint: claim, send with no transaction open, record.

At least once: a worker that dies after the request left leaves a lease that ends, and another
sends it again with the same id. A worker that was overtaken records what it tried and nothing else.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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
            await self._settle(work, endpoint, results)
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

    async def _settle(
        self, work: Work, endpoint: WebhookEndpoint, results: Sequence[DeliveryResult]
    ) -> None:
        """Note what came of it, and switch the endpoint off where it has not worked for too long.

        Not where it has taken something, or got another address, since the requests left.

        First the stream, if anything is to be told, then the endpoint, then its queue: in the order
        of whoever changes the endpoint, so that neither waits for the other.
        """
        at, outcomes = self.now(), {result.outcome for result in results}
        is_working = DeliveryOutcome.DELIVERED in outcomes
        reason = _reason_to_disable(endpoint, results, at)
        is_disabled = False
        if reason is not None:
            await work.events.open()
            current = await work.endpoints.get_for_change(endpoint.id)
            if current is not None and current.url != endpoint.url:
                results = [_once_more_if_gone(result, at) for result in results]
            elif current is not None and (
                reason == GONE or current.failing_since == endpoint.failing_since
            ):
                is_disabled = await work.endpoints.disable(endpoint.id, reason)
        # Whatever was read of it: other workers may have noted something since.
        if is_working:
            await work.endpoints.note_working(endpoint.id)
        elif outcomes != {DeliveryOutcome.DROPPED}:
            await work.endpoints.note_failing(endpoint.id, at)
        await work.deliveries.record(results)
        if is_disabled:
            await self._report_disabled(work, endpoint, reason)
        elif is_working and endpoint.has_recovered(at):
            await work.deliveries.bring_forward(endpoint.id)

    async def _report_disabled(
        self, work: Work, endpoint: WebhookEndpoint, reason: str | None
    ) -> None:
        """Deliver nothing more, and report it: in the log, and as an event to all others."""
        await work.deliveries.clear(endpoint.id)
        logger.warning("webhook endpoint %s disabled: %s", endpoint.id, reason)
        event = NewEvent(
            type=EventType.ENDPOINT_DISABLED,
            occurred_at=self.now(),
            data={"endpoint_id": str(endpoint.id), "reason": reason},
        )
        await work.events.record(others=[event])


def _once_more_if_gone(result: DeliveryResult, at: datetime) -> DeliveryResult:
    """What an address answered that is the endpoint's no more: its new one has yet to be asked."""
    if not result.answer.is_gone:
        return result
    return replace(result, outcome=DeliveryOutcome.RETRYING, due_at=at)


def _reason_to_disable(
    endpoint: WebhookEndpoint, results: Sequence[DeliveryResult], at: datetime
) -> str | None:
    """Why the endpoint is to get nothing any more; None where it is."""
    if any(result.answer.is_gone for result in results):
        return GONE
    outcomes = {result.outcome for result in results}
    if DeliveryOutcome.GIVEN_UP not in outcomes or DeliveryOutcome.DELIVERED in outcomes:
        return None
    return SILENT if endpoint.has_failed_for_good(at) else None
