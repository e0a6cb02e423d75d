"""Workers in processes of their own before a simulated Meta, and messages put straight into the
queue: for tests of pace and fairness, in which the API would only be noise."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import aiohttp
import asyncpg
from sqlalchemy import insert

from ports import free_port
from shared.infrastructure.database import (
    RLSManager,
    SessionFactory,
    SQLAlchemyUnitOfWork,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.settings import DatabaseRole, Settings, load_settings
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from tellwire.embedded.postgres import SUPERUSER
from tellwire.embedded.services import embedded_services
from tellwire.resources import set_up_encryption
from tenancy.infrastructure.models import TenantModel
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.value_objects import (
    AccessToken,
    IdempotencyKey,
    MessageContent,
    PhoneNumber,
)
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyMessageRepository,
)

BATCH = 1000
PATIENCE = 3
"""A machine with much else to do is waited for so many times longer, where no time is judged."""
TICK_SECONDS = 0.005
"""How exactly the simulator knows how late it is."""
_FEW = 10_000
_COPIES = """
    WITH copy AS MATERIALIZED (
        SELECT uuidv7() AS id, '+4916' || lpad(n::text, 9, '0') AS recipient, 'copy' || n AS key,
               hashtextextended('copy' || n, 0) AS recipient_key
        FROM generate_series($2::int, $3::int) n
    ), stored AS (
        INSERT INTO whatsapp_outbound_messages
        SELECT (made.message).* FROM (
            SELECT jsonb_populate_record(m, jsonb_build_object(
                'id', c.id, 'recipient', c.recipient, 'idempotency_key', c.key)) AS message
            FROM whatsapp_outbound_messages m CROSS JOIN copy c WHERE m.id = $1 OFFSET 0
        ) made
    )
    INSERT INTO whatsapp_send_queue
    SELECT (made.entry).* FROM (
        SELECT jsonb_populate_record(q, jsonb_build_object(
            'id', c.id, 'recipient_key', c.recipient_key)) AS entry
        FROM whatsapp_send_queue q CROSS JOIN copy c WHERE q.id = $1 OFFSET 0
    ) made
