"""Media between real PostgreSQL, a real directory and the simulator over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.move_media import MediaLimits, MoveMedia
from whatsapp.domain.media_repository import MediaFilter, MediaJob
from whatsapp.domain.value_objects import InboundContent
from whatsapp.domain.webhook import InboundReceived
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.client import create_http_session
from whatsapp.infrastructure.cloud_api.media import CloudApiMedia
from whatsapp.infrastructure.media_store.directory import DirectoryMediaStore
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMediaQueue
from whatsapp.infrastructure.persistence.work import work_in
from whatsapp_simulator.config import SimulatorConfig
from whatsapp_simulator.server import serve

LEASE = timedelta(seconds=30)
LIMITS = MediaLimits(transfer=timedelta(seconds=10))


@dataclass(slots=True)
class Files:
    """Moves files of customers as a worker does, job by job, and looks at what came of it."""

    url: str
    http: aiohttp.ClientSession
    sessions: Any
    queue: SQLAlchemyMediaQueue
    store: DirectoryMediaStore
    root: Path
    limits: MediaLimits = LIMITS
    lease: timedelta = LEASE
    now: Any = utc_now
    tenants: set[Any] = field(default_factory=set)

    @property
    def move(self) -> MoveMedia:
        return MoveMedia(
            begin=work_in(self.sessions),
            source=CloudApiMedia(self.http, base_url=self.url, version="v25.0"),
            store=self.store,
            limits=self.limits,
            now=self.now,
            rng=Random(1),
        )

    def limit(self, **limits) -> None:
        self.limits = replace(self.limits, **limits)

    async def upload(self, customer, content: bytes, mime_type: str = "image/jpeg") -> str:
        """Put a file where Meta has it; gives Meta's id."""
        self.tenants.add(customer.tenant_id)
        form = aiohttp.FormData()
        form.add_field("messaging_product", "whatsapp")
        form.add_field("file", content, content_type=mime_type, filename="x")
        url = f"{self.url}/v25.0/{customer.channel.phone_number_id}/media"
        async with self.http.post(url, data=form, headers={"Authorization": "Bearer x"}) as answer:
            return (await answer.json())["id"]

    async def receive(
        self, customer, media_id: str, kind: str = "image", *, dies: bool = False, **more
    ) -> None:
        """As the processor stores a message that a person sent, unless it dies before the end."""
        self.tenants.add(customer.tenant_id)
        received = InboundReceived(
            waba_id=None,
            phone_number_id=customer.channel.phone_number_id,
            wamid=f"wamid.{new_id()}",
            wa_id="4915112345678",
            user_id=None,
            previous_user_id=None,
            profile_name=None,
            username=None,
            group_id=None,
            sent_at=utc_now(),
            content=InboundContent(kind, {"id": media_id, "mime_type": "image/jpeg", **more}),
            context_wamid=None,
            errors=(),
            raw={},
        )
        async with work_in(self.sessions)(customer.tenant_id) as work:
            route = Route(customer.tenant_id, customer.channel.id)
            await ApplyInbound()(work, route, [received])
            if not dies:
                await work.commit()

    async def claim(self, limit: int = 10, per_tenant: int = 10) -> list[MediaJob]:
        return list(await self.queue.claim(limit=limit, per_tenant=per_tenant, lease=self.lease))

    async def move_due(self) -> list[Any]:
        """Everything that is due now, once; gives what came of each."""
        return [await self.move(job) for job in await self.claim()]

    async def hurry(self) -> None:
        """Let what waits be due at once, and end every lease."""
        for tenant_id in self.tenants:
            await self.execute(tenant_id, "UPDATE whatsapp_media_jobs SET due_at = now()")

    async def move_all(self) -> list[Any]:
        """As workers do, without waiting; gives what came of every attempt."""
        outcomes: list[Any] = []
        while True:
            await self.hurry()
            moved = await self.move_due()
            if not moved:
                return outcomes
            outcomes += moved

    async def media_of(self, customer, **wanted) -> list[Any]:
        async with work_in(self.sessions)(customer.tenant_id) as work:
            return list(await work.media.list_media(MediaFilter(**wanted), limit=100))

    async def read(self, media) -> bytes:
        async with self.store.reading(media.key) as pieces:
            return b"".join([piece async for piece in pieces])

    async def control(self, method: str, **body) -> Any:
        url = f"{self.url}/_simulator/media"
        async with self.http.request(method, url, json=body or None) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def spoil(self, **faults) -> None:
        await self.control("POST", **faults)

    async def execute(self, tenant_id, statement: str) -> None:
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant_id)
            await uow.session.execute(text(statement))
            await uow.commit()

    def stored_files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]


@pytest.fixture
async def simulator() -> AsyncIterator[str]:
    config = SimulatorConfig(app_secret=Secret("an-app-secret"), port=0, open_numbers=True)
    listening, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(config, ready=listening.set_result, stop=stop))
        yield await listening
        stop.set()


@pytest.fixture
async def files(database, sessions, simulator, tmp_path) -> AsyncIterator[Files]:
    engine = create_engine(database.url("tellwire_process"))
    root = tmp_path / "media"
    store = DirectoryMediaStore(root)
    async with store.drafting():
        pass  # One that has been in use.
    async with create_http_session(read_timeout=timedelta(seconds=5)) as http:
        yield Files(
            simulator,
            http,
            sessions,
            SQLAlchemyMediaQueue(engine),
            store,
            root,
        )
    await engine.dispose()
