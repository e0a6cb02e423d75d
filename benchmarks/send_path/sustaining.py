"""Whether one channel is kept at Meta's highest rate, with every report stored on the way."""

import time
from typing import Final

from benchmarks.harness import Context, Figure
from benchmarks.plant import plant
from benchmarks.send_path import traffic

from shared.kernel.ids import new_id

RATE: Final = 1000
SECONDS: Final = 10
USED_BOUND: Final = 0.99
SPACED_SECOND: Final = 1.008
WORKERS: Final = 1
REASON: Final = (
    "everything is on two cores, and the worker comes late to its slots while the others have "
    "them, so that slots have to last longer and lie further apart (ADR 15). It hangs on the "
    "machine's hour: where all processes together take 1.4 ms of processor time for a message and "
    "its three reports (the worker 0.5, PostgreSQL 0.4, the simulated Meta 0.2, the API 0.15) the "
    "channel has 0.90; where they take 2.9 to 3.3 ms, both cores are full at about 600 to 650 per "
    "second, and the bare loop, which keeps nothing safe, fills them at about as many. Below that "
    "the channel is at its rate: tests/e2e/test_pacing.py sees 97 to 99 % of 80 and of 250 per "
    "second."
)


async def run(context: Context) -> list[Figure]:
    """A backlog of one channel, sent by one worker while its reports come in."""
    database = await context.database("sustaining")
    number = RATE * max(5, round(SECONDS * context.scale))
    async with plant(context.servers, database) as place:
        await place.start_api()
        channels = await place.channels(1, rate=RATE)
        since = new_id()
        await traffic.enqueue(place, channels, number)
        await place.warm(channels)
        task = context.progress.add_task("sustaining", total=1)
        await place.start_workers(WORKERS)
        began = time.perf_counter()
        sent_at = await traffic.until(place, channels, since, "sent", "delivered", "read")
        read_at = await traffic.until(place, channels, since, "read")
        core = await place.rate_of(channels)
        context.progress.advance(task)
    return [
        Figure(
            f"share of its {RATE} per second that one channel uses, sent and fully tracked by "
            f"{WORKERS} worker, over {number // RATE} s",
            [core * SPACED_SECOND / RATE],
            USED_BOUND,
            at_least=True,
            detail=f"{core:.0f} per second between the first and the last tenth; all sent after "
            f"{sent_at - began:.1f} s, all read after {read_at - began:.1f} s",
            reason=REASON,
        )
    ]
