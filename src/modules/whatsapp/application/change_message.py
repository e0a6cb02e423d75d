"""What a caller may still do about a message that was accepted: take it back, or send it again."""

from dataclasses import dataclass
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.ports import BeginWork
from whatsapp.domain.entities import InvalidTransition, MessageNotFound, OutboundMessage
from whatsapp.domain.value_objects import RETRY, MessageStatus


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
            message = await work.messages.get_outbound_by_id(message_id)
            if message is None:
                raise MessageNotFound
            if message.status is MessageStatus.CANCELLED:
                return message
            cancelled = await work.messages.cancel_outbound(message_id, self.now())
            await work.commit()
        return cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryMessage:
    """Sends a message again that failed for good."""

    begin: BeginWork
    now: Clock = utc_now

    async def __call__(
        self, tenant_id: UUID, message_id: UUID, *, user_id: UUID | None = None
    ) -> OutboundMessage:
        """The message, queued again; raises MessageNotFound, InvalidTransition."""
        async with self.begin(tenant_id, user_id) as work:
            message = await work.messages.get_outbound_by_id(message_id)
            if message is None:
                raise MessageNotFound
            # `requeue` also serves workers, who may put back what a person must leave alone.
            if MessageStatus.QUEUED not in RETRY[message.status]:
                raise InvalidTransition(f"A message that is {message.status} cannot be sent again")
            message.requeue(self.now())
            message.failure = None
            stored = await work.messages.update_outbound(message)
            if stored.status is not MessageStatus.QUEUED:
                raise InvalidTransition(f"A message that is {stored.status} cannot be sent again")
            await work.commit()
        return stored
