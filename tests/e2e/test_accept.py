"""One key from many callers at once, some of whom die, and an API that dies as well."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import asyncpg
import pytest
from aiohttp import ClientError

from fleet import _start
from ports import free_port
from shared.infrastructure.settings import DatabaseRole
from tellwire.embedded.postgres import SUPERUSER
from tellwire.installation import open_installation
from whatsapp.domain.entities import WindowPolicy

pytestmark = [pytest.mark.timeout(720), pytest.mark.asyncio(loop_scope="session")]
CALLERS, KILLED = 50, 3
KEY = "order-4711"


@asynccontextmanager
async def another_api(crew):
    """A second API process beside the first; gives its URL and its process."""
    port = free_port()
    environment = crew.fleet.settings.to_environment() | {"TELLWIRE_API_PORT": str(port)}
    with (crew.fleet.directory / "second-api.log").open("wb") as log:
        process = _start(log, environment, "api")
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(100):
            while process.poll() is None:
                try:
                    async with crew.fleet.http.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            break
                except ClientError:
                    pass
                await asyncio.sleep(0.05)
        yield url, process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def nobody_can_queue(crew):
    """Whoever accepts a message waits in the middle of it; gives a look at how many do."""
    url = crew.fleet.settings.database_url_of(DatabaseRole.APP).replace("+asyncpg", "")
    connection = await asyncpg.connect(url.replace(DatabaseRole.APP.value, SUPERUSER))

    async def waiting() -> int:
        return await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")

    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE whatsapp_send_queue IN SHARE MODE")
            yield waiting
    finally:
        await connection.close()


async def test_fifty_callers_three_of_whom_die_and_an_api_that_dies_make_one_message(crew) -> None:
    channel = await crew.fleet.new_channel(100, window_policy=WindowPolicy.ALLOW)
    async with open_installation(crew.fleet.settings) as installation:
        key = await installation.create_api_key(
            channel.tenant_id, name="Test", scopes=["messages:send"]
        )
    headers = {"Authorization": f"Bearer {key.text.reveal()}", "Idempotency-Key": KEY}

    async def post(api: str, words: str = "Yours"):
        body = {"channel_id": str(channel.id), "to": "+4915112345678", "type": "text"}
        body["text"] = {"body": words}
        url = f"{api}/v1/messages"
        async with crew.fleet.http.post(url, json=body, headers=headers) as answer:
            return answer.status, answer.headers.get("Idempotency-Replayed"), await answer.json()

    async def ask(api: str):
        try:
            return await post(api)
        except (ClientError, ConnectionError):  # As docs/delivery.md advises: the same once more.
            return await post(crew.api)

    async with another_api(crew) as (second, process):
        async with nobody_can_queue(crew) as waiting:
            apis = (crew.api, second)
            callers = [asyncio.create_task(ask(apis[n % 2])) for n in range(CALLERS)]
            async with asyncio.timeout(60):
                # More than one of the two has connections for: both are in the middle of it.
                while await waiting() <= crew.fleet.settings.database_pool_size:  # noqa: ASYNC110  # of other processes
                    await asyncio.sleep(0.05)
            for killed in callers[:KILLED]:
                killed.cancel()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        answers = await asyncio.gather(*callers[KILLED:])

    assert len(answers) == CALLERS - KILLED
    assert {(status, replayed) for status, replayed, _ in answers} <= {(202, None), (200, "true")}
    assert sum(status == 202 for status, _, _ in answers) <= 1
    assert all(body == answers[0][2] for _, _, body in answers)
    rows = await crew.fleet.sql(
        "SELECT m.id, q.state FROM whatsapp_outbound_messages m"
        " JOIN whatsapp_send_queue q ON q.tenant_id = m.tenant_id AND q.id = m.id"
        " WHERE m.channel_id = $1",
        channel.id,
    )
    assert [(str(row["id"]), row["state"]) for row in rows] == [(answers[0][2]["id"], "ready")]

    status, _, problem = await post(crew.api, "Somebody else's")
    assert (status, problem["code"]) == (422, "idempotency_key_reused")
    crew.start_worker()
    await crew.settle(channel, within=60)
    assert (await crew.judge(channel)).statuses == {"read": 1}
    assert (await crew.copies(channel)).total() == 1
