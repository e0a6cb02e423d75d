"""What happens when PostgreSQL or Redis goes away: said so, tried again by whoever asked."""

import asyncio
import hashlib
import hmac
import logging
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import httpx
import pytest

from shared.infrastructure.settings import Settings
from shared.kernel.errors import Misconfigured
from tellwire.api import create_api

WEBHOOK = "/webhooks/whatsapp/100000000000001"
BODY = b'{"entry": []}'
SIGNED = {
    "X-Hub-Signature-256": "sha256="
    + hmac.new(b"canary-app-secret", BODY, hashlib.sha256).hexdigest()
}


class Cable:
    """A unix socket that leads to another one, and can be cut or clogged."""

    def __init__(self, target) -> None:
        self._target = target
        self._writers = []
        self._flows = asyncio.Event()
        self._flows.set()

    async def lay(self, path):
        self._server = await asyncio.start_unix_server(self._connect, path)

    async def _connect(self, reader, writer):
        there, back = await asyncio.open_unix_connection(self._target)
        self._writers += [writer, back]
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def clog(self) -> None:
        self._flows.clear()

    def cut(self) -> None:
        self._flows.set()
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def cables(world, redis_server):
    """The way to PostgreSQL and the way to Redis, and settings that lead over them."""
    database = urlsplit(world.settings.database_url.get_secret_value())
    sockets = parse_qs(database.query)["host"][0]
    postgres = Cable(f"{sockets}/.s.PGSQL.5432")
    redis = Cable(unquote(urlsplit(redis_server.url).path))
    with tempfile.TemporaryDirectory() as directory:
        await postgres.lay(f"{directory}/.s.PGSQL.5432")
        await redis.lay(f"{directory}/redis.sock")
        settings = Settings(
            _env_file=None,
            database_url=database._replace(query=f"host={directory}").geturl(),
            redis_url=f"unix://{directory}/redis.sock",
            encryption_keys=world.settings.encryption_keys,
            data_directory=Path(directory),
        )
        yield postgres, redis, settings
        postgres.cut()
        redis.cut()


@asynccontextmanager
async def running(settings):
    async with AsyncExitStack() as stack:
        app = create_api(settings)
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app)
        yield await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://api.test")
        )


def message_to(customer):
    return {
        "channel_id": str(customer.channel_id),
        "to": "+4915550000001",
        "text": {"body": "Hello"},
    }


@pytest.mark.usefixtures("meta_app")
async def test_without_postgresql_everything_may_be_tried_again(cables, ana) -> None:
    postgres, _, settings = cables
    async with running(settings) as client:
        sent = await client.post("/v1/messages", json=message_to(ana), headers=ana.headers)
        stored = await client.post(WEBHOOK, content=BODY, headers=SIGNED)
        assert (sent.status_code, stored.status_code) == (202, 200)

        postgres.cut()
        answers = [
            await client.post("/v1/messages", json=message_to(ana), headers=ana.headers),
            await client.get("/v1/messages", headers=ana.headers),
            await client.post(WEBHOOK, content=BODY, headers=SIGNED),
        ]
        alive = await client.get("/healthz")
        ready = await client.get("/readyz")

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert answer.headers["retry-after"] == "1"
    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert "postgresql" in ready.json()["detail"]
    assert "redis" not in ready.json()["detail"]


async def test_without_redis_messages_are_taken_and_the_process_is_not_ready(cables, ana) -> None:
    _, redis, settings = cables
    async with running(settings) as client:
        before = await client.get("/readyz")
        redis.cut()
        ready = await client.get("/readyz")
        sent = await client.post("/v1/messages", json=message_to(ana), headers=ana.headers)

    assert before.status_code == 200
    assert (ready.status_code, ready.json()["detail"]) == (503, "redis: no answer")
    assert sent.status_code == 202


@pytest.mark.usefixtures("meta_app")
async def test_a_database_without_writes_is_not_ready_until_it_takes_them_again(
    world, ana, caplog
) -> None:
    """As after a fail-over: nothing can be accepted, and a load balancer sends on elsewhere."""
    # One of before: what a database says to later ones would keep them from taking it back.
    superuser = await asyncpg.connect(world.superuser_url.replace("+asyncpg", ""))
    name = await superuser.fetchval("SELECT quote_ident(current_database())")
    await superuser.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    caplog.set_level(logging.INFO, "whatsapp.entrypoints.http.operations")
    try:
        async with running(world.settings) as client:
            ready = await client.get("/readyz")
            sent = await client.post("/v1/messages", json=message_to(ana), headers=ana.headers)
            stored = await client.post(WEBHOOK, content=BODY, headers=SIGNED)
            listed = await client.get("/v1/messages", headers=ana.headers)
            still = await client.get("/readyz")
            await superuser.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            again = await client.get("/readyz")
    finally:
        await superuser.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await superuser.close()

    for unready in (ready, still):
        assert (unready.status_code, unready.json()["code"]) == (503, "not_ready")
        assert unready.json()["detail"] == (
            "postgresql: takes no writes; postgresql as intake: takes no writes"
        )
        assert unready.headers["retry-after"] == "1"
    assert again.status_code == 200
    logged = [one.getMessage() for one in caplog.records if one.name.endswith("http.operations")]
    assert logged == [f"not ready: {ready.json()['detail']}", "ready again"]  # Once, not each time.
    for refused in (sent, stored):
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert listed.status_code == 200


async def test_readiness_is_known_within_a_second_even_if_nobody_answers(cables) -> None:
    """Asked again where that took longer: a machine with much else to do only ever adds."""
    postgres, redis, settings = cables
    took = []
    async with running(settings) as client:
        postgres.clog()
        redis.clog()
        while len(took) < 3 and min(took, default=2) >= 1.5:
            started = time.monotonic()
            ready = await client.get("/readyz")
            took.append(time.monotonic() - started)
            assert ready.status_code == 503
        postgres.cut()
        redis.cut()

    assert min(took) < 1.5


@pytest.mark.parametrize("role", ["tellwire_owner", "postgres"])
async def test_the_api_does_not_start_with_a_role_that_evades_policies(world, role) -> None:
    url = world.settings.database_url.get_secret_value().replace("tellwire_app", role)
    if role == "postgres":
        url = world.superuser_url
    settings = Settings(
        _env_file=None,
        database_url=url,
        redis_url=world.settings.redis_url,
        encryption_keys=world.settings.encryption_keys,
    )

    with pytest.raises(Misconfigured, match="role"):
        async with running(settings):
            pass
