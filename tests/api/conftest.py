"""The real app over real PostgreSQL and Redis, through ASGI or behind a real server."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.infrastructure.database import (
    RLSManager,
    SessionFactory,
    SQLAlchemyUnitOfWork,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.infrastructure.settings import Settings
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from tellwire.api import create_api
from tenancy.application.api_keys import CreateApiKey
from tenancy.domain import Scope
from tenancy.infrastructure.models import TenantModel
from tenancy.infrastructure.work import tenancy_work_in
from whatsapp.domain.entities import Channel, ChannelStatus, WindowPolicy
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyMetaAppRepository,
)

APP_ID = "100000000000001"
APP_SECRET = "canary-app-secret"
PREVIOUS_SECRET = "canary-previous-secret"
VERIFY_TOKEN = "canary-verify-token"
ACCESS_TOKEN = "EAAGcanaryAccessToken"


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant with a channel and a key that may do everything."""

    tenant_id: UUID
    channel_id: UUID
    api_key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


@dataclass(frozen=True, slots=True)
class World:
    """What stands behind the API in a module's tests."""

    settings: Settings
    sessions: SessionFactory
    superuser_url: str

    async def query(self, statement: str, **values: Any) -> list[Any]:
        """Rows as the superuser sees them, past every policy."""
        engine = create_async_engine(self.superuser_url)
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(statement), values)
                return list(result) if result.returns_rows else []
        finally:
            await engine.dispose()

    async def customer(self, name: str = "A tenant", **channel: Any) -> Customer:
        tenant = new_id()
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant)
            await uow.session.execute(insert(TenantModel).values(id=tenant, name=name))
            await uow.commit()
        stored = await self.channel(tenant, **channel)
        key = await self.api_key(tenant)
        return Customer(tenant, stored.id, key)

    async def channel(self, tenant_id: UUID, **given: Any) -> Channel:
        status = given.pop("status", ChannelStatus.ACTIVE)
        given.setdefault("window_policy", WindowPolicy.ALLOW)
        channel = Channel(
            tenant_id=tenant_id,
            name="Main",
            phone_number_id=str(new_id().int)[-15:],
            access_token=AccessToken(ACCESS_TOKEN),
            **given,
        )
        if status is not ChannelStatus.PENDING:
            channel.verify(utc_now())
            channel.status = status
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant_id)
            stored = await SQLAlchemyChannelRepository(uow.session).add(channel)
            await uow.commit()
        return stored

    async def api_key(self, tenant_id: UUID, *scopes: Scope) -> str:
        create = CreateApiKey(begin=tenancy_work_in(self.sessions))
        issued = await create(tenant_id, name="Test", scopes=scopes or tuple(Scope))
        return issued.text.reveal()


@pytest.fixture(scope="module")
def key_ring() -> Iterator[KeyRing]:
    ring = KeyRing.generate()
    configure_encryption(EncryptionManager(ring))
    yield ring
    configure_encryption(None)


@pytest.fixture(scope="module")
def settings(module_database, redis_server, key_ring, tmp_path_factory) -> Settings:
    key_ring_text = key_ring.to_setting().reveal()
    return Settings(
        _env_file=None,
        database_url=module_database.url("tellwire_app"),
        redis_url=redis_server.url,
        encryption_keys=key_ring_text,
        graph_base_url="http://127.0.0.1:9",  # nobody answers: no test calls the real one
        data_directory=Path(tmp_path_factory.mktemp("data")),
    )


@pytest.fixture
async def world(settings, module_database, key_ring) -> AsyncIterator[World]:
    configure_encryption(EncryptionManager(key_ring))
    engine = create_engine(module_database.url("tellwire_app"))
    yield World(settings, create_session_factory(engine), module_database.superuser_url)
    await engine.dispose()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app while it runs."""
    app = create_api(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            yield client


@pytest.fixture
async def client(world) -> AsyncIterator[httpx.AsyncClient]:
    async with running(world.settings) as client:
        yield client


@pytest.fixture(scope="module")
def live_url(settings) -> Iterator[str]:
    """The address of the app behind a real server on a port of its own."""
    server = uvicorn.Server(
        uvicorn.Config(create_api(settings), port=0, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
async def ana(world) -> Customer:
    return await world.customer("Ana")


@pytest.fixture
async def bea(world) -> Customer:
    return await world.customer("Bea")


@pytest.fixture
async def meta_app(world) -> MetaApp:
    app = MetaApp(
        app_id=APP_ID,
        secret=Secret(APP_SECRET),
        previous_secret=Secret(PREVIOUS_SECRET),
        verify_token=Secret(VERIFY_TOKEN),
    )
    await SQLAlchemyMetaAppRepository(world.sessions).save_app(app)
    return app


@pytest.fixture
def api_running():
    """`async with api_running(settings) as client:`"""
    return running
