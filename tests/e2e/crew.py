"""An installation whose every part can be killed, stopped and started again, and its judge."""

import asyncio
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp

from fleet import PATIENCE, Fleet, Nursery, _start, _until_healthy
from ports import free_port
from shared.infrastructure.database import create_engine, create_session_factory
from shared.infrastructure.encryption import KeyFile
from shared.infrastructure.settings import DatabaseRole, Settings, load_settings
from shared.kernel.secret import Secret
from tellwire.database import migrate_async
from tellwire.embedded.postgres import SUPERUSER, EmbeddedPostgres
from tellwire.embedded.redis import EmbeddedRedis
from tellwire.embedded.roles import bootstrap_database
from tellwire.embedded.server import EmbeddedServer
from tellwire.resources import set_up_encryption
from whatsapp.application.change_message import RetryMessage
from whatsapp.domain.entities import Channel
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMetaAppRepository
from whatsapp.infrastructure.persistence.work import work_in

APP_ID, APP_SECRET = "100000000000001", "crew-app-secret"
PENDING = frozenset({"queued", "sending", "retrying", "unknown"})


@dataclass(slots=True)
class Crew:
    """Servers, API, simulator and workers, each with its process id."""

    fleet: Fleet
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    api: str

    def start_worker(self, point: str = "-") -> int:
        """Start a worker, with a point at which it dies if one is given."""
        return self.fleet.start_worker(point)

    def kill_worker(self, pid: int, how: int = signal.SIGKILL) -> None:
        self.fleet.kill_worker(pid, how)

    async def until_dead(self, pid: int, *, within: float = 30) -> None:
        """Wait until a worker has ended."""
        await self.fleet.until_dead(pid, within=within)

    async def until_requests(self, number: int, *, or_for: float) -> None:
        """Wait until Meta has had so many more requests, or for so many seconds."""
        log = self.fleet.directory / "meta.jsonl"
        with suppress(TimeoutError), log.open("rb") as requests:
            requests.seek(0, os.SEEK_END)
            async with asyncio.timeout(or_for):
                while number > 0:
                    number -= requests.read().count(b"\n")
                    await asyncio.sleep(0.005)

    @asynccontextmanager
    async def without(self, server: EmbeddedServer, *, seconds: float) -> AsyncIterator[None]:
        """Kill a server, go on for so long while it is gone, and start it again."""
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        gone_at = asyncio.get_running_loop().time()
        yield
        await asyncio.sleep(gone_at + seconds - asyncio.get_running_loop().time())
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await self.reconnect()

    async def reconnect(self) -> None:
        """Drop the test's own connections, which were cut like everybody's."""
        await self.fleet.sessions.kw["bind"].dispose()

    async def behave(
        self, channel: Channel, count: int, *, share: float = 1.0, **behaviour: Any
    ) -> None:
        """Have the simulator do this with the next messages of a channel, or a share of them."""
        await self.fleet.control(
            "faults",
            {
                "behaviour": behaviour,
                "count": count,
                "probability": share,
                "phone_number_id": channel.phone_number_id,
            },
        )

    async def forgive(self) -> None:
        """Have the simulator do nothing odd any more."""
        url = f"{self.fleet.meta}/_simulator/faults"
        async with self.fleet.http.delete(url) as answer:
            assert answer.status < 300

    async def statuses(self, *channels: Channel) -> Counter[str]:
        """How many messages of the channels have which status."""
        rows = await self.fleet.sql(
            "SELECT status, count(*) FROM whatsapp_outbound_messages"
            " WHERE channel_id = ANY($1) GROUP BY status",
            [channel.id for channel in channels],
        )
        return Counter(dict(map(tuple, rows)))

    async def queue_is_empty(self, *channels: Channel) -> bool:
        rows = await self.fleet.sql(
            "SELECT 1 FROM whatsapp_send_queue WHERE channel_id = ANY($1) LIMIT 1",
            [channel.id for channel in channels],
        )
        return not rows

    async def settle(self, *channels: Channel, within: float, pulse: float = 0.5) -> None:
        """Wait until every message has come to its end, while some traffic goes on as it would.

        Silence about an unknown message counts only while other messages are heard of.
        """
        try:
            async with asyncio.timeout(PATIENCE * within):
                await self._settle(*channels, pulse=pulse)
        except TimeoutError:
            raise AssertionError(f"{await self.state(*channels)}\n{self.logs()}") from None

    async def _settle(self, *channels: Channel, pulse: float) -> None:
        while set(await self.statuses(*channels)) - {"read", "failed"}:
            stuck = await self._stuck(*channels)
            for channel in channels:
                if channel.id in stuck:
                    await self.fleet.enqueue(channel, 1)
            await asyncio.sleep(pulse)

    async def state(self, *channels: Channel) -> str:
        """What is stored and queued, for the message of a failed test."""
        rows = await self.fleet.sql(
            "SELECT q.state, q.lane, m.status, q.due_at <= now() AS due, count(*),"
            " min(q.due_at) - now() AS first_due, max(q.lease_until) - now() AS last_lease"
            " FROM whatsapp_send_queue q JOIN whatsapp_outbound_messages m"
            " ON m.tenant_id = q.tenant_id AND m.id = q.id"
            " WHERE q.channel_id = ANY($1) GROUP BY 1, 2, 3, 4",
            [channel.id for channel in channels],
        )
        inbox = await self.fleet.sql("SELECT attempts, count(*) FROM webhook_inbox GROUP BY 1")
        return f"{await self.statuses(*channels)} {rows} inbox {inbox}"

    async def _stuck(self, *channels: Channel) -> set[UUID]:
        """Where all that is left is of unknown outcome: only other messages bring it to an end."""
        rows = await self.fleet.sql(
            "SELECT channel_id FROM whatsapp_send_queue WHERE channel_id = ANY($1)"
            " GROUP BY 1 HAVING bool_and(state = 'unknown')",
            [channel.id for channel in channels],
        )
        return {row["channel_id"] for row in rows}

    async def copies(self, *channels: Channel) -> Counter[str]:
        """How often Meta accepted which message of ours, by its id without hyphens."""
        taken: Counter[str] = Counter()
        for channel in channels:
            for entry in await self.fleet.arrivals(channel):
                if entry["outcome"] == "accepted":
                    taken[entry["callback"].split(".")[1]] += 1
        return taken

    async def unknown_attempts(self, *channels: Channel) -> Counter[UUID]:
        """How often nobody knew what had become of a request, by message."""
        rows = await self.fleet.sql(
            "SELECT m.id, count(*) FROM whatsapp_message_attempts a"
            " JOIN whatsapp_outbound_messages m"
            " ON m.tenant_id = a.tenant_id AND m.id = a.message_id"
            " WHERE m.channel_id = ANY($1) AND a.outcome = 'unknown' GROUP BY m.id",
            [channel.id for channel in channels],
        )
        return Counter(dict(map(tuple, rows)))

    async def failed_as_unknown(self, *channels: Channel) -> dict[UUID, UUID]:
        """What failed because nobody knows whether it was sent: id to tenant."""
        rows = await self.fleet.sql(
            "SELECT id, tenant_id FROM whatsapp_outbound_messages"
            " WHERE channel_id = ANY($1) AND status = 'failed' AND failure_title = $2",
            [channel.id for channel in channels],
            "Nobody knows whether it was sent",
        )
        return dict(map(tuple, rows))

    async def retry_failed(self, *channels: Channel) -> None:
        """Have everything sent again that failed, as a person would who has looked at it."""
        retry = RetryMessage(begin=work_in(self.fleet.sessions))
        for message_id, tenant_id in (await self.failed_as_unknown(*channels)).items():
            await retry(tenant_id, message_id)

    async def judge(self, *channels: Channel) -> "Verdict":
        """What Meta's log says about what we say."""
        copies = await self.copies(*channels)
        rows = await self.fleet.sql(
            "SELECT id, status FROM whatsapp_outbound_messages WHERE channel_id = ANY($1)",
            [channel.id for channel in channels],
        )
        ours = {row["id"].hex: row["status"] for row in rows}
        return Verdict(
            statuses=Counter(ours.values()),
            doubled=sum(number > 1 for number in copies.values()),
            lost=sum(not copies[one] and status != "failed" for one, status in ours.items()),
            misjudged=sum(bool(copies[one]) != (status == "read") for one, status in ours.items()),
            strangers=len(set(copies) - set(ours)),
        )

    def logs(self) -> str:
        files = sorted(self.fleet.directory.glob("*.log"))
        return "\n".join(
            f"== {file.name}\n{file.read_text()[-3000:]}" for file in files[:2] + files[-9:]
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`misjudged` are those that we call read and Meta does not know, or the other way round."""

    statuses: Counter[str]
    doubled: int
    lost: int
    misjudged: int
    strangers: int

    @property
    def is_clean(self) -> bool:
        return not (self.doubled or self.lost or self.misjudged or self.strangers)


@asynccontextmanager
async def running_crew(
    directory: Path,
    *,
    lease: float = 3,
    unknown: float = 3,
    settings: dict[str, Any] | None = None,
    **simulator: Any,
) -> AsyncIterator[Crew]:
    """Durable servers, an API that takes webhooks in, a simulator, and no worker yet."""
    postgres, redis = (EmbeddedPostgres(directory / "postgres"), EmbeddedRedis(directory / "redis"))
    processes: list[subprocess.Popen[Any]] = []
    nursery: Nursery | None = None
    postgres.start()
    redis.start()
    try:
        await bootstrap_database(postgres.url(SUPERUSER, "postgres"))
        await migrate_async(postgres.url(DatabaseRole.OWNER))
        keys = directory / "encryption.keys"
        KeyFile(keys).load_or_generate()
        port, meta_port = free_port(), free_port()
        meta, api = f"http://127.0.0.1:{meta_port}", f"http://127.0.0.1:{port}"
        given = load_settings(
            _env_file=None,
            database_url=postgres.url(DatabaseRole.APP),
            redis_url=redis.url,
            encryption_key_file=keys,
            graph_base_url=meta,
            api_port=port,
            lease_seconds=lease,
            unknown_deadline_seconds=unknown,
            **(settings or {}),
        )
        file = directory / "simulator.json"
        file.write_text(
            json.dumps(
                {
                    "app_secret": APP_SECRET,
                    "port": meta_port,
                    "open_numbers": True,
                    "open_messages_per_second": 100_000,
                    "pair_limit": False,
                    "log_path": str(directory / "meta.jsonl"),
                    "webhook_url": f"{api}/webhooks/whatsapp/{APP_ID}",
                    **simulator,
                }
            )
        )
        set_up_encryption(given)
        engine = create_engine(given.database_url_of(DatabaseRole.APP))
        sessions = create_session_factory(engine)
        await SQLAlchemyMetaAppRepository(sessions).save_app(
            MetaApp(
                app_id=APP_ID,
                secret=Secret(APP_SECRET),
                previous_secret=None,
                verify_token=Secret("crew"),
            )
        )
        processes += _processes(directory, given, file)
        nursery = Nursery(dict(given.to_environment()))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
            fleet = Fleet(directory, given, sessions, meta, http, nursery)
            await _until_healthy(fleet, processes[0])
            await _until_ready(http, api)
            crew = Crew(fleet, postgres, redis, api)
            yield crew
        await engine.dispose()
    finally:
        if nursery is not None:
            nursery.end()
        end(processes)
        redis.stop()
        postgres.stop()


def _processes(directory: Path, settings: Settings, file: Path) -> list[subprocess.Popen[Any]]:
    """The simulator and the API."""
    environment = dict(settings.to_environment())
    with (
        (directory / "simulator.log").open("wb") as simulator,
        (directory / "api.log").open("wb") as api,
    ):
        return [
            _start(simulator, {}, "simulator", "--config", str(file)),
            _start(api, environment, "api"),
        ]


async def _until_ready(http: aiohttp.ClientSession, api: str) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(f"{api}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


def end(processes: Iterable[subprocess.Popen[Any]]) -> None:
    """End processes, the last first; what they started dies with them."""
    for process in reversed(list(processes)):
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
