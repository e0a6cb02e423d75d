"""Real servers for the tests: one PostgreSQL per pytest process, a migrated database per test.

Tests connect as Tellwire's own roles, as Tellwire does. `superuser_url` is for reading catalogues.
"""

import gc
import io
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from redis import Redis
from xdist.scheduler import LoadScopeScheduling

from databases import Database, Databases, outside, run
from shared.infrastructure.observability import configure_logging
from tellwire.database import migrate
from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres
from tellwire.embedded.redis import EmbeddedRedis
from tellwire.embedded.roles import bootstrap_database
from watchdog import (  # noqa: F401  # hooks of pytest
    pytest_configure,
    pytest_runtest_protocol,
    pytest_runtest_teardown,
)

# How fast examples are made and run is the machine's.
_PROFILE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("tellwire", **_PROFILE)
settings.load_profile("tellwire")

_TEMPLATE = "tellwire_template"


TOGETHER = {  # What shares an installation, or must not run beside its like.
    "crew": re.compile(r"tests/e2e/test_(crash|fencing|outage)\.py"),
    "stack": re.compile(r"tests/e2e/test_(commands|inbound)\.py"),
    "clients": re.compile(r"tests/e2e/test_(customers\w+|drop_in\w*)\.py"),
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
    run(bootstrap_database(server_url, database=_TEMPLATE))
    outside(lambda: migrate(postgres.url("tellwire_owner", _TEMPLATE)))
    return _TEMPLATE


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres, template_database: str) -> Databases:
    """Migrated databases, to be borrowed."""
    return Databases(postgres, template_database)


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A migrated database for this test alone."""
    with databases.lend() as lent:
        yield lent


@pytest.fixture(scope="module")
def module_database(databases: Databases) -> Iterator[Database]:
    """A migrated database that the tests of one module share."""
    with databases.lend() as lent:
        yield lent


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


@pytest.fixture
def searches() -> Iterator[list[int]]:
    """Up to which generation each search for garbage looks; what is changed of them is undone."""
    thresholds, found = gc.get_threshold(), list[int]()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture(params=["json", "console"])
def logged(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """What is logged at most, in either form: `logged()` gives it so far."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(level="debug", form=request.param, stream=stream)
    yield stream.getvalue
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
