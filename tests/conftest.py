"""Real servers for the tests: one PostgreSQL per pytest process, a clone of one database per test.

Tests connect as Tellwire's own roles, as Tellwire does. `superuser_url` is for reading catalogues.
"""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis import Redis
from xdist.scheduler import LoadScopeScheduling

from tellwire.database import migrate
from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres
from tellwire.embedded.redis import EmbeddedRedis
from tellwire.embedded.roles import bootstrap_database, grant_database, quoted

_TEMPLATE = "tellwire_template"
_numbers = count(1)


TOGETHER = {  # What shares an installation, or must not run beside its like.
    "crew": re.compile(r"tests/e2e/test_(crash|fencing|outage)\.py"),
    "stack": re.compile(r"tests/e2e/test_(commands|drop_in|inbound)\.py"),
    "rate limiter": re.compile(r"tests/integration/rate_limiter/"),
}
LONG = ("e2e", "rate_limiter")


class ByFile(LoadScopeScheduling):
    """Whole files go to one process, which makes their databases once; some files go together.

    xdist's own groups are marked in the ids of tests, which pytest has ceased to let it change.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((group for group, files in TOGETHER.items() if files.match(file)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for real time comes first, so that the others fill the gaps it leaves."""
    items.sort(key=lambda item: not set(LONG) & set(item.path.parts))


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of its own; `url("tellwire_app")` is how Tellwire would reach it."""

    server: EmbeddedPostgres
    name: str

    def url(self, role: str) -> str:
        if role == SUPERUSER:
            raise ValueError("tests connect as Tellwire's roles; superuser_url is for catalogues")
        return self.server.url(role, self.name)

    @property
    def superuser_url(self) -> str:
        return self.server.url(SUPERUSER, self.name)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A directory that an unprivileged account may pass through, unlike `tmp_path` of root."""
    directory = Path(tempfile.mkdtemp(prefix="tellwire-tests-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A running server without Tellwire's database in it."""
    with EmbeddedPostgres(server_directory / "postgres", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres: EmbeddedPostgres) -> str:
    """The name of a database with roles and migrations, made once; nobody stays connected to it."""
    server_url = postgres.url(SUPERUSER, "postgres")
    _outside(lambda: asyncio.run(bootstrap_database(server_url, database=_TEMPLATE)))
    _outside(lambda: migrate(postgres.url("tellwire_owner", _TEMPLATE)))
    return _TEMPLATE


@pytest.fixture
def database(postgres: EmbeddedPostgres, template_database: str) -> Iterator[Database]:
    """A migrated database for this test alone."""
    with _clone(postgres, template_database) as made:
        yield made


@pytest.fixture(scope="module")
def module_database(postgres: EmbeddedPostgres, template_database: str) -> Iterator[Database]:
    """A migrated database that the tests of one module share."""
    with _clone(postgres, template_database) as made:
        yield made


@pytest.fixture(scope="session")
def redis_server(server_directory: Path) -> Iterator[EmbeddedRedis]:
    """A running Redis that keeps nothing."""
    with EmbeddedRedis(server_directory / "redis", durable=False) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """An empty Redis for this test alone: keys and scripts of the last one are gone."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@contextmanager
def _clone(server: EmbeddedPostgres, template: str) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    server_url = server.url(SUPERUSER, "postgres")
    _run(_execute(server_url, f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(template)}"))
    _run(grant_database(server_url, database=name))
    try:
        yield Database(server, name)
    finally:
        _run(_execute(server_url, f"DROP DATABASE {quoted(name)} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    _outside(lambda: asyncio.run(work))


def _outside(work: Callable[[], None]) -> None:
    """Run `work` in a thread of its own, where no event loop of a test can be in its way."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(work).result()
