"""How commands speak to people, and how they run what is asynchronous."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import uvloop
from rich.console import Console

from shared.kernel.errors import TellwireError
from tellwire.stop_signals import stop_signals

ResultT = TypeVar("ResultT")
console: Final = Console()
errors: Final = Console(stderr=True)


def complain(error: TellwireError) -> None:
    """Say what is wrong, with the code under which the documentation explains it."""
    complain_of(error.code, error.detail, field=error.field)


def complain_of(code: str, detail: str, *, field: str | None = None) -> None:
    """The same for what another process says; one line, for whoever searches a log."""
    where = f" ({field})" if field else ""
    errors.print(code, style="bold red", end="", highlight=False, markup=False)
    errors.print(f"{where}: {detail}", highlight=False, markup=False, soft_wrap=True)


def announce(text: str) -> None:
    """Tell whoever started a process where it is; that nobody listens is no reason to end."""
    with suppress(OSError, SystemExit):  # The latter is what Rich makes of a broken pipe.
        console.print(text, highlight=False)


def run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run `work` on the fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def run_until_signalled(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `work`; a signal to stop sets the event that it is given."""

    async def guarded() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, stopping.set)
        await work(stopping)

    run(guarded())
