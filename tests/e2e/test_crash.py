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

from crash_points import POINTS, SAFE
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


def _directory() -> Path:
    made = Path(tempfile.mkdtemp(prefix="tellwire-crash-"))
    made.chmod(0o711)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crew():
    directory = await asyncio.to_thread(_directory)
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
    # What had been marked and had not left is never reported on: it fails, and is not sent again.
    assert point not in SAFE or set(verdict.statuses) == {"read"}, verdict
    assert verdict.statuses["read"] > BATCH / 10, verdict


KILLS, MESSAGES = 100, 5000


@pytest.mark.timeout(600)
async def test_5000_messages_are_sent_once_each_by_workers_that_are_killed_100_times(
    directory,
) -> None:
    rng = Random(20261123)
    async with running_crew(directory, lease=10, unknown=4, statuses=FAST_STATUSES) as crew:
        channels = [
            await crew.fleet.new_channel(250, window_policy=OPEN_WINDOW, on_unknown=policy)
            for policy in (UnknownPolicy.FAIL, UnknownPolicy.RESEND) * 2
        ]
        for channel in channels:
            await crew.fleet.enqueue(channel, MESSAGES // len(channels))
        workers = [crew.start_worker() for _ in range(3)]
        for _ in range(KILLS):
            # At a random number of messages, so that there is always something under way.
            await crew.until_requests(rng.randint(5, 70), or_for=2)
            victim = workers.pop(rng.randrange(len(workers)))
            os.kill(victim, signal.SIGKILL)
            await crew.until_dead(victim)
            workers.append(crew.start_worker())
        await crew.settle(*channels, within=300)
        verdict = await crew.judge(*channels)

        # What Meta got is read, once; what it did not get is not lost but failed, and says so.
        assert verdict.is_clean, (verdict, crew.logs())
        assert set(verdict.statuses) <= {"read", "failed"}, verdict

        await crew.retry_failed(*channels)
        await crew.settle(*channels, within=200)
        verdict = await crew.judge(*channels)
        assert verdict.is_clean, (verdict, crew.logs())
        assert set(verdict.statuses) == {"read"}, verdict
        assert verdict.statuses.total() >= MESSAGES
