"""The simulator looks for garbage while nothing comes: a search would keep the judge of a pace."""

import asyncio
import gc
import time
from itertools import count

import pytest

from whatsapp_simulator import SimulatorConfig, serve

SECONDS_OF_SENDING = 2.5


async def test_a_simulator_searches_when_it_is_quiet_and_not_before(start, searches) -> None:
    client, numbers = await start(), count()
    for _ in range(20_000):
        circle = []
        circle.append(circle)
    searches.clear()

    ends = time.monotonic() + SECONDS_OF_SENDING
    while time.monotonic() < ends:
        await client.send(f"1415{next(numbers):07}")
    assert not searches

    async with asyncio.timeout(30):
        while not searches:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)
    assert set(searches) == {0}


@pytest.mark.usefixtures("searches")
async def test_a_simulator_that_has_ended_leaves_python_searching_as_before() -> None:
    thresholds, listening, stop = gc.get_threshold(), asyncio.Event(), asyncio.Event()
    config = SimulatorConfig.from_json({"app_secret": "a-secret", "port": 0})

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(config, ready=listening, stop=stop))
        await listening.wait()
        meanwhile = gc.get_threshold()
        stop.set()

    assert meanwhile != thresholds
    assert gc.get_threshold() == thresholds
