"""Take in a new channel, and find out from Meta whether it may send."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.change_channel import alter_channel
from whatsapp.application.ports import BeginWork
from whatsapp.domain.entities import Channel, ChannelNotActive, ChannelNotFound
from whatsapp.domain.phone_number_info import PhoneNumberInfo
from whatsapp.domain.value_objects import AccessToken


class NumberDirectory(Protocol):
    """Knows what Meta says of a number; a token that may not use it is refused."""

    async def get_phone_number(
        self, *, phone_number_id: str, token: AccessToken
    ) -> PhoneNumberInfo:
        """What Meta knows about the number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AddChannel:
    """Stores a channel; it is `pending` until it is verified."""

    begin: BeginWork

    async def __call__(self, channel: Channel, *, user_id: UUID | None = None) -> Channel:
        """The channel as stored; raises ChannelAlreadyExists, TenantNotFound."""
        async with self.begin(channel.tenant_id, user_id) as work:
            stored = await work.channels.add(channel)
            await work.commit()
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyChannel:
    """Asks Meta about a channel's number with its own token, and lets it send if it may."""

    begin: BeginWork
    directory: NumberDirectory
    now: Clock = utc_now

    async def __call__(
        self, tenant_id: UUID, channel_id: UUID, *, user_id: UUID | None = None
    ) -> tuple[Channel, PhoneNumberInfo]:
        """The channel, verified; ChannelNotActive with Meta's reasons if it may not send.

        Raises ChannelNotFound, AccessTokenUnreadable, and what the directory raises; nothing is
        changed then.
        """
        async with self.begin(tenant_id, user_id) as work:
            channel = await work.channels.find(channel_id)
        if channel is None:
            raise ChannelNotFound
        info = await self.directory.get_phone_number(
            phone_number_id=channel.phone_number_id, token=channel.access_token
        )
        if info.obstacles:
            raise ChannelNotActive(f"The number cannot send: {'; '.join(info.obstacles)}")
        asked = channel.access_token

        def alter(now: Channel) -> Channel:
            if now.access_token != asked:
                raise ChannelNotActive("The token was changed meanwhile: verify again")
            now.verify(self.now())
            now.display_phone_number = info.display_phone_number
            now.quality_rating = info.quality_rating
            return now

        stored = await alter_channel(self.begin, tenant_id, channel_id, alter, user_id=user_id)
        return stored, info
