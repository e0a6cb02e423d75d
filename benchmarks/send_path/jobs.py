"""The same through a job queue on PostgreSQL: one job for each message, whose task sends it.

Rows and jobs are put in 500 at a time; the tasks and the server for reports are those of the bare
loop. The workers run in the same process, as the bare loop does, with as many tasks at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from typing import Any, Final
from uuid import UUID

import asyncpg
import procrastinate
from benchmarks.plant import Plant
from benchmarks.send_path.bare import AT_ONCE, INSERT, Bare, new_row
from pgqueuer import Job, PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

from tellwire.embedded.postgres import SUPERUSER

BATCH: Final = 500
_senders = count(950_000)
Row = tuple[UUID, str, str]
Enqueue = Callable[[list[Row]], Awaitable[object]]


async def _enqueue_all(bare: Bare, number: int, enqueue: Enqueue) -> None:
    for start in range(0, number, BATCH):
        rows = [new_row() for _ in range(min(BATCH, number - start))]
        await bare.pool.executemany(INSERT, rows)
        await enqueue(rows)


async def with_pgqueuer(plant: Plant, bare: Bare, number: int) -> None:
    """Send so many messages through pgqueuer; returns when each is reported as read."""
    bare.reported = 0
    connection = await asyncpg.connect(plant.database.dsn(SUPERUSER))
    try:
        if await connection.fetchval("SELECT to_regclass('pgqueuer')") is None:
            await Queries(AsyncpgDriver(connection)).install()
        queue = PgQueuer(AsyncpgPoolDriver(bare.pool))
        sender = str(next(_senders))

        @queue.entrypoint("send")
        async def send(job: Job) -> None:
            ident, recipient, body = (job.payload or b"").decode().split("\n")
            await bare.send(UUID(ident), sender, recipient=recipient, body=body)

        async def enqueue(rows: list[Row]) -> None:
            payloads = [_packed(row) for row in rows]
            await queue.qm.queries.enqueue(["send"] * len(rows), payloads, [0] * len(rows))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                queue.run(
                    batch_size=AT_ONCE // 2,
                    max_concurrent_tasks=AT_ONCE,
                    dequeue_timeout=timedelta(seconds=1),
                )
            )
            await _enqueue_all(bare, number, enqueue)
            await bare.until_reported(number)
            queue.shutdown.set()
    finally:
        await connection.close()


def _packed(row: Row) -> bytes | None:
    return "\n".join(map(str, row)).encode()


async def with_procrastinate(plant: Plant, bare: Bare, number: int) -> None:
    """Send so many messages through procrastinate; returns when each is reported as read."""
    bare.reported = 0
    dsn = plant.database.dsn(SUPERUSER)
    connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=8, max_size=8)
    app, sender = procrastinate.App(connector=connector), str(next(_senders))

    @app.task(name="send")
    async def send(ident: str, recipient: str, body: str) -> None:
        await bare.send(UUID(ident), sender, recipient=recipient, body=body)

    async def enqueue(rows: list[Row]) -> None:
        given: list[Any] = [
            {"ident": str(ident), "recipient": recipient, "body": body}
            for ident, recipient, body in rows
        ]
        await send.batch_defer_async(*given)

    async with app.open_async():
        if await bare.pool.fetchval("SELECT to_regclass('procrastinate_jobs')") is None:
            await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=AT_ONCE,
                install_signal_handlers=False,
                delete_jobs="successful",
                fetch_job_polling_interval=0.05,
            )
        )
        await _enqueue_all(bare, number, enqueue)
        await bare.until_reported(number)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
