"""The gate through which a channel's requests leave: each on a slot, whoever is ready first.

A request comes here once all but its first byte is done: it is marked, its payload is built, it has
a connection. So what follows a slot is a write and nothing else, and Meta sees the spacing that the
limiter made. No request owns a slot: one that is held up takes a later one, and a slot that nobody
could use in time costs nothing but itself, however slow the machine is at this moment.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from whatsapp.application.ports import NotLeaving
from whatsapp.application.slot_use import SlotUse
from whatsapp.domain.rate_limit import Slot

PUNCTUALITY_SECONDS: Final = 0.005
"""A slot may be reached 8 ms late; the last of them are left to the way to Meta, except where most
slots are missed anyway."""
LOOK_AGAIN_SECONDS: Final = 0.001
"""Timers are no finer than this, and a slot may be used a little later than it comes."""
_Turn: TypeAlias = "tuple[asyncio.Future[Slot], float]"
"""Somebody who waits, and until when they may leave; in order of both."""


@dataclass(slots=True, kw_only=True)
class Departures:
    """Requests `await leave(...)`; those that dispatch `add` slots as the limiter gives them.

    Once closed it lets requests leave as long as there are slots, and refuses the others.
    """

    use: SlotUse
    changed: Callable[[], None]
    """Told when a request waits for which there is no slot."""
    punctuality: float = PUNCTUALITY_SECONDS
    monotonic: Callable[[], float] = time.monotonic

    _slots: deque[Slot] = field(default_factory=deque, init=False)
    _waiting: "deque[_Turn]" = field(default_factory=deque, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)

    @property
    def lacking(self) -> int:
        """How many requests wait here for which there is no slot."""
        return max(0, len(self._waiting) - len(self._slots))

    def add(self, slots: Sequence[Slot]) -> None:
        """Let requests leave on these too; they come behind those that are here."""
        self._slots.extend(slots)
        self._look()

    def close(self) -> None:
        """Refuse those for whom no slot is left, now and from now on."""
        self._is_closed = True
        self._look()

    async def leave(self, *, until: float) -> None:
        """Wait for a slot; the caller writes its first byte without waiting for anything more.

        Raises NotLeaving once `until` has passed on the monotonic clock, and where no slot is to
        come; nothing may leave then.
        """
        while True:
            slot = await self._next(until)
            now = self.monotonic()
            if now >= until:
                raise NotLeaving
            in_time = now <= self._latest(slot)
            self.use.reached(in_time=in_time, at=now)
            if in_time:
                return

    async def _next(self, until: float) -> Slot:
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, until))
        self._look()
        return await turn

    def _look(self) -> None:
        """Give out the slots that have come, and look again when the next one comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self.monotonic()
        while self._waiting and (self._waiting[0][0].done() or self._waiting[0][1] <= now):
            _refuse(self._waiting.popleft())  # It gave up, or its lease ends too soon.
        pause = self._give_out(now)
        if pause is not None:
            pause = max(pause, LOOK_AGAIN_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)
        if self._is_closed and not self._slots:
            while self._waiting:
                _refuse(self._waiting.popleft())
        elif self.lacking:
            self.changed()

    def _give_out(self, now: float) -> float | None:
        """Seconds until there is something to do again; None if that depends on others."""
        slots, waiting = self._slots, self._waiting
        while slots:
            slot = slots[0]
            if now > self._latest(slot):
                slots.popleft()
                self.use.reached(in_time=False, at=now)
            elif slot.at > now:
                return slot.at - now
            else:
                while waiting and waiting[0][0].done():  # Cancelled meanwhile.
                    del waiting[0]
                if not waiting:
                    return self._latest(slot) - now
                slots.popleft()
                waiting.popleft()[0].set_result(slot)
        return None

    def _latest(self, slot: Slot) -> float:
        return slot.latest if self.use.is_late else min(slot.latest, slot.at + self.punctuality)


def _refuse(turn: _Turn) -> None:
    future, _ = turn
    if not future.done():
        future.set_exception(NotLeaving())
