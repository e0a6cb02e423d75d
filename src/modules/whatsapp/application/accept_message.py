"""Take in messages to send: once per idempotency key, stored and queued in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from shared.kernel.errors import TellwireError
from whatsapp.application.ports import BeginWork, Work
from whatsapp.application.send_uploads import check_uploads, want_uploads
from whatsapp.domain.entities import (
    ChannelNotFound,
    InvalidSchedule,
    OutboundMessage,
)
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
_Asked: TypeAlias = tuple[UUID, MessageDraft] | TellwireError
"""A draft and the channel that it goes out from, or why it cannot be read."""


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
        async with self.begin(tenant_id, user_id) as work:
            stored = await _accept_one(work, tenant_id, (new.channel_id, new), self.now())
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
        async with self.begin(tenant_id, user_id) as work:
            channel = await work.channels.get_by_phone_number_id(phone_number_id)
            if channel is None:
                raise ChannelNotFound
            stored = await _accept_one(work, tenant_id, (channel.id, draft), self.now())
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
        asked = [(one.channel_id, one) if isinstance(one, NewMessage) else one for one in batch]
        async with self.begin(tenant_id, user_id) as work:
            results = await _accept(work, tenant_id, asked, self.now())
            await work.commit()
        return results


async def _accept_one(work: Work, tenant_id: UUID, asked: _Asked, at: datetime) -> Accepted:
    (result,) = await _accept(work, tenant_id, [asked], at)
    if isinstance(result, TellwireError):
        raise result
    return result


async def _accept(
    work: Work, tenant_id: UUID, batch: Sequence[_Asked], at: datetime
) -> Sequence[Result]:
    """A result for each, in their order; files in what was stored are on their way to Meta."""
    results = [_composed(tenant_id, asked, at) for asked in batch]
    refused = await check_uploads(work, _messages(results))
    for place, asked in enumerate(batch):
        one = results[place]
        fault = refused.get(one.id) if isinstance(one, OutboundMessage) else one
        if fault is not None:
            results[place] = await _as_before(work, tenant_id, asked) or fault
    accepted = iter(await work.messages.accept_outbound(_messages(results), at=at))
    results = [next(accepted) if isinstance(one, OutboundMessage) else one for one in results]
    await want_uploads(work, [one for one in _messages(results) if not one.replayed], at)
    return results


async def _as_before(work: Work, tenant_id: UUID, asked: _Asked) -> OutboundMessage | None:
    """The message as it was taken under its key, while time and files still allowed it; if it was.

    To ask for it again is no fault, whatever has become of them.
    """
    if isinstance(asked, TellwireError) or asked[1].idempotency_key is None:
        return None
    first = await work.messages.get_outbound_by_idempotency_key(asked[1].idempotency_key)
    again = None if first is None else _composed(tenant_id, asked, first.created_at)
    return again if isinstance(again, OutboundMessage) else None


def _messages(results: Sequence[Result]) -> list[OutboundMessage]:
    return [one for one in results if isinstance(one, OutboundMessage)]


def compose(tenant_id: UUID, channel_id: UUID, new: MessageDraft, at: datetime) -> OutboundMessage:
    """The message that `new` asks for; raises InvalidSchedule, InvalidMetadata."""
    for name, moment in (("send_at", new.send_at), ("expires_at", new.expires_at)):
        if moment is not None and not at - MAX_BACK <= moment <= at + MAX_AHEAD:
            raise InvalidSchedule(
                f"At most {MAX_AHEAD.days} days ahead and {MAX_BACK.days} day back", field=name
            )
    if new.expires_at is not None and new.expires_at <= at:
        raise InvalidSchedule("It has expired already", field="expires_at")
    return OutboundMessage(
        tenant_id=tenant_id,
        channel_id=channel_id,
        recipient=new.recipient,
        content=new.content,
        priority=new.priority,
        send_at=new.send_at and new.send_at.astimezone(UTC),
        expires_at=new.expires_at and new.expires_at.astimezone(UTC),
        metadata=new.metadata,
        callback_data=new.callback_data,
        envelope=new.envelope,
        created_at=at,
        # None is what the entity derives its own key from.
        idempotency_key=cast("IdempotencyKey", new.idempotency_key),
    )


def _composed(tenant_id: UUID, asked: _Asked, at: datetime) -> Result:
    if isinstance(asked, TellwireError):
        return asked
    channel_id, draft = asked
    try:
        return compose(tenant_id, channel_id, draft, at)
    except TellwireError as error:
        return error
