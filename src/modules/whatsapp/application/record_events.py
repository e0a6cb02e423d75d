"""From what was applied to what the tenant is told, in the transaction that applied it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.applied import Applied, StatusApplied
from whatsapp.application.inbound_events import amended_event, received_event
from whatsapp.application.ports import Work
from whatsapp.domain.entities import Channel
from whatsapp.domain.events import TOLD_STATUSES, EventType, MessageProgress, NewEvent
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.webhook import FieldChanged
from whatsapp.domain.webhook_inbox import Route

TEMPLATE_FIELDS: Final = frozenset(
    {
        "message_template_status_update",
        "message_template_quality_update",
        "message_template_components_update",
        "template_category_update",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEvents:
    """Follows what webhooks changed. The last of the followers: it holds a lock until the end."""

    now: Clock = utc_now

    async def __call__(self, work: Work, route: Route, applied: Applied) -> None:
        """Write down what is worth telling of it, each thing once."""
        progress = [_progress(one) for one in applied.statuses if one.message_id is not None]
        overtaken = {one.message_id for one in applied.statuses if one.message_id and one.overtaken}
        progress += [
            MessageProgress(message_id=message_id, occurred_at=self.now())
            for message_id in sorted(overtaken)
        ]
        told_as_changes = {one.amendment.id for one in applied.amended}
        received = [
            received_event(one) for one in applied.inbound if one.stored.id not in told_as_changes
        ]
        amended = [amended_event(one) for one in applied.amended if one.moved]
        changed = [
            self._changed(route, one) for one in applied.changes if one.field in TEMPLATE_FIELDS
        ]
        paused = (
            []
            if applied.paused is None
            else [_paused(route.channel_id, applied.paused, self.now())]
        )
        await work.events.record(progress=progress, others=[*received, *amended, *changed, *paused])

    def _changed(self, route: Route, change: FieldChanged) -> NewEvent:
        return NewEvent(
            type=EventType.TEMPLATE_STATUS,
            occurred_at=self.now(),
            # Told once for the whole account: whoever hears one of its channels alone hears it too.
            channel_id=None if change.phone_number_id is None else route.channel_id,
            data={"account_id": change.waba_id, "field": change.field, "value": change.raw},
            meta={"field": change.field, "value": change.raw},
        )


async def record_results(work: Work, results: Sequence[AttemptResult]) -> None:
    """Tell what requests to Meta led to, where that was something final, or the message is out."""
    settled = [one for one in results if one.status in TOLD_STATUSES]
    # Without a status: a report of Meta's may have overtaken the answer.
    await work.events.record(
        progress=[
            MessageProgress(
                message_id=one.message_id,
                attempt=one.number or None,
                occurred_at=one.finished_at,
                decided=not one.number,
            )
            for one in settled
        ]
    )


async def record_decided(work: Work, message_ids: Iterable[UUID], at: datetime) -> None:
    """Tell what Tellwire itself has decided about messages, where that ended them."""
    await work.events.record(
        progress=[
            MessageProgress(message_id=message_id, occurred_at=at, decided=True)
            for message_id in message_ids
        ]
    )


async def record_pause(work: Work, channel: Channel, now: Clock = utc_now) -> None:
    """Tell that a channel has stopped sending, and why."""
    await work.events.record(others=[_paused(channel.id, channel.pause_reason, now())])


def _paused(channel_id: UUID, reason: str | None, at: datetime) -> NewEvent:
    data = {"channel_id": str(channel_id), "reason": reason}
    return NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=at, channel_id=channel_id, data=data)


def _progress(applied: StatusApplied) -> MessageProgress:
    reported = applied.reported
    return MessageProgress(
        status=reported.status,
        occurred_at=reported.occurred_at,
        message_id=applied.message_id,
        wamid=reported.wamid,
        attempt=reported.echo.attempt if reported.echo else None,
        meta={"field": "messages", "value": {"statuses": [reported.raw]}},
    )