"""
_recipients = count(1)
_numbers = count(1)


@dataclass(slots=True)
class Stalls:
    """How long a thread that only wants to sleep was kept from waking up: the machine's fault.

    It runs in the test's process, which sends nothing. What was lost is counted from when it
    wanted to wake up; the longest stall from when it fell asleep, as it may have begun there.
    """

    lost_seconds: float = 0.0
    longest_seconds: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self._ended.is_set():
            before = time.monotonic()
            time.sleep(0.002)
            away = time.monotonic() - before
            if away > 0.006:
                self.lost_seconds += away - 0.002
            self.longest_seconds = max(self.longest_seconds, away)

    def __enter__(self) -> Self:
        threading.Thread(target=self.watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()


class Nursery:
    """A process that forks others which have everything imported already: see nursery.py."""

    def __init__(self, environment: dict[str, str]) -> None:
        clean = {key: value for key, value in os.environ.items() if "TELLWIRE" not in key}
        self._process = subprocess.Popen(  # noqa: S603  # our own command
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            env=clean | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start_worker(self, point: str, log: Path) -> int:
        """Fork a worker that dies at `point`, if that is not `-`; gives its process id."""
        return self._start("worker", point, log)

    def start_api(self, point: str, log: Path) -> int:
        """Fork an API, as above."""
        return self._start("api", point, log)

    def _start(self, command: str, point: str, log: Path) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\t{point}\t{log}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        """End it, and with it all its workers."""
        with self._process as process:
            process.kill()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass(slots=True)
class Fleet:
    """Servers, a simulator, and as many workers as were started."""

    directory: Path
    settings: Settings
    sessions: SessionFactory
    meta: str
    http: aiohttp.ClientSession
    nursery: Nursery
    workers: set[int] = field(default_factory=set)
    _names: Iterator[int] = field(default_factory=lambda: count(1))

    def start_worker(self, point: str = "-") -> int:
        """Start a worker, with a point at which it dies if one is given; gives its process id."""
        return self._start_worker(point)[0]

    def _start_worker(self, point: str = "-") -> tuple[int, Path]:
        log = self.directory / f"worker-{next(self._names):03}.log"
        pid = self.nursery.start_worker(point, log)
        self.workers.add(pid)
        return pid, log

    async def start_workers(self, number: int) -> None:
        """Start workers and wait until each one works."""
        logs = dict(self._start_worker() for _ in range(number))
        async with asyncio.timeout(120):
            while not all(log.exists() and "started" in log.read_text() for log in logs.values()):
                for pid, log in logs.items():
                    assert is_alive(pid), log.read_text()
                await asyncio.sleep(0.05)

    def kill_worker(self, pid: int, how: int = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, how)

    async def until_dead(self, pid: int, *, within: float = 30) -> None:
        """Wait until a worker has ended."""
        async with asyncio.timeout(within):
            while is_alive(pid):  # noqa: ASYNC110  # another process's state
                await asyncio.sleep(0.02)
        self.workers.discard(pid)

    async def tidy_up(self) -> None:
        """Leave nothing to the next test: no worker, no message, nothing that Meta should do."""
        for pid in list(self.workers):
            self.kill_worker(pid)
            await self.until_dead(pid)
        await self.sql("TRUNCATE whatsapp_outbound_messages CASCADE")
        await self.control("reset", {})
        await self.control("webhooks/resume", {})

    async def new_channel(self, rate: int, **more: Any) -> Channel:
        """A tenant of its own with one verified channel."""
        return (await self.new_channels(1, rate, **more))[0]

    async def new_channels(self, number: int, rate: int, **more: Any) -> list[Channel]:
        """A tenant with so many verified channels."""
        tenant, stored = new_id(), list[Channel]()
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=tenant)
            await uow.session.execute(insert(TenantModel).values(id=tenant, name="A tenant"))
            for _ in range(number):
                channel = Channel(
                    tenant_id=tenant,
                    name="Main",
                    phone_number_id=str(10_000 + next(_numbers)),
                    access_token=AccessToken("EAAG-fleet"),
                    messages_per_second=rate,
                    **more,
                )
                channel.verify(utc_now())
                stored.append(await SQLAlchemyChannelRepository(uow.session).add(channel))
            await uow.commit()
        return stored

    async def enqueue_on_each(self, channels: Sequence[Channel]) -> None:
        """Store and queue one message on each of a tenant's channels, a thousand at most."""
        messages = [_message(channel, None, {}) for channel in channels]
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=channels[0].tenant_id)
            await SQLAlchemyMessageRepository(uow.session).save_outbound_many(messages)
            await uow.commit()

    async def change(self, channel: Channel, **values: Any) -> None:
        """Change a channel as an operator would."""
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=channel.tenant_id)
            repository = SQLAlchemyChannelRepository(uow.session)
            stored = await repository.get_by_id(channel.id)
            for name, value in values.items():
                setattr(stored, name, value)
            await repository.update(stored)
            await uow.commit()

    async def enqueue(
        self, channel: Channel, number: int, *, to: str | None = None, **more: Any
    ) -> list[UUID]:
        """Store and queue messages, each to a recipient of its own unless one is given."""
        ids: list[UUID] = []
        for start in range(0, number, BATCH):
            messages = [
                _message(channel, to, more) for _ in range(start, min(start + BATCH, number))
            ]
            async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
                await rls.set_context(tenant_id=channel.tenant_id)
                await SQLAlchemyMessageRepository(uow.session).save_outbound_many(messages)
                await uow.commit()
            ids += [message.id for message in messages]
        return ids

    async def enqueue_copies(self, channel: Channel, number: int) -> None:
        """Queue so many messages in two strokes, each to a recipient of its own.

        PostgreSQL plans the look-ups of references once for a stroke. For tables that are as good
        as empty any index will do, and one that does not begin with the id is then read for each
        of a million: so it gets to know a few first.
        """
        (first,) = await self.enqueue(channel, 1)
        few = min(number, _FEW)
        await self.sql(_COPIES, first, 1, few)
        await self.sql("ANALYZE whatsapp_outbound_messages, whatsapp_send_queue")
        await self.sql(_COPIES, first, few + 1, number)

    async def sql(self, query: str, *arguments: Any) -> Sequence[Any]:
        """Ask the database, whoever's rows they are."""
        url = self.settings.database_url_of(DatabaseRole.APP).replace("+asyncpg", "")
        url = url.replace(DatabaseRole.APP.value, SUPERUSER)
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def control(self, path: str, body: Any = None) -> dict[str, Any]:
        method = "GET" if body is None else "POST"
        url = f"{self.meta}/_simulator/{path}"
        async with self.http.request(method, url, json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def arrivals(self, channel: Channel) -> list[dict[str, Any]]:
        """Meta's log of one number, in order."""
        found: list[dict[str, Any]] = []
        since = 0
        while True:
            number = f"phone_number_id={channel.phone_number_id}"
            page = await self.control(f"log?since={since}&limit=5000&{number}")
            found += [entry for entry in page["entries"] if entry["kind"] == "message"]
            if page["next"] == since or not page["entries"]:
                return found
            since = page["next"]

    async def until_accepted(self, channel: Channel, number: int, *, within: float) -> None:
        async with asyncio.timeout(PATIENCE * within):
            while (await self.seen(channel)).get("accepted", 0) < number:  # noqa: ASYNC110  # of another process
                await asyncio.sleep(0.2)

    async def until_recorded(self, channel: Channel, number: int, *, within: float) -> None:
        """Wait until the outcomes of so many messages are in the database."""
        async with asyncio.timeout(PATIENCE * within):
            while len(await self.departures(channel)) < number:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.2)

    async def seen(self, channel: Channel) -> dict[str, Any]:
        report = await self.control(f"report?phone_number_id={channel.phone_number_id}")
        return next(iter(report["numbers"]), {})

    async def departures(self, channel: Channel) -> list[datetime]:
        """When the sender itself says that each request left."""
        rows = await self.sql(
            "SELECT a.started_at FROM whatsapp_message_attempts a "
            "JOIN whatsapp_outbound_messages m USING (tenant_id) "
            "WHERE m.id = a.message_id AND m.channel_id = $1 ORDER BY a.started_at",
            channel.id,
        )
        return [row[0] for row in rows]


