"""What processes are made of: engines by role, Redis, encryption; opened here and closed here."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import create_engine, refuse_unsafe_role
from shared.infrastructure.encryption import (
    EncryptionManager,
    KeyFile,
    KeyRing,
    configure_encryption,
)
from shared.infrastructure.redis import RedisClient, assert_noeviction, connect
from shared.infrastructure.settings import DatabaseRole, Settings
from shared.kernel.errors import Misconfigured
from shared.kernel.secret import Secret
from tellwire.embedded.services import KEY_FILE


@asynccontextmanager
async def open_database(
    settings: Settings, role: DatabaseRole, *, plans_once: bool = False
) -> AsyncGenerator[AsyncEngine]:
    """An engine as `role`, refused if that role could evade row-level security."""
    engine = create_engine(
        settings.database_url_of(role),
        pool_size=settings.database_pool_size,
        # None beyond these: one that is made for a moment costs more than waiting for another.
        max_overflow=0,
        pgbouncer=settings.database_pgbouncer,
        plans_once=plans_once,
    )
    try:
        await refuse_unsafe_role(engine)
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_redis(settings: Settings) -> AsyncGenerator[RedisClient]:
    """A client of a Redis that evicts nothing."""
    if settings.redis_url is None:
        raise Misconfigured("TELLWIRE_REDIS_URL is not set and no embedded server was started")
    client = connect(settings.redis_url.get_secret_value())
    try:
        await assert_noeviction(client)
        yield client
    finally:
        await client.aclose()


def key_file_of(settings: Settings) -> Path:
    """Where the keys lie if they are in a file."""
    return settings.encryption_key_file or settings.data_directory / KEY_FILE


def load_key_ring(settings: Settings) -> KeyRing:
    """The keys of this installation; with embedded servers their first start made them."""
    if settings.encryption_keys is not None:
        return KeyRing.parse(Secret(settings.encryption_keys.get_secret_value()))
    if settings.encryption_key_file is None and not settings.is_embedded:
        raise Misconfigured("Set TELLWIRE_ENCRYPTION_KEYS or TELLWIRE_ENCRYPTION_KEY_FILE")
    return KeyFile(key_file_of(settings)).load()


def set_up_encryption(settings: Settings) -> None:
    """Let this process encrypt and decrypt with the installation's keys."""
    configure_encryption(EncryptionManager(load_key_ring(settings)))
