"""What workers log at most holds no number, body or token, whatever fails in them."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest

from shared.kernel.ids import new_id
from whatsapp.domain.events import EndpointWork
from whatsapp.domain.media_repository import MediaJob, MediaJobKind
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.entrypoints.workers.event_worker import EventWorker
from whatsapp.entrypoints.workers.loop import Loop
from whatsapp.entrypoints.workers.media_worker import MediaWorker

NUMBER, BODY, TOKEN = "+4915550000077", "Dear Ana, MARKED text", "EAAGcanaryAccessToken"
PERSONAL = (NUMBER, NUMBER[1:], "MARKED", "EAAGcanary")


async def fail(*_, **__):
    """As a driver or a parser does that shows what it was given."""
    try:
        int(BODY)
    except ValueError as error:
        raise RuntimeError(f"{NUMBER} {NUMBER[1:]} {BODY} {TOKEN}") from error


@asynccontextmanager
async def running(work):
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work.run(stopping))
        yield
        stopping.set()


async def until_logged(logged, line) -> None:
    async with asyncio.timeout(30):
        while line not in logged():  # noqa: ASYNC110  # a log tells nobody
            await asyncio.sleep(0.01)
    for secret in PERSONAL:
        assert secret not in logged()
    assert "in fail" in logged()


@pytest.mark.postgres
async def test_a_sender_that_fails_with_what_it_was_to_send(office, ana, logged) -> None:
    office.meta.send = fail

    (status,) = await office.send(ana.channel, NUMBER)

    assert status is MessageStatus.UNKNOWN
    await until_logged(logged, "sending failed in an unforeseen way")


async def test_a_store_that_fails_with_what_it_was_to_keep(logged) -> None:
    jobs = [MediaJob(new_id(), new_id(), MediaJobKind.FETCH, new_id(), new_id(), 1, new_id())]

    async def claim(**_):
        return [jobs.pop()] if jobs else []

    queue = SimpleNamespace(claim=claim)
    worker = MediaWorker(queue=queue, move=fail, lease=timedelta(seconds=1), concurrency=1)
    async with running(worker):
        await until_logged(logged, "moving a file failed in an unforeseen way")


async def test_an_endpoint_that_fails_with_what_it_was_to_hear(logged) -> None:
    async def find_work(**_):
        return [EndpointWork(new_id(), new_id())], None

    async with running(EventWorker(queue=SimpleNamespace(find_work=find_work), deliver=fail)):
        await until_logged(logged, "delivering events failed in an unforeseen way")


async def test_a_turn_that_fails_with_what_came_in(logged) -> None:
    async with running(Loop(name="process webhooks", work=fail, pause_seconds=60)):
        await until_logged(logged, "process webhooks failed in an unforeseen way")
