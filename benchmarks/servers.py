"""The servers that are measured on: PostgreSQL and Redis as Tellwire ships them, durable, empty."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from tellwire.database import migrate_async
from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres
from tellwire.embedded.redis import EmbeddedRedis
from tellwire.embedded.roles import bootstrap_database

DURABILITY = (
    "PostgreSQL with `fsync`, `synchronous_commit` and `full_page_writes` on, as shipped; "
    "Redis with its append-only file, `appendfsync everysec`, as shipped; both on unix sockets"
)


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of a benchmark's own."""

    server: EmbeddedPostgres
    name: str

    def url(self, role: str) -> str:
        """SQLAlchemy's URL for `role`."""
        return self.server.url(role, self.name)

    def dsn(self, role: str) -> str:
        """Asyncpg's URL for `role`."""
        return self.url(role).replace("+asyncpg", "")

    async def as_superuser(self, *statements: str) -> None:
        """Run statements that no role of Tellwire may: to load data, and to make a rival's role."""
        connection = await asyncpg.connect(self.dsn(SUPERUSER))
        try:
            for statement in statements:
                await connection.execute(statement, timeout=600)
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True)
class Servers:
    """The running servers."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis

    async def database(self, name: str) -> Database:
        """Make and migrate the database `name`."""
        server = self.postgres.url(SUPERUSER, "postgres")
        await bootstrap_database(server, database=name)
        await migrate_async(self.postgres.url("tellwire_owner", name))
        return Database(self.postgres, name)


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Start both in a new directory; end them and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="tellwire-benchmarks-") as made:
        directory = Path(made)
        directory.chmod(0o711)  # Root's servers run as an account that has to pass through.
        postgres, redis = directory / "postgres", directory / "redis"
        with (
            EmbeddedPostgres(postgres) as database,
            EmbeddedRedis(redis) as cache,
            _kept_apart(database.pid, cache.pid),
        ):
            yield Servers(database, cache)


@contextmanager
def _kept_apart(*servers: int | None) -> Iterator[None]:
    """Give the servers one core and us another meanwhile, where the system can.

    Otherwise a rival whose server process happens to share our core is measured as a faster one.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    if len(ours) > 1:
        os.sched_setaffinity(0, {min(ours)})
        for server in filter(None, servers):
            _pin(server, {max(ours)})
    try:
        yield
    finally:  # Or servers that are started next would have a single core.
        os.sched_setaffinity(0, ours)


@contextmanager
def all_cores(servers: Servers) -> Iterator[None]:
    """Let servers, us and what we start run anywhere meanwhile: for whole installations."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    pids = [pid for pid in (servers.postgres.pid, servers.redis.pid) if pid is not None]
    ours = os.sched_getaffinity(0)
    theirs = {pid: os.sched_getaffinity(pid) for pid in pids}
    everywhere = ours.union(*theirs.values())
    os.sched_setaffinity(0, everywhere)
    for pid in pids:
        _pin(pid, everywhere)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
        for pid, cores in theirs.items():
            _pin(pid, cores)


def _pin(server: int, cores: set[int]) -> None:
    """Keep a server and its processes to these cores; those to come inherit it."""
    for process in (psutil.Process(server), *psutil.Process(server).children()):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, cores)
