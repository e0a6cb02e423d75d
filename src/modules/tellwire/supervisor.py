"""Runs Tellwire's processes side by side: starts, watches, restarts and ends them together."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from shared.kernel.errors import Misconfigured, TellwireError
from tellwire.stop_signals import stop_signals

_LINES_IN_ERROR = 8
_LONGEST_LINE_BYTES = 64 * 1024
_POLL_SECONDS = 0.05
_PROBE_SECONDS = 2.0
_LAST_WORDS_SECONDS = 1.0
# prctl(PR_SET_PDEATHSIG, SIGTERM); whose parent died before that ends by itself.
_LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""

Ready = Callable[[], Awaitable[bool]]
Write = Callable[[str, str], None]
"""Takes the name of a process and one line that it wrote; after an OSError that line is lost."""


class PortTaken(TellwireError):
    """A port that a process is to listen on cannot be had; nothing was started."""

    code = "port_taken"
    status = 500
    title = "The port is taken"


class ProcessKeepsFailing(TellwireError):
    """A process ended too often; all others were stopped."""

    code = "process_keeps_failing"
    status = 500
    title = "A process of Tellwire keeps failing"


class ProcessNotReady(TellwireError):
    """A process runs but did not become ready in time; all others were stopped."""

    code = "process_not_ready"
    status = 500
    title = "A process of Tellwire did not become ready"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a process listens, and the setting that changes it."""

    host: str
    port: int
    setting: str = ""

    def refuse_if_taken(self) -> None:
        """Raise `PortTaken` if nobody could listen here now."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((self.host, self.port))
            except OSError as error:
                raise PortTaken(self._reason(error)) from error

    def _reason(self, error: OSError) -> str:
        change = f"set {self.setting}" if self.setting else "choose another"
        if error.errno == errno.EADDRINUSE:
            return f"Port {self.port} of {self.host} is taken: stop what listens there or {change}"
        return f"Port {self.port} of {self.host} cannot be used ({error.strerror}): {change}"


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run: its command, what it needs besides our environment, when it is ready."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    listener: Listener | None = None
    ready: Ready | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how fast a process is started again, and how long it may take to be ready.

    A pause doubles from `first_pause` to `longest_pause`; more than `most_ends` ends within
    `window` are a failure.
    """

    first_pause: timedelta = timedelta(milliseconds=500)
    longest_pause: timedelta = timedelta(seconds=10)
    most_ends: int = 5
    window: timedelta = timedelta(seconds=60)
    ready_within: timedelta = timedelta(seconds=60)

    def pause(self, ends: int) -> timedelta:
        """How long to wait after the `ends`-th end in the window."""
        factor: int = 2 ** (ends - 1)
        return min(self.first_pause * factor, self.longest_pause)


_PATIENCE = Patience()


def tellwire_command(*arguments: str) -> tuple[str, ...]:
    """Tellwire's own command line, run by this very interpreter."""
    return (sys.executable, "-m", "tellwire", *arguments)


def write_prefixed(name: str, line: str) -> None:
    """Write a process's line to standard error, its name before it."""
    sys.stderr.write(f"{name:<10}| {line}\n")
    sys.stderr.flush()


