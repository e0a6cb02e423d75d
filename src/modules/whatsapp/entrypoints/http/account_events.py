"""Routes of what Meta reports besides messages: events as they came, and templates."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from whatsapp.entrypoints.http.caller import ChannelReader
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.requests import NO_NUL
from whatsapp.entrypoints.http.services import Services

router = APIRouter(prefix="/v1", tags=["Account"])
"""Declares routes and holds nothing else."""

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=64)]


class AccountEventResponse(BaseModel):
    """A report as Meta wrote it; `reason` says why it was not understood, where it was not."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    channel_id: UUID | None
    provider_account_id: str | None
    field: str
    reason: str | None
    raw: Any
    reported_at: datetime | None
    received_at: datetime | None


class AccountEventPageResponse(BaseModel):
    """Reports, newest first."""

    data: list[AccountEventResponse]
    next_cursor: str | None


class TemplateResponse(BaseModel):
    """A template as far as Meta has reported on it; null where it has not."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    provider_account_id: str
    name: str
    language: str
    template_id: str | None
    status: str | None
    status_reason: str | None
    quality: str | None
    category: str | None


class TemplatePageResponse(BaseModel):
    """Templates in the order in which they were first reported on."""

    data: list[TemplateResponse]
    next_cursor: str | None


@router.get("/account-events", responses=problems(422))
async def list_account_events(
    services: Services,
    caller: ChannelReader,
    limit: Limit = 50,
    cursor: Cursor = None,
    field: Annotated[str | None, Query(max_length=100, pattern=NO_NUL)] = None,
    not_understood: Annotated[bool, Query(description="Only what could not be read.")] = False,  # noqa: FBT002  # FastAPI's way
) -> AccountEventPageResponse:
    """What Meta reported about the tenant's numbers and accounts besides messages, newest first.

    A page ends sooner where reports are large; `next_cursor` says whether more follow.
    """
    before = read_cursor(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        page = await work.accounts.list_events(
            limit=limit, before=before, field=field, unread_only=not_understood
        )
    return AccountEventPageResponse(
        data=[AccountEventResponse.model_validate(event) for event in page.events],
        next_cursor=write_cursor(page.following),
    )


@router.get("/templates", responses=problems(422))
async def list_templates(
    services: Services, caller: ChannelReader, limit: Limit = 50, cursor: Cursor = None
) -> TemplatePageResponse:
    """The templates that Meta has reported on, with their newest status, quality and category."""
    after = read_cursor(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        found = await work.accounts.list_templates(limit=limit + 1, after=after)
    page = found[:limit]
    return TemplatePageResponse(
        data=[TemplateResponse.model_validate(template) for template in page],
        next_cursor=write_cursor(page[-1].id if len(found) > limit else None),
    )
