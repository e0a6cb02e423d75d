"""Routes of contacts: who has written to the tenant's channels, and what they wish."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from whatsapp.entrypoints.http.caller import Reader
from whatsapp.entrypoints.http.conversation_shapes import ContactPageResponse, ContactResponse
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.requests import read_recipient
from whatsapp.entrypoints.http.services import Services

router = APIRouter(prefix="/v1/contacts", tags=["Contacts"])
"""Declares routes and holds nothing else."""


@router.get("", responses=problems(422))
async def list_contacts(
    services: Services,
    caller: Reader,
    *,
    channel_id: UUID | None = None,
    known_as: Annotated[
        str | None, Query(max_length=140, description="A phone number with + or a user id.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> ContactPageResponse:
    """Contacts in the order in which they became known, by page; one for each channel."""
    after, name = read_cursor(cursor), read_recipient(known_as, "known_as")
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        found = await work.conversation_views.list_contacts(
            limit=limit + 1, channel_id=channel_id, known_as=name, after=after
        )
    page = found[:limit]
    return ContactPageResponse(
        data=[ContactResponse.of(contact) for contact in page],
        next_cursor=write_cursor(page[-1].id if len(found) > limit else None),
    )
