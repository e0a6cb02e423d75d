"""What a caller may still do about a message that was accepted: take it back, or send it again."""

from dataclasses import dataclass
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork
from whatsapp.application.record_events import record_decided
from whatsapp.domain.entities import InvalidTransition, MessageNotFound, OutboundMessage
from whatsapp.domain.repositories import Revival
from whatsapp.domain.value_objects import MessageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelMessage:
    """Takes a message back before it is sent."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self, tenant_id: UUID, message_id: UUID, *, user_id: UUID | None = None
    ) -> OutboundMessage:
        """The cancelled message; a second time gives it again.

        Raises MessageNotFound, and InvalidTransition once it is on its way.
        """
        async with self.begin(tenant_id, user_id) as work:
            now = self.now()
            try:
                cancelled = await work.messages.cancel_outbound(message_id, now)
            except InvalidTransition:
                # Looked at afterwards: two who cancel at once both find it cancelled.
                message = await work.messages.get_outbound_by_id(message_id)
                if message is not None and message.status is MessageStatus.CANCELLED:
                    return message
                if message is None:
                    raise MessageNotFound from None
                raise
            await record_decided(work, [message_id], now)
            await work.commit()
        return cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryMessage:
    """Sends a message again that failed for good, expired, or of which nobody knows."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self, tenant_id: UUID, message_id: UUID, *, user_id: UUID | None = None
    ) -> OutboundMessage:
        """The message, queued again, without an expiry that has passed.

        Raises MessageNotFound, InvalidTransition for what has not ended or went on meanwhile, and
        where the channel would not take it today what AcceptMessage raises then.
        """
        async with self.begin(tenant_id, user_id) as work:
            message = await work.messages.get_outbound_by_id(message_id)
            if message is None:
                raise MessageNotFound
            now = self.now()
            message.send_again(now)
            if not await work.messages.send_again([Revival(message=message)], at=now):
                raise InvalidTransition("The message went on, or a worker still holds it")
            refusals = await work.messages.refusals([message], at=now)
            if message.id in refusals:
                raise refusals[message.id]
            await work.commit()
        return message
