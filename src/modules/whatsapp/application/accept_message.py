"""Take in messages to send: once per idempotency key, stored and queued in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias, cast
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from shared.kernel.errors import TellwireError
from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.entities import (
    Channel,
    ChannelNotActive,
    ChannelNotFound,
    ChannelStatus,
    IdempotencyKeyReused,
    InvalidSchedule,
    OutboundMessage,
)
from whatsapp.domain.value_objects import IdempotencyKey, MessageContent, Priority, Recipient

ACCEPTING: Final = frozenset({ChannelStatus.ACTIVE, ChannelStatus.PAUSED})
"""A paused channel keeps its messages, so it takes new ones too."""
MAX_AHEAD: Final = timedelta(days=366)
MAX_BACK: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """What a caller wants sent; `idempotency_key` is None where the caller brings none."""

    channel_id: UUID
    recipient: Recipient
    content: MessageContent
    idempotency_key: IdempotencyKey | None = None
    priority: Priority = Priority.NORMAL
    send_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


Accepted: TypeAlias = OutboundMessage
"""The stored message; `replayed` where its key was there before."""
Wanted: TypeAlias = NewMessage | TellwireError
"""What one entry of a batch asks for, or why it cannot be read."""
Result: TypeAlias = Accepted | TellwireError


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptMessage:
    """Stores and queues one message: `await accept(tenant_id, new)`."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self, tenant_id: UUID, new: NewMessage, *, user_id: UUID | None = None
    ) -> Accepted:
        """The stored message; the same key and message again gives the first one, `replayed`.

        Raises ChannelNotFound, ChannelNotActive, IdempotencyKeyReused, InvalidSchedule,
        InvalidMetadata; nothing is stored then.
        """
        message = compose(tenant_id, new, self.now())
        async with self.begin(tenant_id, user_id) as work:
            channel = await work.channels.get_by_id(new.channel_id)
            refusal = _refusal(channel)
            if refusal is not None:
                return await _replay(work, message, refusal)
            stored = await work.messages.save_outbound(message)
            await work.commit()
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptBatch:
    """Stores and queues many messages in one transaction, each with a result of its own."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self, tenant_id: UUID, batch: Sequence[Wanted], *, user_id: UUID | None = None
    ) -> Sequence[Result]:
        """Results in the order given: the stored message, or why this one was not stored.

        One that is refused keeps none of the others back.
        """
        at = self.now()
        async with self.begin(tenant_id, user_id) as work:
            channels = {c.id: c for c in await work.channels.get_by_organization(tenant_id)}
            results = [_composed(tenant_id, wanted, at, channels) for wanted in batch]
            places = [i for i, one in enumerate(results) if isinstance(one, OutboundMessage)]
            messages = [one for one in results if isinstance(one, OutboundMessage)]
            for place, stored in zip(places, await _save_all(work, messages), strict=True):
                results[place] = stored
            await work.commit()
        return results


def compose(tenant_id: UUID, new: NewMessage, at: datetime) -> OutboundMessage:
    """The message that `new` asks for; raises InvalidSchedule, InvalidMetadata."""
    for name, moment in (("send_at", new.send_at), ("expires_at", new.expires_at)):
        if moment is not None and not at - MAX_BACK <= moment <= at + MAX_AHEAD:
            raise InvalidSchedule(f"At most {MAX_AHEAD.days} days ahead", field=name)
    if new.expires_at is not None and new.expires_at <= at:
        raise InvalidSchedule("It has expired already", field="expires_at")
    return OutboundMessage(
        tenant_id=tenant_id,
        channel_id=new.channel_id,
        recipient=new.recipient,
        content=new.content,
        priority=new.priority,
        send_at=new.send_at,
        expires_at=new.expires_at,
        metadata=new.metadata,
        created_at=at,
        # None is what the entity derives its own key from.
        idempotency_key=cast("IdempotencyKey", new.idempotency_key),
    )


def _refusal(channel: Channel | None) -> TellwireError | None:
    """Why nothing can be accepted for this channel; None if something can."""
    if channel is None:
        return ChannelNotFound(field="channel_id")
    if channel.status not in ACCEPTING:
        return ChannelNotActive(
            f"The channel is {channel.status}, so that it takes no messages", field="channel_id"
        )
    return None


async def _replay(work: Work, message: OutboundMessage, refusal: TellwireError) -> Accepted:
    """What was accepted under this key while the channel still took messages, or the refusal."""
    stored = await work.messages.get_outbound_by_idempotency_key(message.idempotency_key)
    if stored is None or stored.digest != message.digest:
        raise refusal
    stored.replayed = True
    return stored


def _composed(
    tenant_id: UUID, wanted: Wanted, at: datetime, channels: Mapping[UUID, Channel]
) -> Result:
    if isinstance(wanted, TellwireError):
        return wanted
    refusal = _refusal(channels.get(wanted.channel_id))
    if refusal is not None:
        return refusal
    try:
        return compose(tenant_id, wanted, at)
    except TellwireError as error:
        return error


async def _save_all(work: Work, messages: Sequence[OutboundMessage]) -> Sequence[Result]:
    """All in one statement; one by one only where a key was used for something else before."""
    try:
        return await work.messages.save_outbound_many(messages)
    except IdempotencyKeyReused:
        # The statement itself went through, so what it stored is found again as it was stored.
        return [await _save_one(work, message) for message in messages]


async def _save_one(work: Work, message: OutboundMessage) -> Result:
    try:
        stored = await work.messages.save_outbound(message)
    except IdempotencyKeyReused as error:
        return error
    # Stored a moment ago by the statement for all of them: this is no replay.
    stored.replayed = stored.replayed and stored.id != message.id
    return stored