async def answers_http(host: str, port: int, path: str = "/readyz") -> bool:
    """Whether a GET gives 200; a refusal to connect is a no."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        status = await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()
    return status.split()[1:2] == [b"200"]


class Supervisor:
    """Runs the children until a signal, an end of the work, or a child that keeps failing.

    SIGINT, SIGTERM and SIGHUP reach each child as SIGTERM; who has not ended after `grace`, or at
    a second signal, is killed. Children get a session of their own, so that Ctrl-C in a terminal
    reaches them through us alone, and on Linux a SIGTERM when we die.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        grace: timedelta,
        patience: Patience = _PATIENCE,
        write: Write = write_prefixed,
    ) -> None:
        self._children = children
        self._grace = grace
        self._patience = patience
        self._write = write
        self._asked_to_end = asyncio.Event()
        self._hurried = asyncio.Event()
        self._signal = 0

    async def run(self, work: Callable[[], Awaitable[int]] | None = None) -> int:
        """Start all children, wait until each is ready, do `work`; gives the exit code.

        Without `work` it waits for a signal, which is then no failure; a child that runs and is not
        ready is spoken of and kept. `work` is cancelled by a signal; the code is then what it
        returns, or 128 + signal. Raises `PortTaken`, `Misconfigured`, `ProcessKeepsFailing` or,
        with `work`, `ProcessNotReady`; whatever happens, no child is left.
        """
        for child in self._children:
            if child.listener is not None:
                child.listener.refuse_if_taken()
        kept = [_Kept(child, self._patience, self._write) for child in self._children]
        with self._signals():
            keepers = [asyncio.create_task(each.keep()) for each in kept]
            body = asyncio.create_task(self._body(kept, work))
            asked = asyncio.create_task(self._asked_to_end.wait())
            try:
                await asyncio.wait([*keepers, body, asked], return_when=asyncio.FIRST_COMPLETED)
            finally:
                body.cancel()
                await self._end(kept, keepers, body)
                await _cancel(asked)
        for task in keepers:
            task.result()
        if body.done() and not body.cancelled():
            return body.result()
        return 128 + self._signal if work else 0

    async def _body(
        self, kept: Sequence["_Kept"], work: Callable[[], Awaitable[int]] | None
    ) -> int:
        await asyncio.gather(*(each.become_ready(needed=work is not None) for each in kept))
        if work is None:
            await asyncio.Event().wait()
            return 0
        return await work()

    async def _end(
        self,
        kept: Sequence["_Kept"],
        keepers: Sequence["asyncio.Task[None]"],
        body: "asyncio.Task[int]",
    ) -> None:
        """Ask every child to end, wait for the grace period at most, then kill what is left."""
        for each in kept:
            each.ask_to_end()
        hurried = asyncio.create_task(self._hurried.wait())
        ended = asyncio.create_task(asyncio.wait([*keepers, body]))
        await asyncio.wait(
            [ended, hurried],
            timeout=self._grace.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        await _cancel(ended, hurried)
        for each in kept:
            each.kill()
        if keepers:
            await asyncio.wait(keepers)

    @contextlib.contextmanager
    def _signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        handled = stop_signals()
        for number in handled:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._asked_to_end.is_set():
            self._hurried.set()
        self._signal = number
        self._asked_to_end.set()


class _Kept:
    """One child, started again whenever it ends, until it is asked to end."""

    def __init__(self, child: Child, patience: Patience, write: Write) -> None:
        self._child = child
        self._patience = patience
        self._sink = partial(write, child.name)
        self._asked_to_end = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._last_lines: deque[str] = deque(maxlen=_LINES_IN_ERROR)

    def _write(self, line: str) -> None:
        """Lose a line that cannot be written: a child whose pipe nobody reads stands still."""
        with contextlib.suppress(OSError):
            self._sink(line)

    async def keep(self) -> None:
        """Run the child again and again; returns once asked to end, raises if it keeps failing."""
        ends: deque[float] = deque()
        while not self._asked_to_end.is_set():
            code = await self._run_once()
            if self._asked_to_end.is_set():
                return
            ends.append(time.monotonic())
            while ends[-1] - ends[0] > self._patience.window.total_seconds():
                ends.popleft()
            self._refuse_to_go_on(code, len(ends))
            pause = self._patience.pause(len(ends)).total_seconds()
            self._write(f"ended with code {code}; starts again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_end.wait(), pause)

    async def become_ready(self, *, needed: bool) -> None:
        """Return once the child says it is ready; if time runs out, say so, or raise if `needed`.

        What is raised is `ProcessNotReady`.
        """
        if self._child.ready is None:
            return
        try:
            async with asyncio.timeout(self._patience.ready_within.total_seconds()):
                while not await _probe(self._child.ready):  # noqa: ASYNC110  # another process's state
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            seconds = self._patience.ready_within.total_seconds()
            late = f"{self._child.name} was not ready within {seconds:g} s{self._said()}"
            if needed:
                raise ProcessNotReady(late) from None
            self._write(late)

    def ask_to_end(self) -> None:
        """Send SIGTERM, now or as soon as there is a process, and start none again."""
        self._asked_to_end.set()
        if self._process is not None:
            _terminate(self._process)

    def kill(self) -> None:
        """Kill the child and whatever it started in its session."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _run_once(self) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *_leashed(self._child.command),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self._child.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        if self._asked_to_end.is_set():
            _terminate(process)
        piping = asyncio.create_task(self._pipe(process))
        code = await process.wait()
        self.kill()
        self._process = None
        # Whoever inherited the pipe may hold it open for ever.
        await asyncio.wait([piping], timeout=_LAST_WORDS_SECONDS)
        await _cancel(piping)
        return code

    async def _pipe(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is not None:
            async for line in _lines(process.stdout):
                self._last_lines.append(line)
                self._write(line)

    def _refuse_to_go_on(self, code: int, ends: int) -> None:
        if code == os.EX_CONFIG:
            raise Misconfigured(f"{self._child.name} refuses its settings{self._said()}")
        if ends > self._patience.most_ends:
            seconds = self._patience.window.total_seconds()
            raise ProcessKeepsFailing(
                f"{self._child.name} ended {ends} times within {seconds:g} s, "
                f"at last with code {code}{self._said()}"
            )

    def _said(self) -> str:
        return "; it said: " + " | ".join(self._last_lines) if self._last_lines else ""


def _terminate(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


async def _probe(ready: Ready) -> bool:
    """One question, which itself may hang or fail."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            return await ready()
    except (OSError, TimeoutError):
        return False


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a stream as text; one that is too long comes in pieces."""
    rest = b""
    while chunk := await stream.read(_LONGEST_LINE_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) >= _LONGEST_LINE_BYTES:
            whole.append(rest)
            rest = b""
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


async def _cancel(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks and wait until they are over; their results stay theirs."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _leashed(command: Sequence[str]) -> Sequence[str]:
    """`command`, started so that it gets SIGTERM when we die (on Linux).

    A program of its own sets this up and then becomes the command: code that runs between fork and
    exec in our process could meet locks that threads of ours held.
    """
    if sys.platform != "linux":
        return command
    return (sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command)
