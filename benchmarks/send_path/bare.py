"""The same insert, send and update with no safety at all: what a loop without Tellwire does.

No tenant, no idempotency, no rate, no lease, no signature, no retry; a crash loses or doubles. The
reports of statuses come to a server in the same process, which updates the rows they name.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from uuid import UUID

import aiohttp
import asyncpg
import orjson
from aiohttp import web
from benchmarks.plant import Plant, free_port

from shared.kernel.ids import new_id
from tellwire.embedded.postgres import SUPERUSER

AT_ONCE: Final = 64
"""So many messages are under way in one process."""
POOL: Final = 8
STATUSES: Final = 3
"""Each message is reported to be sent, delivered and read."""
TABLE: Final = """
CREATE TABLE IF NOT EXISTS bare_messages (
    id uuid PRIMARY KEY, recipient text NOT NULL, body jsonb NOT NULL, status text NOT NULL,
    wamid text, created_at timestamptz NOT NULL DEFAULT now(),
    status_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS bare_messages_wamid ON bare_messages (wamid);
"""
INSERT: Final = (
    "INSERT INTO bare_messages (id, recipient, body, status) VALUES ($1, $2, $3, 'queued')"
)
_SENT: Final = "UPDATE bare_messages SET status = 'sent', wamid = $2 WHERE id = $1"
_REPORTED: Final = "UPDATE bare_messages SET status = $2, status_at = now() WHERE wamid = $1"
_recipients = count(1)
_numbers = count(900_000)


@dataclass(slots=True)
class Bare:
    """A loop, a simulator that reports to it, and how many reports have come in."""

    pool: asyncpg.Pool
    http: aiohttp.ClientSession
    meta: str
    reported: int = 0
    numbers: Iterator[int] = field(default_factory=lambda: _numbers)

    async def send_all(self, number: int) -> None:
        """Insert, send and update so many messages; returns when each is reported as read."""
        self.reported = 0
        work, sender = iter(range(number)), str(next(self.numbers))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._send_some(work, sender))
        await self.until_reported(number)

    async def until_reported(self, number: int) -> None:
        """Wait until every status of so many messages was stored."""
        async with asyncio.timeout(120):
            while self.reported < STATUSES * number:  # noqa: ASYNC110  # as our own side is asked
                await asyncio.sleep(0.02)

    async def _send_some(self, work: Iterable[int], sender: str) -> None:
        for _ in work:
            row = new_row()
            await self.pool.execute(INSERT, *row)
            await self.send(row[0], sender, recipient=row[1], body=row[2])

    async def send(self, ident: UUID, sender: str, *, recipient: str, body: str) -> None:
        """One request to Meta, and the update that follows it."""
        payload = {
            "messaging_product": "whatsapp",
            "to": recipient,
            "type": "text",
            "text": json.loads(body),
        }
        async with self.http.post(f"{self.meta}/v25.0/{sender}/messages", json=payload) as answer:
            wamid = (await answer.json())["messages"][0]["id"]
        await self.pool.execute(_SENT, ident, wamid)

    async def take_reports(self, request: web.Request) -> web.Response:
        """Store what Meta reports, one update for each status."""
        body = orjson.loads(await request.read())
        rows = [
            (status["id"], status["status"])
            for entry in body["entry"]
            for change in entry["changes"]
            for status in change["value"].get("statuses", ())
        ]
        await self.pool.executemany(_REPORTED, sorted(rows))  # Two posts must not lock in a circle.
        self.reported += len(rows)
        return web.Response()


def new_row() -> tuple[UUID, str, str]:
    """Another message, to a recipient of its own."""
    number = next(_recipients)
    return (
        new_id(),
        f"+4917{number:08d}",
        json.dumps({"body": f"Your order {number} is on its way"}),
    )


@asynccontextmanager
async def bare_loop(plant: Plant) -> AsyncGenerator[Bare]:
    """The loop with its table, its simulator and its server for reports."""
    port, reports = free_port(), free_port()
    async with AsyncExitStack() as stack:
        dsn = plant.database.dsn(SUPERUSER)
        pool = await stack.enter_async_context(
            asyncpg.create_pool(dsn, min_size=POOL, max_size=POOL)
        )
        await pool.execute(TABLE)
        headers = {"Authorization": "Bearer EAAG-bare"}
        http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
        loop = Bare(pool, http, f"http://127.0.0.1:{port}")
        app: Any = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/", loop.take_reports)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", reports).start()
        simulator = await plant.start_simulator(f"http://127.0.0.1:{reports}/", port)
        stack.callback(plant.end, simulator)
        yield loop
