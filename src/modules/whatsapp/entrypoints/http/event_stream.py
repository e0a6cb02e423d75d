"""A tenant's events as Server-Sent Events: read from the table, page by page, at the reader's pace.

Nothing is kept for a reader but the page that is being written to it. What wakes a reader is only a
hint; the table is read now and then without one too, so that a lost hint costs time alone.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol
from uuid import UUID

from shared.infrastructure.json_bytes import json_bytes
from shared.kernel.errors import TellwireError
from whatsapp.application.stream_events import StreamEvents
from whatsapp.domain.events import Event
from whatsapp.domain.events.body import tellwire_body

HEARTBEAT_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.5
MAX_STREAMS_OF_A_TENANT: Final = 20
"""In one process: each costs a look at the table now and then."""
RETRY: Final = b"retry: 2000\n"
"""How many milliseconds a client waits before it comes back."""


class TooManyStreams(TellwireError):
    """The tenant has as many streams open as it may have in one process."""

    code = "too_many_streams"
    status = 429
    retryable = True
    title = f"At most {MAX_STREAMS_OF_A_TENANT} streams at once; close one first"


class Bell(Protocol):
    """Tells that a tenant has new events, mostly."""

    async def wait(self, tenant_id: UUID, seconds: float) -> None:
        """Return when there may be something new, at the latest after `seconds`."""
        ...


class Silence:
    """A bell that never rings: readers look for themselves."""

    async def wait(self, tenant_id: UUID, seconds: float) -> None:
        """Wait for all of the time."""
        del tenant_id
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events of whose, from where; `still_allowed` raises once the caller is not any more."""

    tenant_id: UUID
    after: int
    wants: Callable[[Event], bool]
    still_allowed: Callable[[], Awaitable[object]]


@dataclass(slots=True, kw_only=True)
class EventStreams:
    """The open streams of one process; `closing` ends them, so that the process can."""

    events: StreamEvents
    bell: Bell
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    look_seconds: float = LOOK_SECONDS
    closing: bool = False
    rng: Random = field(default_factory=Random)
    _open: Counter[UUID] = field(default_factory=Counter[UUID], init=False)

    @contextmanager
    def place(self, tenant_id: UUID) -> Generator[None]:
        """Count as one stream of the tenant; raises TooManyStreams where there are as many as may.

        To be taken before anything is waited for, so that those who come at once count each other.
        """
        if self._open[tenant_id] >= MAX_STREAMS_OF_A_TENANT:
            raise TooManyStreams
        self._open[tenant_id] += 1
        try:
            yield
        finally:
            self._open[tenant_id] -= 1
            if not self._open[tenant_id]:
                del self._open[tenant_id]

    async def follow(self, wanted: Wanted) -> AsyncGenerator[bytes]:
        """The stream itself, until the client hangs up, may not listen any more, or we stop."""
        at, beat, asked = wanted.after, self._beat(), self._beat()
        # With where it begins: a client that is cut off before its first event comes back to
        # here, and not to whatever is the newest by then.
        yield RETRY + _written([], at)
        while not self.closing:
            try:
                # However much there is to tell: a busy stream has no quiet moment for it.
                if self._time() >= asked:
                    asked = self._beat()
                    await wanted.still_allowed()
                page = await self.events.read(wanted.tenant_id, at)
            except TellwireError:
                return  # The client comes back, and goes on where it was.
            if page:
                at = page[-1].number
                yield _written([event for event in page if wanted.wants(event)], at)
                beat = self._beat()
                continue
            if self._time() >= beat:
                beat = self._beat()
                yield _written([], at)
            await self.bell.wait(
                wanted.tenant_id, self.look_seconds * (0.8 + 0.4 * self.rng.random())
            )

    def _beat(self) -> float:
        return self._time() + self.heartbeat_seconds

    def _time(self) -> float:
        return asyncio.get_running_loop().time()


def _written(events: Sequence[Event], at: int) -> bytes:
    """Events as they go over the wire; where there are none, the position and a sign of life."""
    blocks = [
        b"id: %d\nevent: %b\ndata: %b\n\n"
        % (event.number, event.type.encode(), json_bytes(tellwire_body(event)))
        for event in events
    ]
    if not events or events[-1].number != at:
        blocks.append(b": still here\nid: %d\n\n" % at)
    return b"".join(blocks)
