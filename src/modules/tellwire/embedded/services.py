"""PostgreSQL and Redis for a whole installation on one machine, migrated and ready to use."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from pydantic import SecretStr

from shared.infrastructure.encryption import KeyFile
from shared.infrastructure.settings import DatabaseRole, Settings
from shared.kernel.errors import Misconfigured
from tellwire.database import migrate_async
from tellwire.embedded.account import Account
from tellwire.embedded.directory import DirectoryLock, unusable
from tellwire.embedded.errors import EmbeddedServiceRunning
from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres
from tellwire.embedded.redis import EmbeddedRedis
from tellwire.embedded.roles import bootstrap_database
from tellwire.embedded.server import EmbeddedServer

KEY_FILE = "encryption.keys"
_POSTGRES, _REDIS = "postgres", "redis"


@asynccontextmanager
async def embedded_services(
    settings: Settings, *, durable: bool = True
) -> AsyncGenerator[Settings]:
    """Run PostgreSQL and Redis in the data directory; gives settings that lead to them.

    The database is migrated, and a key file is there. With a database URL in `settings` nothing is
    started and they are given back as they are. A second run in the same data directory raises
    `EmbeddedServiceRunning`. `durable=False` is for tests.
    """
    if not settings.is_embedded:
        yield settings
        return
    directory = settings.data_directory.absolute()
    with _only_one_run(directory):
        keys = _key_settings(settings, directory)
        postgres = EmbeddedPostgres(directory / _POSTGRES, durable=durable)
        redis = EmbeddedRedis(directory / _REDIS, durable=durable)
        async with _running([postgres, redis]):
            await bootstrap_database(postgres.url(SUPERUSER, "postgres"))
            await migrate_async(postgres.url(DatabaseRole.OWNER))
            yield settings.model_copy(update=_locations(postgres, redis) | keys)


@contextmanager
def _only_one_run(directory: Path) -> Generator[None]:
    # As root, the servers' unprivileged account has to pass through to directories of its own.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(directory, error) from error
    lock = DirectoryLock(directory, what="Tellwire", account=Account.current())
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def _running(servers: Sequence[EmbeddedServer]) -> AsyncGenerator[None]:
    """Start the servers at the same time; end all of them, also those that were just starting."""
    with ThreadPoolExecutor(max_workers=len(servers)) as pool:
        starts = [pool.submit(server.start) for server in servers]
        try:
            await asyncio.gather(*map(asyncio.wrap_future, starts))
            yield
        finally:
            # Blocks the event loop on purpose: a second cancellation must not leave a server.
            pool.shutdown(wait=True)
            for server in reversed(servers):
                server.stop()


def _key_settings(settings: Settings, directory: Path) -> dict[str, Path]:
    """The key file of this directory, made at its first run, unless keys are set.

    A missing file beside existing data is an error: new keys would not open what is stored.
    """
    if settings.encryption_keys is not None or settings.encryption_key_file is not None:
        return {}
    path = directory / KEY_FILE
    if not path.exists() and (directory / _POSTGRES).exists():
        raise Misconfigured(
            f"{path} is missing but there is data that it encrypted: restore the file, set "
            "TELLWIRE_ENCRYPTION_KEYS, or remove the data directory"
        )
    KeyFile(path).load_or_generate()
    return {"encryption_key_file": path}


def _locations(postgres: EmbeddedPostgres, redis: EmbeddedRedis) -> dict[str, SecretStr | None]:
    return {
        "database_url": SecretStr(postgres.url(DatabaseRole.APP)),
        "database_owner_url": None,
        "database_dispatch_url": None,
        "database_intake_url": None,
        "database_process_url": None,
        "redis_url": SecretStr(redis.url),
    }


@asynccontextmanager
async def reachable_services(settings: Settings) -> AsyncGenerator[Settings]:
    """Settings that lead to running servers: those of another run, or ones started for the while.

    For commands beside a running `tellwire serve` and without one alike.
    """
    directory = settings.data_directory.absolute()
    async with AsyncExitStack() as stack:
        try:
            found = await stack.enter_async_context(embedded_services(settings))
        except EmbeddedServiceRunning:
            keys = _key_settings(settings, directory)
            postgres = EmbeddedPostgres(directory / _POSTGRES)
            redis = EmbeddedRedis(directory / _REDIS)
            found = settings.model_copy(update=_locations(postgres, redis) | keys)
        yield found
