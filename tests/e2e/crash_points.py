"""Where a worker can be made to kill itself: at the borders of its ports, with SIGKILL.

The worker is assembled by Tellwire's own code, out of Tellwire's own parts; each part here is the
real one that dies before, after or in the middle of one of its calls. A part lets some calls pass,
so that there are messages in every state when the worker dies.
"""

import asyncio
import os
import signal
from itertools import count

import tellwire.worker
import whatsapp.infrastructure.persistence.work as persistence
from whatsapp.infrastructure.cloud_api.sender import CloudApiSender
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
)

SAFE = ("before the claim", "in the claim", "after the claim", "before the mark")
"""Nothing has left that is not recorded: others take over."""
OPEN = (
    "in the mark",
    "after the mark",
    "before the request",
    "in flight",
    "after the answer",
    "before the record",
    "in the record",
)
"""Marked and not recorded: what left is proved by its echo, what did not is never reported."""
POINTS = (*SAFE, *OPEN, "after the record")
SPARED_CALLS = {"claim": 1, "mark": 3, "send": 20, "record": 3}
ON_ITS_WAY_SECONDS = 0.02
"""Long enough for the request to have come, too short for the simulator's slow answer."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Dies at `point` once the calls that are spared have been made."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.calls = {name: count() for name in SPARED_CALLS}

    def spares(self, call: str) -> bool:
        return next(self.calls[call]) < SPARED_CALLS[call]

    async def around(self, call: str, work):
        """Make a call, and die before, within or after it if that is the point."""
        if self.spares(call):
            return await work
        if self.point == f"before the {call}":
            die()
        if self.point == f"in the {call}":
            await asyncio.wait([asyncio.create_task(work)], timeout=0.001)
            die()
        result = await work
        if self.point == f"after the {call}":
            die()
        return result


def arm(point: str) -> None:
    """Have the next worker of this process die at `point`; `-` is none."""
    if point == "-":
        return
    assert point in POINTS, point
    fuse = Fuse(point)

    class Queue(SQLAlchemySendQueue):
        async def claim(self, **values):
            return await fuse.around("claim", super().claim(**values))

        async def mark(self, entries, *, lease):
            return await fuse.around("mark", super().mark(entries, lease=lease))

    class Sender(CloudApiSender):
        async def send(self, channel, message, attempt):
            request = super().send(channel, message, attempt)
            if point in {"in flight", "before the request", "after the answer"}:
                return await self._send(request)
            return await request

        async def _send(self, request):
            if fuse.spares("send"):
                return await request
            if point == "before the request":
                die()
            if point == "in flight":
                await asyncio.wait([asyncio.create_task(request)], timeout=ON_ITS_WAY_SECONDS)
                die()
            outcome = await request
            die()
            return outcome

    class Messages(SQLAlchemyMessageRepository):
        async def record_attempts(self, results):
            if fuse.spares("record"):
                return await super().record_attempts(results)
            if point == "before the record":
                die()
            held = await super().record_attempts(results)
            if point == "in the record":
                die()
            if point == "after the record":
                persistence._TenantWork.commit = commit_and_die
            return held

    commit = persistence._TenantWork.commit

    async def commit_and_die(self):
        await commit(self)
        die()

    tellwire.worker.SQLAlchemySendQueue = Queue
    tellwire.worker.CloudApiSender = Sender
    persistence.SQLAlchemyMessageRepository = Messages
