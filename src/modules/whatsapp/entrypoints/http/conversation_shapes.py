"""What callers get to see of conversations, contacts and what was said."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from whatsapp.application.conversation_views import ConversationView, ThreadMessage
from whatsapp.application.read_conversation import ReceiptOutcome
from whatsapp.domain.conversation import Conversation
from whatsapp.domain.entities import InboundMessage
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.entrypoints.http.inbound_shapes import (
    EDITED_MESSAGE,
    TAKEN_BACK,
    ContextResponse,
    InboundShown,
)
from whatsapp.entrypoints.http.responses import Explain, FailureResponse, failure_of


class MarketingResponse(BaseModel):
    """What a contact told Meta about marketing messages; `changed_at` is null if nothing."""

    stopped: bool
    changed_at: datetime | None


class ContactResponse(BaseModel):
    """A person as one channel knows them: by phone number, by user id, or by both."""

    id: UUID = Field(description="Also the id of the conversation with them.")
    channel_id: UUID
    phone: str | None
    user_id: str | None = Field(description="Business-scoped user id (BSUID).")
    name: str | None = Field(description="As they call themselves at WhatsApp.")
    username: str | None
    marketing: MarketingResponse
    created_at: datetime | None

    @classmethod
    def of(cls, contact: Conversation) -> Self:
        """What may be seen of `contact`."""
        return cls(
            id=contact.id,
            channel_id=contact.channel_id,
            phone=None if contact.phone is None else contact.phone.e164,
            user_id=None if contact.user_id is None else contact.user_id.value,
            name=contact.profile_name,
            username=contact.username,
            marketing=MarketingResponse(
                stopped=contact.marketing_stopped, changed_at=contact.marketing_at
            ),
            created_at=contact.created_at,
        )


class ContactPageResponse(BaseModel):
    """Contacts in the order in which they became known."""

    data: list[ContactResponse]
    next_cursor: str | None


class WindowResponse(BaseModel):
    """Whether free-form messages are taken now, and until when; templates always are."""

    is_open: bool
    open_until: datetime | None = Field(
        description="24 hours after the contact's last message, less a minute; null if they never "
        "wrote."
    )


class ThreadMessageResponse(InboundShown):
    """A message of a conversation, in either direction."""

    model_config = ConfigDict(json_schema_extra={"examples": [EDITED_MESSAGE, TAKEN_BACK]})

    id: UUID
    direction: Literal["in", "out"]
    type: str
    content: Any = Field(
        description="Meta's object under the type's name, after the latest edit; null where the "
        "customer took the message back."
    )
    context: ContextResponse | None
    wamid: str | None
    at: datetime = Field(description="When it was written, or accepted to be sent.")
    status: MessageStatus | None = Field(description="Of a message out.")
    failure: FailureResponse | None = Field(description="Of a message out.")

    @classmethod
    def of(cls, message: ThreadMessage, explain: Explain) -> Self:
        """What may be seen of `message`."""
        if isinstance(message, InboundMessage):
            current = message.current
            return cls(
                id=message.id,
                direction="in",
                type=current.type,
                content=None if message.revoked_at else current.to_dict()[current.type],
                context=_context(message),
                wamid=message.wamid,
                at=message.sent_at,
                status=None,
                failure=None,
                **cls.read_from(message),
            )
        return cls(
            id=message.id,
            direction="out",
            type=message.content.type.value,
            content=message.content.to_dict()[message.content.type],
            context=_answered(message.content.context_message_id),
            wamid=message.wamid,
            at=message.created_at,
            status=message.status,
            failure=failure_of(message, explain),
        )


class ThreadPageResponse(BaseModel):
    """Messages in both directions, newest first."""

    data: list[ThreadMessageResponse]
    next_cursor: str | None


class ConversationResponse(BaseModel):
    """What was said between a channel and a contact."""

    id: UUID
    channel_id: UUID
    contact: ContactResponse
    window: WindowResponse
    unread_count: int
    last_message: ThreadMessageResponse | None
    last_message_at: datetime | None
    last_inbound_at: datetime | None
    last_outbound_at: datetime | None

    @classmethod
    def of(cls, view: ConversationView, explain: Explain, now: datetime) -> Self:
        """What may be seen of a conversation at `now`."""
        found, last = view.conversation, view.last_message
        until = found.open_until
        return cls(
            id=found.id,
            channel_id=found.channel_id,
            contact=ContactResponse.of(found),
            window=WindowResponse(is_open=until is not None and now < until, open_until=until),
            unread_count=found.unread_count,
            last_message=None if last is None else ThreadMessageResponse.of(last, explain),
            last_message_at=found.last_message_at,
            last_inbound_at=found.last_inbound_at,
            last_outbound_at=found.last_outbound_at,
        )


class ConversationPageResponse(BaseModel):
    """Conversations, the one with the latest message first."""

    data: list[ConversationResponse]
    next_cursor: str | None


class ReadResponse(BaseModel):
    """A conversation in which nothing is unread any more."""

    conversation: ConversationResponse
    receipt: ReceiptOutcome = Field(
        description="Whether the contact gets to see it: `sent`; `refused` by Meta, as for "
        "messages of more than 30 days; `not_needed` where they wrote nothing; "
        "`channel_not_active`."
    )


def _context(message: InboundMessage) -> ContextResponse | None:
    context = message.context
    if context is None:
        return None
    return ContextResponse(
        message_id=context.message_id,
        sender=context.sender,
        is_forwarded=context.is_forwarded,
        is_frequently_forwarded=context.is_frequently_forwarded,
        referred_product=context.referred_product,
    )


def _answered(wamid: str | None) -> ContextResponse | None:
    return None if wamid is None else ContextResponse(message_id=wamid)
