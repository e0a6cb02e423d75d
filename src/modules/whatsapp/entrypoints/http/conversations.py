"""Routes of conversations: the latest, what was said, read receipts and typing."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from shared.kernel.clock import utc_now
from whatsapp.domain.conversation import ConversationNotFound
from whatsapp.entrypoints.http.caller import Reader, Sender
from whatsapp.entrypoints.http.conversation_shapes import (
    ConversationPageResponse,
    ConversationResponse,
    ReadResponse,
    ThreadMessageResponse,
    ThreadPageResponse,
)
from whatsapp.entrypoints.http.cursor import read_cursor, read_place, write_cursor, write_place
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.services import Services

router = APIRouter(prefix="/v1/conversations", tags=["Conversations"])
"""Declares routes and holds nothing else."""

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=64)]


@router.get("", responses=problems(422))
async def list_conversations(
    services: Services,
    caller: Reader,
    *,
    channel_id: UUID | None = None,
    unread: Annotated[bool, Query(description="Only those in which something is unread.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ConversationPageResponse:
    """Conversations that have messages, the one with the latest first, by page."""
    before = read_place(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        page = await work.conversation_views.list_latest(
            limit=limit, channel_id=channel_id, is_unread=unread, before=before
        )
    now = utc_now()
    return ConversationPageResponse(
        data=[ConversationResponse.of(view, services.explain, now) for view in page.views],
        next_cursor=write_place(page.next_before),
    )


@router.get("/{conversation_id}", responses=problems(404))
async def get_conversation(
    conversation_id: UUID, services: Services, caller: Reader
) -> ConversationResponse:
    """One conversation with its window; also by the id of one that was merged into it."""
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        view = await work.conversation_views.get_view(conversation_id)
    if view is None:
        raise ConversationNotFound
    return ConversationResponse.of(view, services.explain, utc_now())


@router.get("/{conversation_id}/messages", responses=problems(404, 422))
async def list_conversation_messages(
    conversation_id: UUID,
    services: Services,
    caller: Reader,
    *,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ThreadPageResponse:
    """What was heard and sent in it, newest first, in the order in which Tellwire took it in."""
    before = read_cursor(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        view = await work.conversation_views.get_view(conversation_id)
        if view is None:
            raise ConversationNotFound
        page = await work.conversation_views.list_messages(
            view.conversation.id, limit=limit, before=before
        )
    return ThreadPageResponse(
        data=[ThreadMessageResponse.of(message, services.explain) for message in page.messages],
        next_cursor=write_cursor(page.next_before),
    )


@router.post("/{conversation_id}/read", responses=problems(404))
async def read_conversation(
    conversation_id: UUID, services: Services, caller: Sender
) -> ReadResponse:
    """Reset what is unread and let Meta show the contact that it was read; may be repeated.

    After a 503 nothing is unread any more, but Meta does not know yet: repeat it.
    """
    view, receipt = await services.read_conversation(
        caller.tenant_id, conversation_id, user_id=caller.key_id
    )
    conversation = ConversationResponse.of(view, services.explain, utc_now())
    return ReadResponse(conversation=conversation, receipt=receipt)


@router.post("/{conversation_id}/typing", status_code=204, responses=problems(404, 409))
async def show_typing(conversation_id: UUID, services: Services, caller: Sender) -> Response:
    """Show the contact for 25 seconds, or until the next message, that an answer is written.

    Meta marks what they wrote as read with it; here it stays unread.
    """
    await services.show_typing(caller.tenant_id, conversation_id, user_id=caller.key_id)
    return Response(status_code=204)
