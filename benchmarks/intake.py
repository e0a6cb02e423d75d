"""Webhooks taken in and applied: beside a handler that stores nothing, and a bare UPDATE.

Every server is one process of uvicorn on a core of its own; the client and PostgreSQL share the
other. All of them get the same signed bodies, one message each, over 128 connections. Ours verifies
the signature and has the body durably in PostgreSQL before it answers; pywa verifies and parses,
and the bare app reads the body. Half-open connections have said half of a request's head; they are
opened anew for each round, before the server gives them up. Statuses are applied 500 at a time in a
transaction of their own.
"""

import asyncio
import hashlib
import hmac
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
from benchmarks import crowd
from benchmarks.harness import Contender, Context, Figure
from benchmarks.installation import Installation, installed
from benchmarks.intake_servers import PATH, SECRET, VERIFY
from benchmarks.servers import Database

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork
from shared.infrastructure.encryption import EncryptionManager, KeyRing, configure_encryption
from shared.kernel.clock import utc_now
from shared.kernel.secret import Secret
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.domain.repositories import StatusReport
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyMessageRepository,
    SQLAlchemyMetaAppRepository,
)

TITLE = "Webhook intake"
CONNECTIONS, SECONDS, ROUNDS = 128, 1.0, 9
MOST_PER_SECOND = 60_000  # More than any of them takes.
PER_SECOND, LATENCY_SECONDS = 320, 15.0
CROWDED_SECONDS, CROWDED_ROUNDS = 2.0, 5
"""Short, as the server ends half-open connections after ten seconds."""
BATCH, STORED = 500, 5_000_000
BARE_REASON = (
    "a webhook takes our server about twice the processor time of one that only reads it, and the "
    "ratio moves with the machine (medians of eight runs of a morning: 0.40 to 0.53). By profile "
    "signature, the id of the answer, counting and timing are each a few percent of it; the rest "
    "is uvicorn's, as in the bare app, and writing bodies down together."
)
STATUSES_REASON = (
    "keeping each report is a second row beside the update of the first, with three indexes and a "
    "reference to the message that is checked row by row. 500 reports take PostgreSQL 14.5 ms of "
    "processor time and the client 3.5 ms; the update alone takes 7 and 1.8 ms. Checked once "
    "per statement by a trigger the reference costs 2 ms less, but then deleting a message could "
    "take its reports along only by a function with its owner's rights, which the schema has none "
    "of."
)
OURS, PYWA, BARE = "Tellwire", "pywa", "bare ASGI"
_numbers = count(1)


async def run(context: Context) -> Sequence[Figure]:
    """Measure everything."""
    figures: list[Figure] = []
    database = await context.database("benchmark_intake")
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(installed(database))
        environment = await _set_up(context, database, place)
        servers = {
            name: await stack.enter_async_context(_server(server, environment))
            for name, server in ((OURS, "tellwire"), (PYWA, "pywa"), (BARE, "bare"))
        }
        with _beside_the_database():
            figures += await _throughput(context, servers)
            figures += await _latency(context, servers[OURS], database, environment)
            figures.append(await _crowded(context, servers[OURS], database, environment))
    figures += await _statuses(context)
    return figures


# --- HTTP ----------------------------------------------------------------------------------------


async def _set_up(context: Context, database: Database, place: Installation) -> dict[str, str]:
    """An app whose webhooks are taken, and the environment in which processes find everything."""
    ring = KeyRing.generate()
    configure_encryption(EncryptionManager(ring))
    app = MetaApp(app_id="1", secret=Secret(SECRET), verify_token=Secret(VERIFY))
    await SQLAlchemyMetaAppRepository(place.sessions).save_app(app)
    return os.environ | {
        "TELLWIRE_DATABASE_URL": database.url("tellwire_app"),
        "TELLWIRE_REDIS_URL": context.servers.redis.url,
        "TELLWIRE_ENCRYPTION_KEYS": ring.to_setting().reveal(),
        "TELLWIRE_LOG_FORMAT": "json",
    }


@asynccontextmanager
async def _server(name: str, environment: dict[str, str]) -> AsyncGenerator[int]:
    """A server on a port of its own; gives the port once it answers."""
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.intake_servers", name, str(port), "0"]
    async with _process(command, environment):
        async with asyncio.timeout(30):
            while True:
                try:
                    await _Client(port, lambda: _request(b"{}")).once()
                    break
                except OSError:
                    await asyncio.sleep(0.1)
        yield port


