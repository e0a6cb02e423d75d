"""Time limits of many requests under one timer.

A timer of its own for each request costs more than checking a signature does, and nearly every one
is taken back at once: the body has come together with the headers.
"""

import asyncio
from types import TracebackType
from typing import Self


class Deadlines:
    """`with deadlines.within(seconds):` as `asyncio.timeout(seconds)`; for one event loop."""

    def __init__(self) -> None:
        self._running: set[_Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0

    def within(self, seconds: float) -> "_Deadline":
        """Raise TimeoutError where the block waits for longer."""
        return _Deadline(self, seconds)

    def begin(self, deadline: "_Deadline") -> None:
        """Watch a deadline."""
        self._running.add(deadline)
        if self._timer is None or deadline.due < self._next:
            self._wake_at(deadline.due)

    def end(self, deadline: "_Deadline") -> None:
        """Watch it no more; the timer stays, for whoever comes meanwhile."""
        self._running.discard(deadline)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = asyncio.get_running_loop().call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for deadline in [one for one in self._running if one.due <= now]:
            self._running.discard(deadline)
            deadline.expire()
        if self._running:
            self._wake_at(min(one.due for one in self._running))


class _Deadline:
    """One block under its time limit."""

    __slots__ = ("_all", "_cancelling", "_has_expired", "_seconds", "_task", "due")

    def __init__(self, all_of_them: Deadlines, seconds: float) -> None:
        self._all = all_of_them
        self._seconds = seconds
        self._has_expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A deadline is a task's")
        self._task, self._cancelling = task, task.cancelling()
        self.due = asyncio.get_running_loop().time() + self._seconds
        self._all.begin(self)
        return self

    def expire(self) -> None:
        """Let the block end with TimeoutError."""
        self._has_expired = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._all.end(self)
        if not self._has_expired:
            return
        # Whoever else cancels the task meanwhile has their way.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