def most_in_any_second(times: Iterable[float]) -> int:
    """The largest number of `times`, in seconds, within any (t - 1 s, t]."""
    ordered, first, most = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def _message(channel: Channel, to: str | None, more: dict[str, Any]) -> OutboundMessage:
    number = next(_recipients)
    return OutboundMessage(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        recipient=PhoneNumber(to or f"+4917{number:08d}"),
        content=MessageContent.text(f"Message {number}"),
        idempotency_key=IdempotencyKey(f"n{number}"),
        **more,
    )


def _start(output: Any, environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    clean = {key: value for key, value in os.environ.items() if "TELLWIRE" not in key}
    return subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, "-m", "tellwire", *arguments],
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


@asynccontextmanager
async def running_fleet(
    directory: Path, *, webhooks_to: str | None = None, **simulator: Any
) -> AsyncIterator[Fleet]:
    """Durable servers and a simulator that refuses nothing for its rate: the log is judged.

    Webhooks go to the path `webhooks_to` of an API that the test starts itself.
    """
    port, api_port = free_port(), free_port()
    if webhooks_to is not None:
        simulator["webhook_url"] = f"http://127.0.0.1:{api_port}{webhooks_to}"
    configuration = {
        "app_secret": "fleet",
        "port": port,
        "open_numbers": True,
        "open_messages_per_second": 100_000,
        "webhooks": {"linger": TICK_SECONDS},
        **simulator,
    }
    file = directory / "simulator.json"
    file.write_text(json.dumps(configuration))
    meta = f"http://127.0.0.1:{port}"
    given = load_settings(
        _env_file=None,
        data_directory=directory / "data",
        graph_base_url=meta,
        api_port=api_port,
        log_level="debug",
    )
    async with embedded_services(given) as settings, aiohttp.ClientSession() as http:
        set_up_encryption(settings)
        engine = create_engine(settings.database_url_of(DatabaseRole.APP))
        nursery = Nursery(dict(settings.to_environment()))
        fleet = Fleet(directory, settings, create_session_factory(engine), meta, http, nursery)
        with (directory / "simulator.log").open("wb") as output:
            judge = _start(output, {}, "simulator", "--config", str(file))
        try:
            await _until_healthy(fleet, judge)
            yield fleet
        finally:
            nursery.end()
            judge.send_signal(signal.SIGTERM)
            judge.wait(timeout=30)
            await engine.dispose()


async def _until_healthy(fleet: Fleet, judge: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(60):
        while judge.poll() is None:
            try:
                await fleet.control("health")
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
            else:
                return
    raise AssertionError((fleet.directory / "simulator.log").read_text())
