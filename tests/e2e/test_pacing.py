"""Never over the rate and never idle under it, with workers in processes of their own.

Two logs are judged. By the sender's own (`started_at` of each attempt, taken when its slot has
come) no second may hold more than the rate: there the machine has no say. By Meta's log of arrivals
the same, but for J: what left within 1 s + J may arrive within 1 s. J is the longest for which the
machine may have kept a process from running meanwhile, the simulator or a thread that only sleeps:
from when it last ran. What is left of a slot after its first 5 ms has to do for the way.

Of the rate 99 % have to be used, but for slots that were forfeited because their worker was not
run in time, or given up for others that last longer; workers count those, and where the machine
can run them they are two fifths at most (4 to 12 % were seen with more than twice the load that two
cores carry). With more workers than the machine can run at once, what a thread that only sleeps was
kept waiting in all is taken off as well, as nobody could send meanwhile. At 1000 per second two
cores cannot make all messages ready in time (3 to 10 % are missing there), so that a tenth more may
be idle.
"""

import re
from datetime import timedelta

import pytest

from fleet import Fleet, Stalls, most_in_any_second
from shared.kernel.clock import utc_now
from tellwire.demo.report import SPACED_SECOND, longest_stall_seconds, most_that_may_arrive

pytestmark = [pytest.mark.soak, pytest.mark.pace, pytest.mark.asyncio(loop_scope="session")]
MOST_STALL_SECONDS = 0.25
MOST_FORFEITED = 0.4
TOLERATED, NOT_READY = 0.02, {1000: 0.1}
_SERVED = re.compile(r"served: (\d+) claimed, (\d+) slots forfeited")


def forfeited(fleet: Fleet) -> int:
    """How many slots the workers reached too late so far."""
    logs = fleet.directory.glob("worker-*.log")
    return sum(int(found[2]) for log in logs for found in _SERVED.finditer(log.read_text()))


async def send_backlog(fleet: Fleet, *, rate: int, seconds: float) -> dict[str, float]:
    """Send at `rate` from a full queue; gives what the logs say."""
    channel = await fleet.new_channel(rate)
    number = int(rate * seconds)
    await fleet.enqueue(channel, 1)  # The first use of a number costs a second: not measured.
    await fleet.until_accepted(channel, 1, within=30)
    before = forfeited(fleet)
    await fleet.enqueue(channel, number, send_at=utc_now() + timedelta(seconds=1 + number / 1500))
    with Stalls() as stalls:
        await fleet.until_accepted(channel, number + 1, within=30 + 10 * seconds)
    await fleet.until_recorded(channel, number + 1, within=10)
    report = await fleet.control("report")
    arrivals = sorted(entry["mono_ns"] / 1e9 for entry in await fleet.arrivals(channel))[1:]
    departures = [at.timestamp() for at in await fleet.departures(channel)][1:]
    late = forfeited(fleet) - before
    stall = max(longest_stall_seconds(report), stalls.longest_seconds)
    tenth = number // 10  # Workers begin and end one after the other.
    core = departures[tenth:-tenth]
    possible = (core[-1] - core[0]) * rate / SPACED_SECOND
    await fleet.control("reset", {})
    return {
        "sent": len(arrivals),
        "expected": number,
        "most_departed": most_in_any_second(departures),
        "most_arrived": most_in_any_second(arrivals),
        "most_allowed": most_that_may_arrive(rate, stall_seconds=stall),
        "stall_seconds": stall,
        "used": len(core) / possible / SPACED_SECOND,
        "late_share": late / (number + late),
        "lost_share": stalls.lost_seconds / (core[-1] - core[0]),
    }


@pytest.mark.timeout(450)
@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        pytest.param(1, {80: 5, 250: 4, 1000: 4}, id="one-worker"),
        pytest.param(4, {80: 5, 250: 4, 1000: 4}, id="four-workers"),
        pytest.param(16, {80: 4, 250: 4, 1000: 2}, id="sixteen-workers"),
    ],
)
async def test_no_second_holds_more_than_the_rate_and_no_slot_is_left_idle(
    fleet, record_property, workers, seconds
) -> None:
    await fleet.start_workers(workers)
    for rate, length in seconds.items():
        seen = await send_backlog(fleet, rate=rate, seconds=length)
        record_property(f"{workers} workers at {rate}/s", seen)
        print(f"{workers} workers at {rate}/s: {seen}")  # noqa: T201  # shown when it fails

        assert seen["sent"] == seen["expected"]
        assert seen["most_departed"] <= rate
        if seen["stall_seconds"] < MOST_STALL_SECONDS:
            assert seen["most_arrived"] <= seen["most_allowed"]
        if workers <= 4 and rate not in NOT_READY:
            assert seen["late_share"] <= MOST_FORFEITED
        not_run = 0 if workers <= 4 else seen["lost_share"]
        idle = TOLERATED + NOT_READY.get(rate, 0)
        assert seen["used"] >= 0.99 - seen["late_share"] - not_run - idle


@pytest.mark.timeout(180)
async def test_another_rate_takes_effect_within_a_second_without_a_restart(fleet) -> None:
    await fleet.start_workers(2)
    channel = await fleet.new_channel(20)
    await fleet.enqueue(channel, 2000)
    await fleet.until_accepted(channel, 30, within=20)

    raised_at = utc_now()
    await fleet.change(channel, messages_per_second=200)
    await fleet.until_accepted(channel, 600, within=20)
    lowered_at = utc_now()
    await fleet.change(channel, messages_per_second=20)
    count = len(await fleet.arrivals(channel))
    await fleet.until_accepted(channel, count + 40, within=20)

    times = await fleet.departures(channel)
    second = timedelta(seconds=1)
    raised = [at for at in times if raised_at + second < at <= raised_at + 2 * second]
    lowered = [at for at in times if at > lowered_at + second]
    assert len(raised) > 150
    assert most_in_any_second(at.timestamp() for at in lowered) <= 20
