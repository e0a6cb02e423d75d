"""Which worker serves which channel, in Redis: a hint that lapses within half a second."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from redis.exceptions import NoScriptError

from shared.infrastructure.redis.connection import RedisClient
from shared.infrastructure.redis.errors import REDIS_ERRORS, translate
from shared.kernel.ids import new_id
from whatsapp.domain.driving import Stance
from whatsapp.infrastructure.persistence.repositories.scripts import script

DRIVEN_FOR: Final = timedelta(milliseconds=400)
"""A worker that says nothing for so long is dead or stopped: others step in."""
REMEMBERED_FOR: Final = timedelta(seconds=3)
_MILLISECOND: Final = timedelta(milliseconds=1)
# All in one slot of a cluster: a worker asks about many channels at once.
_KEYS: Final = ("tellwire:{drivers}", "tellwire:{drivers}:workers")


class RedisChannelDrivers:
    """Gives each channel to the first worker that asks, until that one leaves, is late or silent.

    One call is one round trip, however many channels. Times are Redis's own. Errors:
    `RedisUnavailable`.
    """

    def __init__(self, redis: RedisClient, *, worker: str | None = None) -> None:
        self._redis = redis
        self._worker = worker or new_id().hex
        self._workers = 1

    @property
    def workers(self) -> int:
        """How many workers asked within the last three seconds; 1 at the least."""
        return self._workers

    async def drive(self, stances: Mapping[UUID, Stance]) -> frozenset[UUID]:
        """Those of the channels that this worker is to serve; ask again within 400 ms to go on."""
        placed = await self._ask(stances, REMEMBERED_FOR)
        return frozenset(channel for channel, yes in zip(stances, placed, strict=True) if yes)

    async def leave(self, channels: Collection[UUID]) -> None:
        """Let somebody else have these at once."""
        await self._ask(dict.fromkeys(channels, Stance.LOOK), timedelta())

    async def _ask(self, stances: Mapping[UUID, Stance], remembered: timedelta) -> list[int]:
        spans = (DRIVEN_FOR // _MILLISECOND, remembered // _MILLISECOND)
        pairs = [part for one, stance in stances.items() for part in (one.hex, int(stance))]
        reply: list[int] = await self._evaluate(self._worker, *spans, *pairs)
        self._workers = max(1, reply[0])
        return reply[1:]

    async def _evaluate(self, *arguments: str | int) -> Any:
        text, digest = script("channel_drivers.lua")
        given = (len(_KEYS), *_KEYS, *arguments)
        try:
            try:
                return await self._redis.execute_command("EVALSHA", digest, *given)
            except NoScriptError:  # A restart, a fail-over or SCRIPT FLUSH forgot it.
                return await self._redis.execute_command("EVAL", text, *given)
        except REDIS_ERRORS as error:
            raise translate(error) from error
