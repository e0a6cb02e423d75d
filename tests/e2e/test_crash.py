"""Workers are killed at every point of the send path and at random; Meta's log is the judge."""

import os
import signal
from random import Random

import pytest
import pytest_asyncio

from crash_points import POINTS, SAFE
from whatsapp.domain.entities import ChannelStatus, UnknownPolicy, WindowPolicy

OPEN_WINDOW = WindowPolicy.ALLOW
BATCH = 100
pytestmark = [pytest.mark.soak, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def aftermath(settled_crew):
    """What became of a batch each, after a worker was killed at each point and others went on.

    Until all are dead the channels of the dead rest, so that nobody meets another one's remains.
    """
    crew, channels = settled_crew, {}
    for point in POINTS:
        channels[point] = await crew.fleet.new_channel(60, window_policy=OPEN_WINDOW)
        await crew.fleet.enqueue(channels[point], BATCH)
        await crew.until_dead(crew.start_worker(point))
        await crew.fleet.change(channels[point], status=ChannelStatus.PAUSED)
    for channel in channels.values():
        await crew.fleet.change(channel, status=ChannelStatus.ACTIVE)
    for _ in range(2):
        crew.start_worker()
    await crew.settle(*channels.values(), within=100)
    found = {
        point: (await crew.judge(channel), await crew.unknown_attempts(channel))
        for point, channel in channels.items()
    }
    logs = crew.logs()
    await crew.fleet.tidy_up()
    return found, logs


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.timeout(600)  # The first one does it all.
async def test_a_worker_killed_at_this_point_loses_nothing_and_doubles_nothing(
    aftermath, point
) -> None:
    found, logs = aftermath
    verdict, unknown = found[point]

    assert verdict.is_clean, (verdict, logs)
    # What had been marked and had not left is never reported on: it is sent after that silence.
    assert set(verdict.statuses) == {"read"}, verdict
    assert verdict.statuses["read"] >= BATCH, verdict
    assert point not in SAFE or not unknown, unknown


KILLS, MESSAGES = 100, 5000


@pytest.mark.timeout(1200)
async def test_5000_messages_are_sent_once_each_by_workers_that_are_killed_100_times(crew) -> None:
    rng = Random(20261123)
    once, never = [
        [await crew.fleet.new_channel(250, window_policy=OPEN_WINDOW, on_unknown=p) for _ in "ab"]
        for p in (UnknownPolicy.CATEGORY, UnknownPolicy.FAIL)
    ]
    channels = [*once, *never]
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
    await crew.settle(*channels, within=200)
    verdict = await crew.judge(*channels)

    # What Meta got is read, once; what it did not get is not lost but failed, and says so.
    assert verdict.is_clean, (verdict, crew.logs())
    assert set(verdict.statuses) <= {"read", "failed"}, verdict
    # By default that happens only to what was stranded twice: it had been sent once more.
    unknown = await crew.unknown_attempts(*once)
    failed = await crew.failed_as_unknown(*once)
    assert all(unknown[one] >= 2 for one in failed), (unknown, failed)
    assert len(failed) < len(unknown)

    await crew.retry_failed(*channels)
    await crew.settle(*channels, within=100)
    verdict = await crew.judge(*channels)
    assert verdict.is_clean, (verdict, crew.logs())
    assert set(verdict.statuses) == {"read"}, verdict
    assert verdict.statuses.total() >= MESSAGES
