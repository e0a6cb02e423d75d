"""Server processes that do not outlive the process that started them."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from tellwire.embedded.account import Account
from tellwire.embedded.errors import EmbeddedServiceFailed

_POLL_SECONDS = 0.02
_LOG_LINES_IN_ERROR = 8
_LOG_KEPT_BYTES = 16 * 1024 * 1024

# What waits: for the server's id, then for the end of the pipe that it came through.
_LEASH = ("/bin/sh", "-c", 'read -r server && { read -r _; kill -INT "$server"; }')
# What becomes the server: its input is that pipe until then.
_LEASHED = ("/bin/sh", "-c", 'echo $$ >&0; exec "$@" </dev/null', "sh")


class ServerProcess:
    """A child process with a log file, stopped by `stop`, or by its leash when we die first.

    The leash is a shell that waits for the end of a pipe only we hold; a parent-death signal would
    not do, since it fires when the starting *thread* ends, and we are started from worker threads.
    It is there before the server, which writes its id into that pipe before it becomes the server:
    whenever we are killed, either there is no server yet or the leash knows it.
    """

    def __init__(self, command: Sequence[str], *, account: Account, cwd: Path, log: Path) -> None:
        _rotate(log)
        self._name = Path(command[0]).name
        self._log = log
        options: dict[str, Any] = account.popen_options() | {"cwd": cwd}
        self._leash = subprocess.Popen(  # noqa: S603  # fixed command
            _LEASH, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **options
        )
        try:
            with log.open("ab") as output:
                account.take_over(log)
                options |= {"stdin": self._leash.stdin, "stdout": output, "stderr": output}
                self._server = subprocess.Popen(  # noqa: S603  # our own binary and arguments
                    [*_LEASHED, *command], **options
                )
        except BaseException:
            self._let_go()
            raise

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._server.pid

    @property
    def is_running(self) -> bool:
        """Whether the server has not ended."""
        return self._server.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, timeout: timedelta) -> None:
        """Return once `ready()`; stop the server and raise if it ends or time runs out before."""
        for _ in ticks(timeout):
            if not self.is_running:
                code = self._server.returncode
                self.stop(timeout=timedelta())
                raise self._failed(f"ended with code {code}")
            if ready():
                return
        self.stop(timeout=timedelta(seconds=5))
        raise self._failed(f"was not ready within {timeout.total_seconds():.0f} s")

    def stop(self, *, timeout: timedelta) -> None:
        """Ask the server to end, wait, and kill its whole session if it does not."""
        self._let_go()
        if self.is_running:
            self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(timeout.total_seconds())
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._server.wait()

    def _let_go(self) -> None:
        """End the leash before the server, so that it never signals a later process of that id."""
        self._leash.kill()
        self._leash.wait()
        if self._leash.stdin is not None:
            self._leash.stdin.close()

    def _failed(self, what: str) -> EmbeddedServiceFailed:
        return EmbeddedServiceFailed(f"{self._name} {what}; {last_lines(self._log)}")


def ticks(timeout: timedelta) -> Iterator[None]:
    """Yield at once and then every few milliseconds until `timeout` has passed."""
    deadline = time.monotonic() + timeout.total_seconds()
    yield
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        yield


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists, ours or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def runs_in(directory: Path, *, pid: int, socket_path: Path) -> bool:
    """Whether `pid` is the server of `directory`, and not a later process that got its id.

    A server is known by the directory it has changed into; without /proc, by a socket that answers.
    """
    if not is_alive(pid):
        return False
    if not Path("/proc/self/cwd").exists():
        return _answers(socket_path)
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except OSError:  # Gone, a zombie, or another user's, which cannot be a server of ours.
        return False


def end_orphan(pid: int, is_running: Callable[[], bool], *, timeout: timedelta) -> None:
    """End a server that is no child of ours: first in an orderly way, then at once."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        if any(not is_running() for _ in ticks(timeout)):
            return
    raise EmbeddedServiceFailed(f"process {pid} of a dead starter does not end: kill it")


def last_lines(log: Path) -> str:
    """Where the log lies and how it ends, for an error's text."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_IN_ERROR:]
    except OSError:
        lines = []
    return f"{log} ends with: " + " | ".join(lines)


def _answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(socket_path))
        except OSError:
            return False
        return True


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".log.1"))
