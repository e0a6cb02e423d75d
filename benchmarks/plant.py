"""A whole installation in processes of its own, as an operator runs it, before a simulated Meta."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import asyncpg
import psutil
from benchmarks.servers import Database, Servers, all_cores

from shared.infrastructure.encryption import KeyFile, configure_encryption
from shared.infrastructure.redis import connect
from shared.infrastructure.settings import Settings, load_settings
from shared.kernel.secret import Secret
from tellwire.embedded.postgres import SUPERUSER
from tellwire.installation import Installation, open_installation
from tenancy.domain import Scope
from whatsapp.domain.entities import Channel, WindowPolicy
from whatsapp.domain.rate_limit import MAX_RATE
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter

APP_ID: Final = "100000000000001"
APP_SECRET: Final = "benchmark-app-secret"  # noqa: S105  # of a simulator that lives for minutes
READY_SECONDS: Final = 60.0
STATUS_DELAYS: Final = {"sent_seconds": 0.02, "delivered_seconds": 0.05, "read_seconds": 0.1}
"""Short, so that a run ends soon after its last message; the same for every rival."""
_numbers = count(1)


@dataclass(slots=True)
class Process:
    """A process of ours, and the processor time that it has used."""

    name: str
    popen: subprocess.Popen[bytes]

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        used = psutil.Process(self.popen.pid).cpu_times()
        return used.user + used.system

    @property
    def resident_bytes(self) -> int:
        """What it keeps in memory now."""
        resident: int = psutil.Process(self.popen.pid).memory_info().rss
        return resident

    def end(self) -> None:
        """Ask it to end; kill it if it does not."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@dataclass(slots=True)