@asynccontextmanager
async def _process(command: list[str], environment: dict[str, str]) -> AsyncGenerator[None]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_on_any_core,
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def _on_any_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


@contextmanager
def _beside_the_database() -> Generator[None]:
    """Let the client leave its core to the server that is measured."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def _status_body() -> bytes:
    """One status of one message, as Meta would post it; no two are alike."""
    number = next(_numbers)
    status = {
        "id": f"wamid.HBgLMTY1MDU1NTEyMzQVAgARGBI{number:020}",
        "status": "delivered",
        "timestamp": str(1795420800 + number % 1000),
        "recipient_id": "16505551234",
        "conversation": {"id": "a1b2c3", "origin": {"type": "utility"}},
        "pricing": {"billable": True, "pricing_model": "PMP", "category": "utility"},
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": "1001"},
        "statuses": [status],
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def _request(body: bytes) -> bytes:
    signature = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: benchmark\r\nContent-Type: application/json\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Client(asyncio.Protocol):
    """A connection that sends the next request as soon as the last one is answered."""

    def __init__(self, port: int, make: Callable[[], bytes]) -> None:
        self.port, self.make = port, make
        self.answered, self.refused = 0, 0
        self._transport: Any = None
        self._waiting: asyncio.Future[None] | None = None
        self._buffer = b""

    async def once(self) -> None:
        """One request on a connection of its own."""
        await self.connect()
        await self.ask()
        self._transport.close()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", self.port)

    async def ask(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(self.make())
        await self._waiting

    async def run(self, until: float) -> None:
        await self.connect()
        while time.perf_counter() < until:
            await self.ask()
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = _length(head)
        if length is None:  # Chunked, as an app without headers is answered.
            if not rest.endswith(b"0\r\n\r\n"):
                return
        elif len(rest) < length:
            return
        self._buffer = b""
        self.answered += 1
        self.refused += not head.startswith(b"HTTP/1.1 200")
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return None


async def _throughput(context: Context, servers: dict[str, int]) -> list[Figure]:
    """Webhooks per second of each server, in turns."""
    rounds = context.times(ROUNDS)
    task = context.progress.add_task("webhooks per second", total=rounds + 1)
    taken: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        for name, port in servers.items():
            requests = iter(
                [_request(_status_body()) for _ in range(int(MOST_PER_SECOND * SECONDS))]
            )
            rate = await _load(port, lambda made=requests: next(made))
            if number:
                taken[name].append(rate)
        context.progress.advance(task)
    detail = ", ".join(f"{name} {statistics.median(r):.0f}/s" for name, r in taken.items())

    def against(rival: str, bound: float, reason: str = "") -> Figure:
        ratios = [ours / theirs for ours, theirs in zip(taken[OURS], taken[rival], strict=True)]
        name = f"Signed, durable webhooks per second beside {rival}"
        return Figure(name, ratios, bound, at_least=True, detail=detail, reason=reason)

    return [against(PYWA, 1.0), against(BARE, 0.4, BARE_REASON)]


async def _load(port: int, make: Callable[[], bytes]) -> float:
    clients = [_Client(port, make) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    await asyncio.gather(*(client.run(began + SECONDS) for client in clients))
    seconds = time.perf_counter() - began
    if sum(client.refused for client in clients):
        raise RuntimeError("a webhook was refused")
    return sum(client.answered for client in clients) / seconds


async def _latency(
    context: Context, port: int, database: Database, environment: dict[str, str]
) -> list[Figure]:
    """What 320 events a second for one number take, with a worker that processes them."""
    seconds = LATENCY_SECONDS * min(1.0, max(context.scale, 0.3))
    task = context.progress.add_task("320 events per second", total=1)
    await database.as_superuser("TRUNCATE webhook_inbox")
    async with _process([sys.executable, "-m", "tellwire", "worker"], environment):
        await asyncio.sleep(3)
        taken = await _paced(port, seconds)
        behind = await _until_empty(database)
    context.progress.advance(task)
    taken.sort()
    detail = f"{len(taken)} events, worst {taken[-1] * 1e3:.0f} ms; emptied {behind:.1f} s later"
    return [
        Figure(
            "Median answer at 320 events per second for one number",
            [statistics.median(taken) * 1e3],
            20.0,
            "ms",
            detail=detail,
        ),
        Figure("Its 99th percentile", [taken[int(len(taken) * 0.99)] * 1e3], 250.0, "ms"),
        Figure("How far processing is behind at its end", [behind], 2.0, "s"),
    ]


async def _crowded(
    context: Context, port: int, database: Database, environment: dict[str, str]
) -> Figure:
    """What the same deliveries take while others hold connections and say nothing on them."""
    number, rounds = crowd.possible(), context.times(CROWDED_ROUNDS)
    task = context.progress.add_task(f"beside {number:,} half-open connections", total=rounds)
    percentiles, worst, left = list[float](), 0.0, number
    await database.as_superuser("TRUNCATE webhook_inbox")
    async with _process([sys.executable, "-m", "tellwire", "worker"], environment):
        await asyncio.sleep(3)
        for _ in range(rounds):
            async with crowd.half_open(port, number) as standing:
                taken = sorted(await _paced(port, CROWDED_SECONDS))
                left = min(left, standing.standing())
            percentiles.append(taken[int(len(taken) * 0.99)] * 1e3)
            worst = max(worst, taken[-1] * 1e3)
            context.progress.advance(task)
        await _until_empty(database)
    return Figure(
        f"99th percentile of valid deliveries while {number:,} half-open connections stand",
        percentiles,
        250.0,
        "ms",
        detail=f"{PER_SECOND} events per second, worst {worst:.0f} ms; at the end of each round "
        f"at least {left:,} stood",
    )


async def _paced(port: int, seconds: float) -> list[float]:
    """Send at fixed times, whether the last was answered or not; seconds from those times on."""
    clients: asyncio.Queue[_Client] = asyncio.Queue()
    requests = [_request(_status_body()) for _ in range(int(PER_SECOND * seconds))]
    current = iter(requests)
    for _ in range(CONNECTIONS):
        client = _Client(port, lambda: next(current))
        await client.connect()
        clients.put_nowait(client)
    began, taken = time.perf_counter() + 0.1, list[float]()

    async def send(due: float) -> None:
        client = await clients.get()
        await client.ask()
        taken.append(time.perf_counter() - due)
        clients.put_nowait(client)

    async with asyncio.TaskGroup() as sending:
        for number in range(len(requests)):
            due = began + number / PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sending.create_task(send(due))
    return taken


async def _until_empty(database: Database) -> float:
    connection = await asyncpg.connect(database.dsn("tellwire_process"))
    began = time.perf_counter()
    try:
        async with asyncio.timeout(120):
            while await connection.fetchval(  # noqa: ASYNC110  # PostgreSQL tells nobody
                "SELECT count(*) FROM webhook_inbox"
            ):
                await asyncio.sleep(0.02)
    finally:
        await connection.close()
    return time.perf_counter() - began


# --- Statuses ------------------------------------------------------------------------------------

_PLAIN = """
    UPDATE whatsapp_outbound_messages m SET status = r.status, status_at = r.at
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS r(id, status, at)
    WHERE m.tenant_id = $4 AND m.id = r.id AND m.status || '>' || r.status = ANY($5)
