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
from typing import Final

from whatsapp.application.gates import Gates
from whatsapp.application.lateness import ON_THE_WAY_SECONDS
from whatsapp.application.ports import Go, NotLeaving
from whatsapp.application.slot_use import SlotUse
from whatsapp.domain.rate_limit import Slot

LOOK_AGAIN_SECONDS: Final = 0.001
"""Timers are no finer than this, and a slot may be used a little later than it comes."""


@dataclass(slots=True)
class _Turn:
    """Somebody who waits, until when they may leave, and how they do."""

    until: float
    go: Go
    done: asyncio.Future[None]


@dataclass(slots=True, kw_only=True, eq=False)
class Departures:
    """Requests `await leave(...)`; those that dispatch `add` slots as the limiter gives them.

    Once closed it lets requests leave as long as there are slots, and refuses the others.
    """

    use: SlotUse
    changed: Callable[[], None]
    """Told when a request waits for which there is no slot."""
    gates: Gates = field(default_factory=Gates)
    """The process's."""
    monotonic: Callable[[], float] = time.monotonic

    _slots: deque[Slot] = field(default_factory=deque, init=False)
    _waiting: deque[_Turn] = field(default_factory=deque, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)
    _told: int = field(default=0, init=False)  # How many are lacking, as all gates know it.

    @property
    def lacking(self) -> int:
        """How many requests wait here for which there is no slot."""
        return max(0, len(self._waiting) - len(self._slots))

    @property
    def others_lacking(self) -> int:
        """How many requests wait at all other gates for which there is no slot."""
        return self.gates.lacking - self._told

    @property
    def left_over(self) -> int:
        """How many slots are here for which nobody waits."""
        return max(0, len(self._slots) - len(self._waiting))

    def add(self, slots: Sequence[Slot]) -> None:
        """Let requests leave on these too; they come behind those that are here."""
        self._slots.extend(slots)
        self.look()

    def close(self) -> None:
        """Refuse those for whom no slot is left, now and from now on."""
        self._is_closed = True
        self.look()

    async def leave(self, go: Go, *, until: float) -> None:
        """Wait for a slot and call `go` on it, at once and not in another step of the loop.

        Raises NotLeaving once `until` has passed on the monotonic clock, and where no slot is to
        come; `go` is not called then. What `go` raises comes out of here.
        """
        turn = _Turn(until, go, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self.look()
        self.gates.look()
        await turn.done

    def look(self) -> None:
        """Give out the slots that have come, and look again when the next one comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pause = self._give_out()
        if pause is None:
            self.gates.expect(self, None)
        else:
            self.gates.expect(self, self.monotonic() + pause)
            pause = max(pause, LOOK_AGAIN_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(pause, self.look)
        if self._is_closed and not self._slots:
            while self._waiting:
                _refuse(self._waiting.popleft())
        elif self.lacking:
            self.changed()
        self._tell()

    def _give_out(self) -> float | None:
        """Seconds until there is something to do again; None if that depends on others."""
        slots, waiting = self._slots, self._waiting
        while True:
            now = self.monotonic()  # Each departure takes a moment.
            while waiting and (waiting[0].done.done() or waiting[0].until <= now):
                _refuse(waiting.popleft())  # It gave up, or its lease ends too soon.
            if not slots:
                return None
            slot = slots[0]
            if now > _latest(slot):
                self._reached(slots.popleft(), now, in_time=False)
            elif slot.at > now:
                return slot.at - now
            elif not waiting:
                return _latest(slot) - now
            else:
                self._reached(slots.popleft(), now, in_time=True)
                _let_go(waiting.popleft())

    def _tell(self) -> None:
        lacking = self.lacking
        self.gates.lacking += lacking - self._told
        self._told = lacking

    def _reached(self, slot: Slot, now: float, *, in_time: bool) -> None:
        self.use.reached(in_time=in_time, at=now)
        self.gates.lateness.reached(now - slot.at, at=now)


def _latest(slot: Slot) -> float:
    return slot.latest - ON_THE_WAY_SECONDS


def _let_go(turn: _Turn) -> None:
    try:
        turn.go()
    except Exception as error:  # noqa: BLE001  # whoever waits gets it
        turn.done.set_exception(error)
    else:
        turn.done.set_result(None)


def _refuse(turn: _Turn) -> None:
    if not turn.done.done():
        turn.done.set_exception(NotLeaving())
