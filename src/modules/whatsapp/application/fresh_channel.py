"""The channel as it is now, or was a moment ago: read so often that a change of it counts soon."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from shared.kernel.errors import SecretUnreadable
from whatsapp.application.read_together import Reader, ReadTogether
from whatsapp.domain.entities import Channel
from whatsapp.domain.rate_limit import DEFAULT_RATE

MAX_AGE_SECONDS: Final = 0.4
"""A change of the channel (rate, token, pause) counts after this long."""
MAX_READINGS: Final = 1000
"""With more than so many, those that are too old are let go."""


class Reading(NamedTuple):
    """A channel, known at `at`, or None if it was gone or its token did not open."""

    channel: Channel | None
    at: float
    began_at: float
    """Whatever was changed before this moment is in it."""


Readings: TypeAlias = dict[UUID, Reading]


@dataclass(slots=True, kw_only=True)
class FreshChannel:
    """Reads one channel again once what is known of it is too old.

    Where the dispatchers of a process share their `readings`, one that follows another need not
    read what that one knew.
    """

    tenant_id: UUID
    channel_id: UUID
    reads: ReadTogether
    unreadable: Callable[[UUID, SecretUnreadable], Awaitable[None]]
    """Told where the channel's token does not open."""
    monotonic: Callable[[], float]
    readings: Readings = field(default_factory=dict)

    async def read(self) -> Channel | None:
        """The channel; None if it is gone or nobody can speak for it."""
        if (known := self._known()) is not None:
            return known.channel
        try:
            async with self.reads.of(self.tenant_id) as reader:
                return await self.read_in(reader)
        except SecretUnreadable as error:
            await self.cannot_speak(error)
            return None

    async def read_in(self, reader: Reader) -> Channel | None:
        """The same with a reader that is there already.

        Raises SecretUnreadable where the token does not open: once the reader has been left,
        `cannot_speak` is to be told.
        """
        if (known := self._known()) is not None:
            return known.channel
        began_at = self.monotonic()
        channel = await reader.channel(self.channel_id)
        self._know(channel, began_at)
        return channel

    async def cannot_speak(self, error: SecretUnreadable) -> None:
        """Its token does not open: nobody asks again for a moment."""
        await self.unreadable(self.channel_id, error)
        self._know(None, self.monotonic())

    def _known(self) -> Reading | None:
        known = self.readings.get(self.channel_id)
        is_old = known is None or self.monotonic() - known.at > MAX_AGE_SECONDS
        return None if is_old else known

    def _know(self, channel: Channel | None, began_at: float) -> None:
        if len(self.readings) >= MAX_READINGS:
            self._let_go()
        self.readings[self.channel_id] = Reading(channel, self.monotonic(), began_at)

    @property
    def messages_per_second(self) -> int:
        """The rate that was read last; the usual one where none is known."""
        known = self.readings.get(self.channel_id)
        channel = None if known is None else known.channel
        return DEFAULT_RATE if channel is None else channel.messages_per_second

    def rate_of(self, channel: Channel) -> tuple[int, float | None]:
        """The rate by what was read last, and when reading began; else as `channel` has it."""
        known = self.readings.get(self.channel_id)
        if known is None or known.channel is None:
            return channel.messages_per_second, None
        return known.channel.messages_per_second, known.began_at

    def forget(self) -> None:
        """It was changed just now: read it again."""
        self.readings.pop(self.channel_id, None)

    def _let_go(self) -> None:
        oldest = self.monotonic() - MAX_AGE_SECONDS
        for channel_id in [key for key, one in self.readings.items() if one.at < oldest]:
            del self.readings[channel_id]
