"""A tenant's files by the ids that clients of Meta's endpoint know: ours in digits, or Meta's."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.media import Media, MediaNotFound, MediaStatus, is_media_id
from whatsapp.domain.media_repository import MediaFilter
from whatsapp.domain.value_objects import media_id_behind

FETCHED_WITHIN: Final = timedelta(seconds=10)
"""So long a client waits for a file that came in a moment ago; at Meta it would not have to."""
LOOK_SECONDS: Final = 0.25
_NO_MORE: Final = frozenset({MediaStatus.REMOVING, MediaStatus.REMOVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class FindGraphMedia:
    """Finds a file, and waits a moment for one that is being fetched from Meta."""

    begin: BeginWork
    within: timedelta = FETCHED_WITHIN

    async def __call__(
        self,
        tenant_id: UUID,
        given: str,
        *,
        phone_number_id: str | None = None,
        user_id: UUID | None = None,
    ) -> Media:
        """The file, perhaps still pending; raises MediaNotFound.

        With a `phone_number_id` only one that came in on that number or may be sent from it.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.within.total_seconds()
        while True:
            async with self.begin(tenant_id, user_id) as work:
                media = await _find(work, given, phone_number_id)
            if media is None or media.status in _NO_MORE:
                raise MediaNotFound
            if media.status is not MediaStatus.PENDING or loop.time() >= until:
                return media
            await asyncio.sleep(LOOK_SECONDS)


async def ensure_number(
    begin: BeginWork, tenant_id: UUID, phone_number_id: str, user_id: UUID | None = None
) -> None:
    """Raise ChannelNotFound unless the tenant has a channel with this number."""
    async with begin(tenant_id, user_id) as work:
        await _channel(work, phone_number_id)


async def _find(work: Work, given: str, phone_number_id: str | None) -> Media | None:
    channel_id = None
    if phone_number_id is not None:
        try:
            channel_id = await _channel(work, phone_number_id)
        except ChannelNotFound:
            return None
    if (ours := media_id_behind(given)) is not None:
        media = await work.media.get_by_id(ours)
        elsewhere = media and channel_id and media.channel_id not in {None, channel_id}
        return None if elsewhere else media
    if not is_media_id(given):
        return None
    wanted = MediaFilter(channel_id=channel_id, provider_media_id=given)
    return next(iter(await work.media.list_media(wanted, limit=1)), None)


async def _channel(work: Work, phone_number_id: str) -> UUID:
    channel = await work.channels.get_by_phone_number_id(phone_number_id)
    if channel is None:
        raise ChannelNotFound
    return channel.id
