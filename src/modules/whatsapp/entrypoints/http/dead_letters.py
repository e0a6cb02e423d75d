"""Routes of dead letters: what failed or expired, why, and how it is sent again."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from whatsapp.application.message_views import MessageFilter
from whatsapp.entrypoints.http.caller import Reader, Sender
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.requests import Instant, RetryDeadLettersRequest
from whatsapp.entrypoints.http.responses import (
    MessagePageResponse,
    MessageResponse,
    RetriedResponse,
)
from whatsapp.entrypoints.http.services import Services

router = APIRouter(prefix="/v1/messages", tags=["Dead letters"])
"""Declares routes and holds nothing else."""


@router.get("/dead-letters", responses=problems(422))
async def list_dead_letters(
    services: Services,
    caller: Reader,
    *,
    channel_id: UUID | None = None,
    code: Annotated[
        int | None, Query(ge=0, le=2**31 - 1, description="Meta's code of the failure.")
    ] = None,
    created_from: Instant | None = None,
    created_before: Instant | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> MessagePageResponse:
    """What failed or expired, newest first, by page, each with its reason and what to do."""
    wanted = MessageFilter(
        is_dead=True,
        channel_id=channel_id,
        code=code,
        created_from=created_from,
        created_before=created_before,
    )
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        page = await work.views.list_outbound(wanted, limit=limit, before=read_cursor(cursor))
    return MessagePageResponse(
        data=[MessageResponse.of(message, services.explain) for message in page.messages],
        next_cursor=write_cursor(page.next_before),
    )


@router.post("/retry", status_code=202, responses=problems(422))
async def retry_dead_letters(
    wanted: RetryDeadLettersRequest, services: Services, caller: Sender
) -> RetriedResponse:
    """Send dead letters again that the filter finds; follow `next_cursor` until it is null."""
    retried = await services.retry_dead_letters(
        caller.tenant_id,
        wanted.to_filter(),
        limit=wanted.limit,
        before=read_cursor(wanted.cursor),
        user_id=caller.key_id,
    )
    return RetriedResponse(
        retried=retried.count,
        refused=retried.refused,
        next_cursor=write_cursor(retried.next_before),
    )
