"""All gates of a process, so that whoever keeps its loop busy can let requests leave in between.

A loop looks at its timers once it has run all that was ready, and with many channels that takes
tens of milliseconds: longer than a slot may be used. Each piece of it is short. So the pieces
themselves look whether a slot has come, which costs a look at the clock.
"""

import math
import time
from collections.abc import AsyncGenerator, Callable, KeysView
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from whatsapp.application.lateness import Lateness
from whatsapp.application.ports import BeginWork, Work


class Gate(Protocol):
    """Something that lets requests leave when their slots come."""

    def look(self) -> None:
        """Let those leave whose slots have come; never raises."""
        ...


@dataclass(slots=True, kw_only=True)
class Gates:
    """The gates that wait for a slot, and how late this process reaches slots."""

    lateness: Lateness = field(default_factory=Lateness)
    monotonic: Callable[[], float] = time.monotonic

    lacking: int = field(default=0, init=False)
    """How many requests wait at all of them for which there is no slot."""

    _due: dict[Gate, float] = field(default_factory=dict, init=False)
    _next: float = field(default=math.inf, init=False)  # None is due before.

    def expect(self, gate: Gate, at: float | None) -> None:
        """A gate has something to do at `at`, or nothing for now."""
        if at is None:
            self._due.pop(gate, None)
            return
        self._due[gate] = at
        self._next = min(self._next, at)

    @property
    def due(self) -> KeysView[Gate]:
        """Those that wait for a slot, or for one to be over."""
        return self._due.keys()

    def look(self) -> None:
        """Let leave whoever's slot has come, wherever the process is; never raises."""
        if (now := self.monotonic()) < self._next:
            return
        for gate in [gate for gate, at in self._due.items() if at <= now]:
            gate.look()
        self._next = min(self._due.values(), default=math.inf)

    def between(self, begin: BeginWork) -> BeginWork:
        """`begin` that looks before and after each transaction."""

        @asynccontextmanager
        async def begun(tenant_id: UUID, user_id: UUID | None = None) -> AsyncGenerator[Work]:
            self.look()
            async with begin(tenant_id, user_id) as work:
                self.look()
                yield work
            self.look()

        return begun