"""
_STORE = """
    INSERT INTO whatsapp_outbound_messages
        (tenant_id, id, channel_id, recipient, type, body, idempotency_key, digest, status, lane,
         details, wamid, attempts, created_at, status_at)
    SELECT '{tenant}', {id}, '{channel}', '+49151' || i, 'text', '{{"body": "Hello"}}',
           'key-' || lpad(i::text, 12, '0'), '\\x00', 'sent', 1, '{{}}',
           'wamid.' || lpad(i::text, 12, '0'), 1, now(), now()
    FROM generate_series({first}, {last}) i
"""


@dataclass(slots=True)
class _Messages:
    """Messages that were sent, in a database that holds others too; each is told of once."""

    database: Database
    place: Installation
    raw: Any
    next: int

    async def more(self, number: int) -> None:
        """Store so many new ones."""
        await self.database.as_superuser(self._store(self.next, self.next + number - 1, durable=1))

    async def fill(self, number: int) -> None:
        """Store a history, as fast as PostgreSQL can."""
        step = 250_000
        for first in range(1, number + 1, step):
            await self.database.as_superuser(
                self._store(first, min(first + step - 1, number), durable=0)
            )
        await self.database.as_superuser("VACUUM ANALYZE whatsapp_outbound_messages", "CHECKPOINT")
        self.next = number + 1

    def _store(self, first: int, last: int, *, durable: int) -> str:
        quick = "" if durable else "SET session_replication_role = replica;"
        made = _STORE.format(
            tenant=self.place.tenant_id,
            channel=self.place.channel_id,
            id="(lpad(to_hex(i), 32, '0'))::uuid",
            first=first,
            last=last,
        )
        return quick + made

    def take(self) -> list[int]:
        """The next handful that nobody was told of."""
        first = self.next
        self.next += BATCH
        return list(range(first, self.next))

    def reports(self) -> list[StatusReport]:
        """`delivered` for the next handful, as the echo of our own id tells."""
        at = utc_now()
        return [
            StatusReport(
                wamid=f"wamid.{number:012}",
                status=MessageStatus.DELIVERED,
                occurred_at=at,
                message_id=UUID(int=number),
                attempt=1,
            )
            for number in self.take()
        ]

    async def ours(self, reports: list[StatusReport]) -> None:
        async with (
            SQLAlchemyUnitOfWork(self.place.sessions) as uow,
            RLSManager(uow.session) as rls,
        ):
            await rls.set_context(tenant_id=self.place.tenant_id)
            messages = SQLAlchemyMessageRepository(uow.session)
            recorded = await messages.record_statuses(self.place.channel_id, reports, all_new=True)
            await uow.commit()
        if recorded.moved != BATCH:
            raise RuntimeError(f"{recorded.moved} of {BATCH} moved")

    async def plain(self, numbers: list[int]) -> None:
        async with self.raw.transaction():
            await self.raw.execute(
                f"SELECT set_config('app.jwt_tenant', '{self.place.tenant_id}', true)"
            )
            done = await self.raw.execute(
                _PLAIN,
                [UUID(int=number) for number in numbers],
                ["delivered"] * BATCH,
                [utc_now()] * BATCH,
                self.place.tenant_id,
                ["sent>delivered"],
            )
        if done != f"UPDATE {BATCH}":
            raise RuntimeError(done)


async def _statuses(context: Context) -> list[Figure]:
    async with AsyncExitStack() as stack:
        empty, full = [
            await _messages(context, stack, name) for name in ("benchmark_few", "benchmark_many")
        ]
        stored = int(STORED * min(1.0, context.scale))
        task = context.progress.add_task(f"storing {stored:,} messages", total=1)
        await full.fill(stored)
        context.progress.advance(task)
        rounds = 11
        needed = BATCH * 5 * (context.times(rounds) + 1)
        for messages, contenders in ((empty, 2), (full, 1)):
            first = messages.next
            await messages.more(needed * contenders)
            messages.next = first
        history, bare, large = "with history", "plain UPDATE", f"beside {stored:,} messages"
        timings = await context.duel(
            "500 statuses",
            Contender(history, empty.ours, empty.reports),
            Contender(bare, empty.plain, empty.take),
            Contender(large, full.ours, full.reports),
            rounds=rounds,
            batches=5,
            calls=1,
        )
    per_second = [1 / ratio for ratio in timings.ratios(history, bare)]
    return [
        Figure(
            "Statuses applied per second beside the same UPDATE with no history",
            per_second,
            0.5,
            at_least=True,
            detail=timings.detail(history, bare),
            reason=STATUSES_REASON,
        ),
        Figure(
            f"Applying statuses with {stored:,} messages stored beside none",
            timings.ratios(large, history),
            1.10,
            detail=timings.detail(large, history),
        ),
    ]


async def _messages(context: Context, stack: AsyncExitStack, name: str) -> _Messages:
    database = await context.database(name)
    place = await stack.enter_async_context(installed(database))
    raw = await asyncpg.connect(database.dsn("tellwire_app"))
    stack.push_async_callback(raw.close)
    return _Messages(database, place, raw, 1)
