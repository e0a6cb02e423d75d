"""Show a customer that their message was read, and that an answer is being written."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from whatsapp.application.ports import BeginWork
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.value_objects import AccessToken


class Receipts(Protocol):
    """Passes read receipts on to Meta."""

    async def mark_as_read(
        self, *, phone_number_id: str, token: AccessToken, wamid: str, is_typing: bool = False
    ) -> None:
        """Tell Meta; may be repeated. Raises what Meta says against it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkAsRead:
    """Tells Meta at once that an inbound message was read; all before it count as read too."""

    begin: BeginWork
    receipts: Receipts

    async def __call__(
        self, tenant_id: UUID, phone_number_id: str, wamid: str, *, is_typing: bool = False
    ) -> None:
        """Raises ChannelNotFound, ChannelNotActive, and what Meta says against it."""
        async with self.begin(tenant_id) as work:
            channel = await work.channels.get_by_phone_number_id(phone_number_id)
        if channel is None:
            raise ChannelNotFound
        channel.ensure_active()
        await self.receipts.mark_as_read(
            phone_number_id=channel.phone_number_id,
            token=channel.access_token,
            wamid=wamid,
            is_typing=is_typing,
        )
