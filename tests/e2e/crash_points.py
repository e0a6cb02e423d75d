"""Where a worker or an API can be made to kill itself: at the borders of its ports, with SIGKILL.

The process is assembled by Tellwire's own code, out of Tellwire's own parts; each part here is the
real one that dies before, after or in the middle of one of its calls. A worker's part lets some
calls pass, so that there are messages in every state when the worker dies; an API dies at the first
webhook.
"""

import asyncio
import os
import signal
from itertools import count

import tellwire.api
import tellwire.worker
import whatsapp.infrastructure.persistence.work as persistence
from tellwire.worker_metrics import CountedQueue
from whatsapp.infrastructure.cloud_api.sender import CloudApiSender
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyMessageRepository,
    SQLAlchemyWebhookInbox,
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
SENDING = ("before the request", "in flight", "after the answer")
RECORDING = ("before the record", "in the record", "after the record")
POINTS = (*SAFE, *OPEN, "after the record")
INTAKE = ("before the append", "after the append")
"""Meta has no 200: nothing is written down yet, or the body is already."""
SPARED_CALLS = {"claim": 1, "mark": 3, "send": 20, "record": 3}
"""How many calls pass before a worker dies at an open point; at a safe one it dies at the first."""
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
        return self.point not in SAFE and next(self.calls[call]) < SPARED_CALLS[call]

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


class Queue(CountedQueue):
    fuse: Fuse

    async def claim(self, **values):
        return await self.fuse.around("claim", super().claim(**values))

    async def mark(self, entries, *, lease):
        return await self.fuse.around("mark", super().mark(entries, lease=lease))


class Sender(CloudApiSender):
    fuse: Fuse

    async def send(self, channel, message, attempt, *, leave):
        gone = asyncio.Event()

        async def leave_and_tell(go):
            await leave(go)
            gone.set()

        request = super().send(channel, message, attempt, leave=leave_and_tell)
        if self.fuse.point not in SENDING or self.fuse.spares("send"):
            return await request
        if self.fuse.point == "before the request":
            die()
        if self.fuse.point == "in flight":
            task = asyncio.create_task(request)
            await gone.wait()
            await asyncio.wait([task], timeout=ON_ITS_WAY_SECONDS)
            die()
        await request
        return die()


class Messages(SQLAlchemyMessageRepository):
    fuse: Fuse

    async def record_attempts(self, results):
        if self.fuse.point not in RECORDING or self.fuse.spares("record"):
            return await super().record_attempts(results)
        if self.fuse.point == "before the record":
            die()
        held = await super().record_attempts(results)
        if self.fuse.point == "in the record":
            die()
        persistence._TenantWork.commit = commit_and_die
        return held


class Inbox(SQLAlchemyWebhookInbox):
    point: str

    async def append(self, app_id, body):
        if self.point == "after the append":
            await super().append(app_id, body)
        die()


commit = persistence._TenantWork.commit


async def commit_and_die(work):
    await commit(work)
    die()


def arm(point: str) -> None:
    """Have the next worker or API of this process die at `point`; `-` is none."""
    if point == "-":
        return
    if point in INTAKE:
        Inbox.point = point
        replace((tellwire.api, SQLAlchemyWebhookInbox, Inbox))
        return
    assert point in POINTS, point
    Queue.fuse = Sender.fuse = Messages.fuse = Fuse(point)
    replace(
        (tellwire.worker, CountedQueue, Queue),
        (tellwire.worker, CloudApiSender, Sender),
        (persistence, SQLAlchemyMessageRepository, Messages),
    )


def replace(*parts) -> None:
    """Have modules assemble their processes with parts that are mortal."""
    for module, real, mortal in parts:
        assert getattr(module, real.__name__) is real, "it is assembled in another way now"
        setattr(module, real.__name__, mortal)
