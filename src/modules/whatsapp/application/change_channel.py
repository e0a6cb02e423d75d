"""What operators do to a channel, and what Tellwire does when a channel cannot send any more."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from whatsapp.application.ports import BeginWork
from whatsapp.application.record_events import record_pause
from whatsapp.domain.account import Stop
from whatsapp.domain.entities import Channel, ChannelChanges, ChannelNotFound, ChannelStatus
from whatsapp.domain.value_objects import AccessToken

BY_OPERATOR: Final = "by_operator"
ENDED_BY_REPORTS: Final = frozenset(stop.value for stop in Stop)
"""Reasons of pauses that end when Meta reports so."""
logger = logging.getLogger(__name__)


async def alter_channel(
    begin: BeginWork,
    tenant_id: UUID,
    channel_id: UUID,
    alter: Callable[[Channel], Channel],
    *,
    user_id: UUID | None = None,
) -> Channel:
    """Store what `alter` makes of the channel, which is locked meanwhile; ChannelNotFound.

    That it does not send any more is told as an event. Where it gives up the order of messages,
    nothing waits for what went before it any more.
    """
    async with begin(tenant_id, user_id) as work:
        channel = await work.channels.find(channel_id, for_change=True)
        if channel is None:
            raise ChannelNotFound
        was_paused, kept_order = channel.status is ChannelStatus.PAUSED, channel.keeps_order
        stored = await work.channels.update(alter(channel))
        if kept_order and not stored.keeps_order:
            await work.messages.step_forward(channel_id)
        if stored.status is ChannelStatus.PAUSED and not was_paused:
            await record_pause(work, stored)
        await work.commit()
    return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeChannel:
    """Changes how a channel sends: workers go by it within a second."""

    begin: BeginWork

    async def __call__(
        self,
        tenant_id: UUID,
        channel_id: UUID,
        changes: ChannelChanges,
        *,
        user_id: UUID | None = None,
    ) -> Channel:
        """The channel as stored; raises ChannelNotFound, InvalidChannel."""

        def alter(channel: Channel) -> Channel:
            return channel.changed(changes)

        return await alter_channel(self.begin, tenant_id, channel_id, alter, user_id=user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseChannel:
    """Stops sending on a channel, keeps its messages, and writes one line about it to the log."""

    begin: BeginWork

    async def __call__(
        self,
        tenant_id: UUID,
        channel_id: UUID,
        *,
        reason: str,
        code: str = BY_OPERATOR,
        user_id: UUID | None = None,
    ) -> Channel:
        """The paused channel; one that is paused already keeps its reason.

        Unless an operator pauses what Meta's own reports have paused: it must not go on by itself.

        `code` says in the log what `reason` says to people. Raises ChannelNotFound, and
        ChannelNotActive for a disabled one.
        """
        news = False

        def alter(channel: Channel) -> Channel:
            nonlocal news
            news = channel.status is not ChannelStatus.PAUSED or (
                code == BY_OPERATOR and channel.pause_reason in ENDED_BY_REPORTS
            )
            if news:
                channel.pause(reason)
            return channel

        paused = await alter_channel(self.begin, tenant_id, channel_id, alter, user_id=user_id)
        if news:
            level = logging.WARNING if code == BY_OPERATOR else logging.ERROR
            logger.log(level, "channel %s paused: %s", channel_id, code)
        return paused


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeChannel:
    """Lets a paused channel send again, what it kept first."""

    begin: BeginWork

    async def __call__(
        self, tenant_id: UUID, channel_id: UUID, *, user_id: UUID | None = None
    ) -> Channel:
        """The channel; raises ChannelNotFound, ChannelNotActive, AccessTokenUnreadable."""

        def alter(channel: Channel) -> Channel:
            channel.resume()
            return channel

        return await alter_channel(self.begin, tenant_id, channel_id, alter, user_id=user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateToken:
    """Has a channel speak with another token from now on."""

    begin: BeginWork

    async def __call__(
        self,
        tenant_id: UUID,
        channel_id: UUID,
        token: AccessToken,
        *,
        user_id: UUID | None = None,
    ) -> Channel:
        """The channel; raises ChannelNotFound. The token before it is forgotten."""

        def alter(channel: Channel) -> Channel:
            channel.rotate_token(token)
            return channel

        return await alter_channel(self.begin, tenant_id, channel_id, alter, user_id=user_id)