class Plant:
    """Where everything is: settings, database, API, simulator, and the processes that run."""

    servers: Servers
    database: Database
    directory: Path
    settings: Settings
    meta: str
    installation: Installation
    http: aiohttp.ClientSession
    superuser: asyncpg.Pool
    processes: list[Process] = field(default_factory=list[Process])
    keys: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def api(self) -> str:
        """The API's base URL."""
        return f"http://{self.settings.api_host}:{self.settings.api_port}"

    def start(self, name: str, *arguments: str) -> Process:
        """Run a command of Tellwire on all cores, its output in a file."""
        clean = {key: value for key, value in os.environ.items() if "TELLWIRE" not in key}
        with (self.directory / f"{name}.log").open("wb") as log:
            popen = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "tellwire", *arguments],
                env={**clean, **self.settings.to_environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(Process(name, popen))
        return self.processes[-1]

    async def start_api(self) -> Process:
        """The API, once it answers."""
        process = self.start("api", "api")
        await self.until_answers(process, f"{self.api}/readyz")
        return process

    async def start_workers(self, number: int) -> list[Process]:
        """Workers, once all of them work."""
        names = [f"worker-{next(_numbers)}" for _ in range(number)]
        workers = [self.start(name, "worker") for name in names]
        async with asyncio.timeout(READY_SECONDS):
            for process in workers:
                log = self.directory / f"{process.name}.log"
                while "worker started" not in log.read_text():
                    _refuse_dead(process, log)
                    await asyncio.sleep(0.05)
        return workers

    async def start_simulator(self, webhook_url: str | None, port: int) -> Process:
        """A simulator that reports to `webhook_url`; one without it reports nothing."""
        configuration: dict[str, Any] = {
            "app_secret": APP_SECRET,
            "app_id": APP_ID,
            "port": port,
            "open_numbers": True,
            "open_messages_per_second": MAX_RATE,
            "statuses": STATUS_DELAYS,
            "log_entries": 400_000,
        }
        if webhook_url is not None:
            configuration["webhook_url"] = webhook_url
        name = f"simulator-{port}"
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps(configuration))
        process = self.start(name, "simulator", "--config", str(file))
        await self.until_answers(process, f"http://127.0.0.1:{port}/_simulator/health")
        return process

    async def until_answers(self, process: Process, url: str) -> None:
        """Wait until `url` answers 200."""
        log = self.directory / f"{process.name}.log"
        async with asyncio.timeout(READY_SECONDS):
            while True:
                _refuse_dead(process, log)
                with suppress(aiohttp.ClientError):
                    async with self.http.get(url) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    def end(self, *processes: Process) -> None:
        """End these, the last started first."""
        for process in reversed(processes):
            self.processes.remove(process)
            process.end()

    async def channels(self, number: int, *, rate: int) -> list[Channel]:
        """New channels, all of one new tenant, whose numbers have been used before."""
        tenant = await self.installation.create_tenant("A tenant")
        made: list[Channel] = []
        for _ in range(number):
            channel = Channel(
                tenant_id=tenant.id,
                name="Main",
                phone_number_id=str(20_000 + next(_numbers)),
                access_token=AccessToken("EAAG-benchmark"),
                messages_per_second=rate,
                window_policy=WindowPolicy.ALLOW,
                app_id=APP_ID,
            )
            channel.verify(self.installation.now())
            made.append(await self.installation.add_channel(channel))
        issued = await self.installation.create_api_key(
            tenant.id, name="benchmark", scopes=[scope.value for scope in Scope]
        )
        self.keys[str(tenant.id)] = issued.text.reveal()
        return made

    def headers(self, channel: Channel) -> dict[str, str]:
        """What the channel's tenant proves itself with."""
        return {"Authorization": f"Bearer {self.keys[str(channel.tenant_id)]}"}

    async def warm(self, channels: Sequence[Channel]) -> None:
        """Get over the second that the limiter holds each number off on its first use."""
        client = connect(self.servers.redis.url)
        try:
            limiter = RedisRateLimiter(client)
            for channel in channels:
                await limiter.reserve(
                    channel.phone_number_id, count=1, rate=channel.messages_per_second
                )
        finally:
            await client.aclose()
        await asyncio.sleep(1.2)

    async def all_stand_at(
        self, channels: Sequence[Channel], since: UUID, statuses: Sequence[str]
    ) -> bool:
        """Whether every message of the channels from `since` on stands at one of `statuses`.

        Whoever asks again and again takes time from what is measured: so it looks into the queue
        first, and then at the newest messages, and stops at one that does not stand there.
        """
        tenant_id = channels[0].tenant_id
        if await self.superuser.fetchval(
            "SELECT true FROM whatsapp_send_queue WHERE tenant_id = $1 LIMIT 1", tenant_id
        ):
            return False
        missing = await self.superuser.fetchval(
            "SELECT true FROM unnest($2::uuid[]) AS c(id) CROSS JOIN LATERAL ("
            "  SELECT FROM (SELECT status FROM whatsapp_outbound_messages"
            "    WHERE tenant_id = $1 AND channel_id = c.id AND id > $3"
            "    ORDER BY id DESC OFFSET 0) m"
            "  WHERE status <> ALL($4) LIMIT 1) one LIMIT 1",
            tenant_id,
            [channel.id for channel in channels],
            since,
            list(statuses),
        )
        return missing is None

    async def rate_of(self, channels: Sequence[Channel], *, last: int | None = None) -> float:
        """Requests per second of the `last` messages, without their first and last tenth."""
        rows = await self.superuser.fetch(
            "SELECT a.started_at FROM whatsapp_message_attempts a "
            "JOIN whatsapp_outbound_messages m USING (tenant_id) "
            "WHERE m.id = a.message_id AND tenant_id = $1 AND m.channel_id = ANY($2) "
            "ORDER BY 1 DESC LIMIT $3",
            channels[0].tenant_id,
            [channel.id for channel in channels],
            last,
        )
        core = [row[0] for row in rows[len(rows) // 10 : -len(rows) // 10]]
        return (len(core) - 1) / (core[0] - core[-1]).total_seconds()

    def postgres_cpu_seconds(self) -> float:
        """The processor time of PostgreSQL's processes that run now."""
        server = psutil.Process(self.servers.postgres.pid)
        total = 0.0
        for process in (server, *server.children()):
            with suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system
        return total


def _refuse_dead(process: Process, log: Path) -> None:
    if process.popen.poll() is not None:
        raise RuntimeError(f"{process.name} has ended: {log.read_text()[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def plant(
    servers: Servers, database: Database, *, reports: bool = True
) -> AsyncGenerator[Plant]:
    """A simulator and an installation without processes yet; those that are started end with it.

    Without `reports` nothing is heard of a message once Meta has accepted it.
    """
    port = free_port()
    async with AsyncExitStack() as stack:
        stack.enter_context(all_cores(servers))
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="tellwire-plant-"))
        directory = Path(made)
        KeyFile(directory / "keys").load_or_generate()
        settings = load_settings(
            _env_file=None,
            database_url=database.url("tellwire_app"),
            redis_url=servers.redis.url,
            encryption_key_file=directory / "keys",
            data_directory=directory,
            graph_base_url=f"http://127.0.0.1:{port}",
            api_port=free_port(),
            log_level="info",
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        superuser = await asyncpg.create_pool(database.dsn(SUPERUSER), min_size=1, max_size=2)
        stack.push_async_callback(superuser.close)
        stack.callback(configure_encryption, None)
        installation = await stack.enter_async_context(open_installation(settings))
        await installation.add_app(
            APP_ID, secret=Secret(APP_SECRET), verify_token=Secret("benchmark-verify-token")
        )
        here = Plant(
            servers,
            database,
            directory,
            settings,
            settings.graph_base_url,
            installation,
            http,
            superuser,
        )
        stack.callback(lambda: here.end(*here.processes))
        hook = f"{here.api}/webhooks/whatsapp/{APP_ID}" if reports else None
        await here.start_simulator(hook, port)
        yield here
