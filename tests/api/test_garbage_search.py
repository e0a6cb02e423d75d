"""Worker and API look for garbage by the clock while they run, and no longer."""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from ports import free_port
from shared.infrastructure.settings import Settings
from tellwire import garbage
from tellwire.api_server import serve_api
from tellwire.worker import run_worker

Process = Callable[[Settings, asyncio.Event], Awaitable[None]]


async def api(settings: Settings, stopping: asyncio.Event) -> None:
    here = settings.model_copy(update={"api_port": free_port()})
    serving = asyncio.create_task(serve_api(here))
    await stopping.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await serving


@pytest.mark.parametrize("process", [run_worker, api])
async def test_a_process_searches_by_the_clock_until_it_ends(
    process: Process, settings, searches, monkeypatch
) -> None:
    monkeypatch.setattr(garbage, "SEARCH_SECONDS", 0.01)
    monkeypatch.setattr(garbage, "WORTH_SEARCHING", 1)
    stopping = asyncio.Event()
    gc.set_threshold(700, 10, 10)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(process(settings, stopping))
        while gc.get_threshold()[0] != garbage.MOST_NEW:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        searches.clear()
        while len(searches) <= garbage.FULL_EVERY:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        stopping.set()

    assert set(searches) == {0, 2}
    searches.clear()
    await asyncio.sleep(0.1)
    assert not searches
