"""Who serves which channel: as few workers as it needs, since each more costs and gains nothing.

Only a hint. That no message goes out twice is the queue's doing, and that no second holds too many
the limiter's; both hold however many workers serve a channel. So nothing is lost where two believe
to be the only one, and where nobody answers everybody serves.
"""

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Protocol
from uuid import UUID


class Stance(IntEnum):
    """What a worker wants of a channel, or says about how it serves it."""

    ALONE = 0
    """It keeps up, or wants to begin: nobody else is needed."""
    JOIN = 1
    """It has as many requests under way as it may: somebody is to serve beside it."""
    RELIEVE = 2
    """It reaches too many slots too late: somebody is to serve in its place."""
    LOOK = 3
    """It only asks whether it might."""


class Drivers(Protocol):
    """Hands out channels to workers, for a moment at a time."""

    @property
    def workers(self) -> int:
        """How many workers there are, as far as is known; 1 at the least."""
        ...

    async def drive(self, stances: Mapping[UUID, Stance]) -> frozenset[UUID]:
        """Those of the channels that this worker is to serve; ask again within 400 ms to go on."""
        ...

    async def leave(self, channels: Collection[UUID]) -> None:
        """Let somebody else have these at once."""
        ...
