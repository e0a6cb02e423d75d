"""Mark a conversation as read, for us and for the contact, and show that an answer is written."""

import logging
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from shared.kernel.errors import Conflict, TellwireError
from whatsapp.application.conversation_views import ConversationView
from whatsapp.application.mark_as_read import Receipts
from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.conversation import ConversationNotFound
from whatsapp.domain.entities import Channel, ChannelNotFound, InboundMessage

logger = logging.getLogger(__name__)


class NothingToAnswer(Conflict):
    """The contact has written nothing that could be answered."""

    code = "nothing_to_answer"
    title = "The contact has not written anything in this conversation yet"


class ReceiptOutcome(StrEnum):
    """Whether the contact gets to see that their messages were read."""

    SENT = "sent"
    REFUSED = "refused"
    """Meta refused it: the message is older than 30 days, for one."""
    NOT_NEEDED = "not_needed"
    """The contact has written nothing."""
    CHANNEL_NOT_ACTIVE = "channel_not_active"
    """The channel is paused or not verified, so that nothing leaves on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConversation:
    """Nothing in it is unread any more, and Meta is told at once.

    A receipt may be repeated and is worth nothing later, so that no queue keeps it. What is unread
    is reset first and stays so, also where Meta cannot be reached: the same call again tells Meta.
    """

    begin: BeginWork
    receipts: Receipts

    async def __call__(
        self, tenant_id: UUID, conversation_id: UUID, *, user_id: UUID | None = None
    ) -> tuple[ConversationView, ReceiptOutcome]:
        """The conversation as it is then. Raises ConversationNotFound, and Unavailable for Meta."""
        async with self.begin(tenant_id, user_id) as work:
            held = await _hold(work, conversation_id)
            newest = await work.conversation_views.get_newest_inbound(held)
            await work.conversations.mark_read(held)
            view = await _view(work, held)
            await work.commit()
            channel = await _channel(work, view)
        return view, await self._tell(channel, newest)

    async def _tell(self, channel: Channel, newest: InboundMessage | None) -> ReceiptOutcome:
        if newest is None:
            return ReceiptOutcome.NOT_NEEDED
        if not channel.is_active:
            return ReceiptOutcome.CHANNEL_NOT_ACTIVE
        try:
            await self.receipts.mark_as_read(
                phone_number_id=channel.phone_number_id,
                token=channel.access_token,
                wamid=newest.wamid,
            )
        except TellwireError as error:
            if error.retryable:
                raise
            logger.info("a read receipt was refused: %s", error.code)
            return ReceiptOutcome.REFUSED
        return ReceiptOutcome.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowTyping:
    """Shows the contact for 25 seconds, or until the next message, that an answer is written.

    Meta marks what they wrote as read with it; what is unread for us stays as it is.
    """

    begin: BeginWork
    receipts: Receipts

    async def __call__(
        self, tenant_id: UUID, conversation_id: UUID, *, user_id: UUID | None = None
    ) -> None:
        """Raises ConversationNotFound, NothingToAnswer, ChannelNotActive, and what Meta says."""
        async with self.begin(tenant_id, user_id) as work:
            view = await _view(work, conversation_id)
            newest = await work.conversation_views.get_newest_inbound(view.conversation.id)
            channel = await _channel(work, view)
        if newest is None:
            raise NothingToAnswer
        channel.ensure_active()
        await self.receipts.mark_as_read(
            phone_number_id=channel.phone_number_id,
            token=channel.access_token,
            wamid=newest.wamid,
            is_typing=True,
        )


async def _view(work: Work, conversation_id: UUID) -> ConversationView:
    view = await work.conversation_views.get_view(conversation_id)
    if view is None:
        raise ConversationNotFound
    return view


async def _hold(work: Work, conversation_id: UUID) -> UUID:
    """The conversation, locked: what comes in meanwhile stays unread. Also where it just merged."""
    while True:
        found = (await _view(work, conversation_id)).conversation
        await work.conversations.lock_people(found.channel_id)
        if await work.conversations.hold([found.id]):
            return found.id


async def _channel(work: Work, view: ConversationView) -> Channel:
    channel = await work.channels.get_by_id(view.conversation.channel_id)
    if channel is None:
        raise ChannelNotFound
    return channel
