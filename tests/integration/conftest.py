"""What integration tests share: sessions as the application's role, and tenants with a channel."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import (
    RLSManager,
    SessionFactory,
    SQLAlchemyUnitOfWork,
    configure_database,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from tellwire.embedded.postgres import EmbeddedPostgres
from tenancy.infrastructure.models import TenantModel
from whatsapp.domain.entities import Channel
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyChannelRepository


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant that exists, with one verified channel."""

    tenant_id: UUID
    channel: Channel


@pytest.fixture
async def superuser(database) -> AsyncIterator[Any]:
    """A connection that no policy applies to: to look at everything, and to bring it about."""
    connection = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@pytest.fixture
def is_waiting(superuser) -> Callable[[asyncio.Task[Any]], Coroutine[Any, Any, None]]:
    """`await is_waiting(task)`: until somebody waits for another's lock, or `task` is done."""

    async def is_waiting(task: asyncio.Task[Any]) -> None:
        async with asyncio.timeout(30):
            while not task.done() and not await superuser.fetchval(  # noqa: ASYNC110  # nobody tells
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.005)

    return is_waiting


@pytest.fixture(autouse=True)
def encryption() -> Iterator[EncryptionManager]:
    manager = EncryptionManager(KeyRing.generate())
    configure_encryption(manager)
    yield manager
    configure_encryption(None)


@dataclass(slots=True)
class Wire:
    """What a client says to PostgreSQL, read from its socket: nothing above it can look away."""

    directory: Path
    upstream: Path
    round_trips: int = 0
    executed: list[str] = field(default_factory=list)
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def statements(self) -> list[str]:
        """The statements that ran, without those that only begin and end a transaction."""
        ends = ("BEGIN", "COMMIT", "ROLLBACK")
        return [sql for sql in self.executed if not sql.startswith(ends)]

    def clear(self) -> None:
        self.round_trips = 0
        self.executed.clear()

    def url(self, url: str) -> str:
        """The same database, through this wire."""
        return url.replace(str(self.upstream.parent), str(self.directory))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(str(self.upstream))
        self._clients |= {writer, to_server}
        answers = asyncio.create_task(self._forward(from_server, writer))
        try:
            await self._listen(reader, to_server)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            to_server.close()
            await answers

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass
        finally:
            target.close()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await reader.readexactly(4)
        writer.write(size + await reader.readexactly(struct.unpack("!i", size)[0] - 4))
        prepared: dict[bytes, str] = {}
        bound = b""
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
            match head[:1]:
                case b"P":
                    name, sql, _ = body.split(b"\0", 2)
                    prepared[name] = sql.decode().strip()
                case b"B":
                    _, bound, _ = body.split(b"\0", 2)
                case b"E":
                    self.executed.append(prepared[bound])
                case b"Q":
                    self.round_trips += 1
                    self.executed.append(body[:-1].decode().strip())
                case b"S" | b"H":
                    self.round_trips += 1
                case _:
                    pass
            writer.write(head + body)
            await writer.drain()

    def hang_up(self) -> None:
        for client in self._clients:
            client.close()


_wires = count(1)


@pytest.fixture
async def wire(server_directory: Path, postgres: EmbeddedPostgres) -> AsyncIterator[Wire]:
    """A socket that passes everything on to PostgreSQL and takes notes."""
    directory = server_directory / f"wire{next(_wires)}"
    directory.mkdir()
    wire = Wire(directory, Path(postgres.url("any").partition("?host=")[2]) / ".s.PGSQL.5432")
    server = await asyncio.start_unix_server(wire.serve, directory / wire.upstream.name)
    yield wire
    server.close()
    wire.hang_up()


@pytest.fixture
async def engine(database) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database.url("tellwire_app"))
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Iterator[SessionFactory]:
    factory = create_session_factory(engine)
    configure_database(factory)
    yield factory
    configure_database(None)


@pytest.fixture
async def ana(sessions: SessionFactory) -> Customer:
    return await make_customer(sessions, phone_number_id="1001")


@pytest.fixture
async def bea(sessions: SessionFactory) -> Customer:
    return await make_customer(sessions, phone_number_id="2002")


@pytest.fixture
def new_customer(sessions: SessionFactory) -> Callable[[], Coroutine[Any, Any, Customer]]:
    """Further tenants, each with a channel of its own."""
    numbers = count(10_000)
    return lambda: make_customer(sessions, phone_number_id=str(next(numbers)))


async def make_customer(sessions: SessionFactory, *, phone_number_id: str) -> Customer:
    tenant = new_id()
    channel = Channel(
        tenant_id=tenant,
        name="Main",
        phone_number_id=phone_number_id,
        access_token=AccessToken("EAAG-test-token"),
    )
    channel.verify(utc_now())
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=tenant)
        await uow.session.execute(insert(TenantModel).values(id=tenant, name="A tenant"))
        stored = await SQLAlchemyChannelRepository(uow.session).add(channel)
        await uow.commit()
    return Customer(tenant, stored)
