"""The channel as it is now, or was a moment ago: read so often that a change of it counts soon."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from shared.kernel.errors import SecretUnreadable
from whatsapp.application.ports import BeginWork
from whatsapp.domain.entities import Channel

MAX_AGE_SECONDS: Final = 0.4
"""A change of the channel (rate, token, pause) counts after this long."""


@dataclass(slots=True, kw_only=True)
class FreshChannel:
    """Reads one channel again once what it knows is too old."""

    tenant_id: UUID
    channel_id: UUID
    begin: BeginWork
    unreadable: Callable[[UUID, SecretUnreadable], Awaitable[None]]
    """Told where the channel's token does not open."""
    monotonic: Callable[[], float]

    _channel: Channel | None = field(default=None, init=False)
    _read_at: float = field(default=float("-inf"), init=False)

    async def read(self) -> Channel | None:
        """The channel; None if it is gone or nobody can speak for it."""
        if self.monotonic() - self._read_at > MAX_AGE_SECONDS:
            self._channel = await self._read()
            self._read_at = self.monotonic()
        return self._channel

    def forget(self) -> None:
        """It was changed just now: read it again."""
        self._read_at = float("-inf")

    async def _read(self) -> Channel | None:
        try:
            async with self.begin(self.tenant_id) as work:
                return await work.channels.get_by_id(self.channel_id)
        except SecretUnreadable as error:
            await self.unreadable(self.channel_id, error)
            return None
