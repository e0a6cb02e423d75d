"""Routes of channels: take one in, verify it, change how it sends, stop it and let it go on."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from whatsapp.domain.entities import ChannelNotFound
from whatsapp.entrypoints.http.caller import ChannelReader, ChannelWriter
from whatsapp.entrypoints.http.channel_shapes import (
    ChangeChannelRequest,
    ChannelLimitsResponse,
    ChannelPageResponse,
    ChannelResponse,
    CreateChannelRequest,
    PauseChannelRequest,
    RotateTokenRequest,
    VerifiedChannelResponse,
    read_token,
)
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import made, problems
from whatsapp.entrypoints.http.services import Services

PREFIX = "/v1/channels"
router = APIRouter(prefix=PREFIX, tags=["Channels"])
"""Declares routes and holds nothing else."""


@router.post("", status_code=201, responses=problems(409, 422) | made("Taken in"))
async def create_channel(
    wanted: CreateChannelRequest, response: Response, services: Services, caller: ChannelWriter
) -> ChannelResponse:
    """Take in a number. It is `pending` and takes no messages until it is verified."""
    channel = wanted.to_channel(caller.tenant_id)
    stored = await services.add_channel(channel, user_id=caller.key_id)
    response.headers["Location"] = f"{PREFIX}/{stored.id}"
    return ChannelResponse.of(stored)


@router.get("", responses=problems(422))
async def list_channels(
    services: Services,
    caller: ChannelReader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> ChannelPageResponse:
    """The tenant's channels, oldest first, by page; follow `next_cursor` until it is null."""
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
        channel = await work.channels.find(channel_id)
    if channel is None:
        raise ChannelNotFound
    return ChannelResponse.of(channel)


@router.patch("/{channel_id}", responses=problems(404))
async def change_channel(
    channel_id: UUID, wanted: ChangeChannelRequest, services: Services, caller: ChannelWriter
) -> ChannelResponse:
    """Change how a channel sends; workers go by it within a second."""
    changes = wanted.to_changes()
    return ChannelResponse.of(
        await services.change_channel(caller.tenant_id, channel_id, changes, user_id=caller.key_id)
    )


@router.post("/{channel_id}/verify", responses=problems(404, 409))
async def verify_channel(
    channel_id: UUID, services: Services, caller: ChannelWriter
) -> VerifiedChannelResponse:
    """Ask Meta about the number with its own token; if it may send, it does so from now on."""
    channel, info = await services.verify_channel(
        caller.tenant_id, channel_id, user_id=caller.key_id
    )
    return VerifiedChannelResponse.after(channel, info)


@router.post("/{channel_id}/pause", responses=problems(404, 409))
async def pause_channel(
    channel_id: UUID,
    services: Services,
    caller: ChannelWriter,
    wanted: PauseChannelRequest | None = None,
) -> ChannelResponse:
    """Stop sending and keep what waits; what was handed to Meta is not called back."""
    reason = (wanted or PauseChannelRequest()).reason
    return ChannelResponse.of(
        await services.pause_channel(
            caller.tenant_id, channel_id, reason=reason, user_id=caller.key_id
        )
    )


@router.post("/{channel_id}/resume", responses=problems(404, 409))
async def resume_channel(
    channel_id: UUID, services: Services, caller: ChannelWriter
) -> ChannelResponse:
    """Send again after a pause, what was kept first."""
    return ChannelResponse.of(
        await services.resume_channel(caller.tenant_id, channel_id, user_id=caller.key_id)
    )


@router.put("/{channel_id}/token", responses=problems(404))
async def rotate_token(
    channel_id: UUID, wanted: RotateTokenRequest, services: Services, caller: ChannelWriter
) -> ChannelResponse:
    """Speak with another token from now on. A paused channel stays paused until it is resumed."""
    token = read_token(wanted.access_token)
    return ChannelResponse.of(
        await services.rotate_token(caller.tenant_id, channel_id, token, user_id=caller.key_id)
    )


@router.get("/{channel_id}/limits", responses=problems(404))
async def get_limits(
    channel_id: UUID, services: Services, caller: ChannelReader
) -> ChannelLimitsResponse:
    """The channel's rate, how much of it is free at this moment, and what waits."""
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        channel = await work.channels.find(channel_id)
        if channel is None:
            raise ChannelNotFound
        depth = await work.views.count_queue(channel_id)
    state = await services.limiter.check_rate_limit(
        channel.phone_number_id, rate=channel.messages_per_second
    )
    return ChannelLimitsResponse.of(channel, state, depth)
