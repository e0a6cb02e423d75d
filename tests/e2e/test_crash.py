"""Workers are killed at every point of the send path and at random; Meta's log is the judge."""

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from crash_points import OPEN, POINTS, SAFE
from crew import running_crew
from whatsapp.domain.entities import UnknownPolicy, WindowPolicy

OPEN_WINDOW = WindowPolicy.ALLOW
BATCH = 100
SLOW_ANSWERS = {"latency_seconds": 0.08}
FAST_STATUSES = {
    "sent_seconds": 0.1,
    "delivered_seconds": 0.2,
    "read_seconds": 0.4,
    "late_seconds": 5,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crew():
    directory = Path(tempfile.mkdtemp(prefix="tellwire-crash-"))
    directory.chmod(0o711)
    try:
        async with running_crew(directory, statuses=FAST_STATUSES, **SLOW_ANSWERS) as crew:
            yield crew
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.timeout(90)
async def test_a_worker_killed_at_this_point_loses_nothing_and_doubles_nothing(crew, point) -> None:
    channel = await crew.fleet.new_channel(250, window_policy=OPEN_WINDOW)
    await crew.fleet.enqueue(channel, BATCH)

    await crew.until_dead(crew.start_worker(point))
    for _ in range(2):
        crew.start_worker()
    await crew.settle(channel, within=60)

    verdict = await crew.judge(channel)
    await crew.stop_workers()
    assert verdict.is_clean, (verdict, crew.logs())
    if point in SAFE:
        assert set(verdict.statuses) == {"read"}, verdict
    assert verdict.statuses["failed"] <= (BATCH if point in OPEN else 0), verdict


KILLS, MESSAGES = 100, 5000


@pytest.mark.timeout(280)
async def test_5000_messages_are_sent_once_each_by_workers_that_are_killed_100_times(
    directory,
) -> None:
    rng = Random(20261123)
    async with running_crew(directory, lease=4, unknown=4, statuses=FAST_STATUSES) as crew:
        channels = [
            await crew.fleet.new_channel(
                250, window_policy=OPEN_WINDOW, on_unknown=UnknownPolicy.RESEND
            )
            for _ in range(4)
        ]
        for channel in channels:
            await crew.fleet.enqueue(channel, MESSAGES // len(channels))
        workers = [crew.start_worker() for _ in range(3)]
        for kill in range(KILLS):
            await asyncio.sleep(rng.uniform(0.1, 0.9))
            victim = workers.pop(rng.randrange(len(workers)))
            os.kill(victim, signal.SIGKILL)
            await crew.until_dead(victim)
            workers.append(crew.start_worker())
            if kill % 10 == 0:
                for channel in channels:
                    await crew.fleet.enqueue(channel, 5)
        under_fire = await crew.statuses(*channels)
        await crew.settle(*channels, within=100)
        verdict = await crew.judge(*channels)

        assert verdict.is_clean, (verdict, crew.logs())
        assert set(verdict.statuses) == {"read"}, (verdict, under_fire)
        assert verdict.statuses.total() >= MESSAGES
