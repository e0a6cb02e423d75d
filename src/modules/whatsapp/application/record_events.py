"""From what was applied to what the tenant is told, in the transaction that applied it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.applied import Applied, InboundApplied, StatusApplied
from whatsapp.application.ports import Work
from whatsapp.domain.entities import Channel
from whatsapp.domain.events import TOLD_STATUSES, EventType, MessageProgress, NewEvent
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.webhook import FieldChanged, InboundReceived
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
        received = [_received(route, one) for one in applied.inbound]
        changed = [
            self._changed(route, one) for one in applied.changes if one.field in TEMPLATE_FIELDS
        ]
        await work.events.record(progress=progress, others=[*received, *changed])

    def _changed(self, route: Route, change: FieldChanged) -> NewEvent:
        return NewEvent(
            type=EventType.TEMPLATE_STATUS,
            occurred_at=self.now(),
            channel_id=route.channel_id,
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
    data = {"channel_id": str(channel.id), "reason": channel.pause_reason}
    event = NewEvent(
        type=EventType.CHANNEL_PAUSED, occurred_at=now(), channel_id=channel.id, data=data
    )
    await work.events.record(others=[event])


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


def _received(route: Route, applied: InboundApplied) -> NewEvent:
    received, stored = applied.received, applied.stored
    data = {
        "message_id": str(stored.id),
        "channel_id": str(route.channel_id),
        "wamid": received.wamid,
        "from": stored.sender.e164 if stored.sender else None,
        "user_id": received.user_id,
        "profile_name": received.profile_name,
        "type": received.content.type,
        "content": received.raw.get(received.content.type),
        "context_wamid": received.context_wamid,
    }
    return NewEvent(
        type=EventType.MESSAGE_RECEIVED,
        occurred_at=received.sent_at,
        subject_id=stored.id,
        channel_id=route.channel_id,
        context_wamid=received.context_wamid,
        data=data,
        meta={"field": "messages", "value": _value(received)},
    )


def _value(received: InboundReceived) -> Mapping[str, Any]:
    """What Meta's own webhook has in its `value` besides the number's metadata."""
    contact: dict[str, Any] = {"profile": {"name": received.profile_name or ""}}
    if received.wa_id is not None:
        contact["wa_id"] = received.wa_id
    if received.user_id is not None:
        contact["user_id"] = received.user_id
    return {"contacts": [contact], "messages": [received.raw]}
