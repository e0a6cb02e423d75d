"""Routes of channels: what there is; an operator's commands change it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from whatsapp.domain.entities import ChannelNotFound
from whatsapp.entrypoints.http.caller import ChannelReader
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import problems
from whatsapp.entrypoints.http.responses import ChannelPageResponse, ChannelResponse
from whatsapp.entrypoints.http.services import Services

router = APIRouter(prefix="/v1/channels", tags=["Channels"])
"""Declares routes and holds nothing else."""


@router.get("", responses=problems(422))
async def list_channels(
    services: Services,
    caller: ChannelReader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> ChannelPageResponse:
    """The tenant's channels, oldest first, by page."""
    after = read_cursor(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        found = await work.channels.list(limit=limit + 1, after=after)
    page = found[:limit]
    return ChannelPageResponse(
        data=[ChannelResponse.of(channel) for channel in page],
        next_cursor=write_cursor(page[-1].id if len(found) > limit else None),
    )


@router.get("/{channel_id}", responses=problems(404))
async def get_channel(
    channel_id: UUID, services: Services, caller: ChannelReader
) -> ChannelResponse:
    """One channel; its token is never shown."""
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        channel = await work.channels.get_by_id(channel_id)
    if channel is None:
        raise ChannelNotFound
    return ChannelResponse.of(channel)
