"""Take in messages to send: once per idempotency key, stored and queued in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from shared.kernel.errors import TellwireError
from whatsapp.application.ports import BeginWork, Work
from whatsapp.application.send_uploads import check_uploads, want_uploads
from whatsapp.domain.entities import ChannelNotFound, InvalidSchedule, OutboundMessage
from whatsapp.domain.value_objects import IdempotencyKey, MessageContent, Priority, Recipient

MAX_AHEAD: Final = timedelta(days=366)
MAX_BACK: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDraft:
    """What a caller wants sent; `idempotency_key` is None where the caller brings none."""

    recipient: Recipient
    content: MessageContent
    idempotency_key: IdempotencyKey | None = None
    priority: Priority = Priority.NORMAL
    send_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    callback_data: str | None = field(default=None, repr=False)
    envelope: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage(MessageDraft):
    """A draft with the channel that it goes out from."""

    channel_id: UUID


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

        Raises ChannelNotFound, ChannelNotActive, ServiceWindowClosed, IdempotencyKeyReused,
        InvalidSchedule, InvalidMetadata, MediaNotFound, InvalidMedia; nothing is stored then.
        """
        at = self.now()
        message = compose(tenant_id, new.channel_id, new, at)
        async with self.begin(tenant_id, user_id) as work:
            stored = await _accept_one(work, message, at)
            await work.commit()
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptGraphMessage:
    """As AcceptMessage, for a number by Meta's id of it: `await accept(tenant, number, draft)`."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self,
        tenant_id: UUID,
        phone_number_id: str,
        draft: MessageDraft,
        *,
        user_id: UUID | None = None,
    ) -> Accepted:
        """The stored message; raises what AcceptMessage raises."""
        at = self.now()
        async with self.begin(tenant_id, user_id) as work:
            channel = await work.channels.get_by_phone_number_id(phone_number_id)
            if channel is None:
                raise ChannelNotFound
            message = compose(tenant_id, channel.id, draft, at)
            stored = await _accept_one(work, message, at)
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
        results = [_composed(tenant_id, wanted, at) for wanted in batch]
        places = [i for i, one in enumerate(results) if isinstance(one, OutboundMessage)]
        messages = [one for one in results if isinstance(one, OutboundMessage)]
        async with self.begin(tenant_id, user_id) as work:
            accepted = await _accept(work, messages, at)
            await work.commit()
        for place, result in zip(places, accepted, strict=True):
            results[place] = result
        return results


async def _accept_one(work: Work, message: OutboundMessage, at: datetime) -> Accepted:
    (result,) = await _accept(work, [message], at)
    if isinstance(result, TellwireError):
        raise result
    return result


async def _accept(
    work: Work, messages: Sequence[OutboundMessage], at: datetime
) -> Sequence[Result]:
    """A result for each, in their order; files in what was stored are on their way to Meta."""
    refused = await check_uploads(work, messages)
    passed = [one for one in messages if one.id not in refused]
    accepted = await work.messages.accept_outbound(passed, at=at)
    stored = [one for one in accepted if isinstance(one, OutboundMessage) and not one.replayed]
    await want_uploads(work, stored, at)
    results = iter(accepted)
    return [refused[one.id] if one.id in refused else next(results) for one in messages]


def compose(tenant_id: UUID, channel_id: UUID, new: MessageDraft, at: datetime) -> OutboundMessage:
    """The message that `new` asks for; raises InvalidSchedule, InvalidMetadata."""
    for name, moment in (("send_at", new.send_at), ("expires_at", new.expires_at)):
        if moment is not None and not at - MAX_BACK <= moment <= at + MAX_AHEAD:
            raise InvalidSchedule(f"At most {MAX_AHEAD.days} days ahead", field=name)
    if new.expires_at is not None and new.expires_at <= at:
        raise InvalidSchedule("It has expired already", field="expires_at")
    return OutboundMessage(
        tenant_id=tenant_id,
        channel_id=channel_id,
        recipient=new.recipient,
        content=new.content,
        priority=new.priority,
        send_at=new.send_at,
        expires_at=new.expires_at,
        metadata=new.metadata,
        callback_data=new.callback_data,
        envelope=new.envelope,
        created_at=at,
        # None is what the entity derives its own key from.
        idempotency_key=cast("IdempotencyKey", new.idempotency_key),
    )


def _composed(tenant_id: UUID, wanted: Wanted, at: datetime) -> Result:
    if isinstance(wanted, TellwireError):
        return wanted
    try:
        return compose(tenant_id, wanted.channel_id, wanted, at)
    except TellwireError as error:
        return error
