"""Connections to one Redis or a Redis Cluster, bounded in number and in time."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import NoPermissionError, ResponseError

from shared.infrastructure.redis.errors import redis_errors_translated
from shared.kernel.errors import Misconfigured
from shared.kernel.together import Together

MOST_TOGETHER: Final = 64
"""So many scripts go to Redis in one round trip at most: what they take is added up there."""
_SCRIPT: Final = "EVALSHA"
_PACKER: Final = HiredisRespSerializer()


class _PackedByHiredis:
    """Its commands are packed in C, as redis-py itself does only where it is not asynchronous."""

    def pack_command(self, *args: Any) -> Any:
        return _PACKER.pack(*args)


class _Tcp(_PackedByHiredis, Connection):
    pass


class _Tls(_PackedByHiredis, SSLConnection):
    pass


class _Unix(_PackedByHiredis, UnixDomainSocketConnection):
    pass


class _BoundedRedis(Redis):
    """A client whose commands end within `command_timeout`, connecting and waiting included.

    Scripts that are asked for in one turn of the loop go together, in one round trip. Each runs by
    itself and has its own answer, and one that fails concerns none of the others.

    redis-py's own `socket_timeout` is not used: it writes under `asyncio.wait_for`, which loses a
    cancellation on Python 3.11 (bpo-37658), so that a worker might never stop.
    """

    command_timeout = 0.0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._scripts = Together(self._run_scripts, most=MOST_TOGETHER)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == _SCRIPT and not options:
            return await self._scripts(args)
        return await self._execute(*args, **options)

    async def _execute(self, *args: Any, **options: Any) -> Any:
        async with asyncio.timeout(self.command_timeout):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    async def _run_scripts(self, commands: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        if len(commands) == 1:
            return [await self._execute(*commands[0])]
        async with asyncio.timeout(self.command_timeout), self.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: Sequence[Any] = await pipe.execute(raise_on_error=False)
            return answers


class _BoundedRedisCluster(RedisCluster):
    """As `_BoundedRedis`, for a cluster; redirections to another node are included."""

    command_timeout = 0.0

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(self.command_timeout):
            return await super().execute_command(*args, **kwargs)


_PACKED: Final[dict[type, type]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}
RedisClient = Redis | RedisCluster

DEFAULT_TIMEOUT: Final = timedelta(seconds=2)
DEFAULT_HEALTH_CHECK: Final = timedelta(seconds=15)
_CLUSTER_SCHEMES: Final = {"redis+cluster": False, "rediss+cluster": True}
_SINGLE_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
_DEFAULT_PORT: Final = 6379
_WITHOUT_EVICTION: Final = "noeviction"

_log = logging.getLogger(__name__)


def connect(
    url: str,
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
    connect_timeout: timedelta = DEFAULT_TIMEOUT,
    max_connections: int = 50,
    health_check_interval: timedelta = DEFAULT_HEALTH_CHECK,
    client_name: str = "tellwire",
) -> RedisClient:
    """A client for `url` that connects on first use and gives up after its time-outs.

    `unix:///path`, `redis://` and `rediss://` (TLS) mean one server; `redis+cluster://` and
    `rediss+cluster://` a cluster, of which several nodes may be named, separated by commas.
    Beyond `max_connections` a caller waits for a connection, at most `connect_timeout`.
    Raises `Misconfigured` for anything else; the URL is in no error, it may hold a password.
    """
    options = {
        "socket_timeout": None,
        "socket_connect_timeout": connect_timeout.total_seconds(),
        "health_check_interval": health_check_interval.total_seconds(),
        "client_name": client_name,
        # One quick retry covers pooled connections that died with a restart; more only delays.
        "retry": Retry(ExponentialBackoff(cap=0.05, base=0.01), retries=1),
    }
    scheme = url.partition("://")[0]
    client: _BoundedRedis | _BoundedRedisCluster
    if scheme in _CLUSTER_SCHEMES:
        client = _cluster(url, max_connections=max_connections, options=options)
    else:
        client = _single(url, max_connections=max_connections, options=options)
    client.command_timeout = timeout.total_seconds()
    return client


def _single(url: str, *, max_connections: int, options: dict[str, Any]) -> _BoundedRedis:
    """A client for one server, with a pool whose callers wait for their turn."""
    scheme = url.partition("://")[0]
    if scheme not in _SINGLE_SCHEMES:
        raise Misconfigured("A Redis URL begins with unix, redis, rediss or redis+cluster")
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=options["socket_connect_timeout"],
            **options,
        )
    except ValueError:
        raise Misconfigured("The Redis URL cannot be read") from None
    pool.connection_class = _PACKED[pool.connection_class]
    client = _BoundedRedis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def _cluster(url: str, *, max_connections: int, options: dict[str, Any]) -> _BoundedRedisCluster:
    """A client for a cluster; it learns the other nodes from those that `url` names."""
    try:
        parts = urlsplit(url)
        nodes = [_node(address) for address in parts.netloc.rpartition("@")[2].split(",")]
        username, password = parts.username, parts.password
    except ValueError:
        raise Misconfigured("The Redis URL cannot be read") from None
    return _BoundedRedisCluster(
        startup_nodes=nodes,
        username=unquote(username) if username else None,
        password=unquote(password) if password else None,
        ssl=_CLUSTER_SCHEMES[parts.scheme],
        max_connections=max_connections,
        **options,
    )


def _node(address: str) -> ClusterNode:
    """One `host` or `host:port`, with an IPv6 host in brackets."""
    parts = urlsplit(f"//{address}")
    if not parts.hostname:
        raise ValueError(address)
    return ClusterNode(parts.hostname, parts.port or _DEFAULT_PORT)


async def assert_noeviction(client: RedisClient) -> None:
    """Raise `Misconfigured` unless Redis keeps its keys when memory runs out.

    An evicting Redis drops the limiter's keys first, and each loss stops a number for a second.
    Where CONFIG is forbidden (managed services) a warning is logged, and it is up to the operator.
    """
    with redis_errors_translated():
        try:
            policies = await _policies(client)
        except (NoPermissionError, ResponseError) as refused:
            _log.warning(
                "redis_policy_unknown: CONFIG GET is refused (%s); "
                "make sure that maxmemory-policy is noeviction",
                type(refused).__name__,
            )
            return
    for policy in policies - {_WITHOUT_EVICTION}:
        raise Misconfigured(
            f"Redis evicts keys (maxmemory-policy is {policy}): set it to {_WITHOUT_EVICTION}"
        )


async def _policies(client: RedisClient) -> set[str]:
    """The policy of the server, or of each master of the cluster."""
    if isinstance(client, RedisCluster):
        _ = await client.initialize()  # Learns who the masters are; returns the client itself.
        answers = [
            await client.config_get("maxmemory-policy", target_nodes=node)
            for node in client.get_primaries()
        ]
    else:
        answers = [await client.config_get("maxmemory-policy")]
    return {_text(v) for answer in answers for v in cast("dict[Any, Any]", answer).values()}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
