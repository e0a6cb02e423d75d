"""Workers are killed at every point of the send path and at random; Meta's log is the judge."""

import os
import signal
from random import Random

import pytest

from crash_points import POINTS, SAFE
from whatsapp.domain.entities import UnknownPolicy, WindowPolicy

OPEN_WINDOW = WindowPolicy.ALLOW
BATCH = 100
pytestmark = pytest.mark.asyncio(loop_scope="session")


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
    assert verdict.is_clean, (verdict, crew.logs())
    # What had been marked and had not left is never reported on: it fails, and is not sent again.
    assert point not in SAFE or set(verdict.statuses) == {"read"}, verdict
    assert verdict.statuses["read"] > BATCH / 10, verdict


KILLS, MESSAGES = 100, 5000


@pytest.mark.timeout(600)
async def test_5000_messages_are_sent_once_each_by_workers_that_are_killed_100_times(crew) -> None:
    rng = Random(20261123)
    channels = [
        await crew.fleet.new_channel(250, window_policy=OPEN_WINDOW, on_unknown=policy)
        for policy in (UnknownPolicy.FAIL, UnknownPolicy.RESEND) * 2
    ]
    for channel in channels:
        await crew.fleet.enqueue(channel, MESSAGES // len(channels))
    workers = [crew.start_worker() for _ in range(3)]
    for _ in range(KILLS):
        # At a random number of messages, so that there is always something under way.
        await crew.until_requests(rng.randint(5, 70), or_for=0.7)
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
