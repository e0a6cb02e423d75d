"""What one worker keeps in memory while it sends message after message and stores every report.

The worker's resident memory is read after each tenth of the messages; the first tenth warms it up.
"""

from typing import Final

from benchmarks.harness import Context, Figure
from benchmarks.plant import Process, plant
from benchmarks.send_path import traffic

from shared.kernel.ids import new_id

TITLE = "Worker memory"
MESSAGES: Final = 200_000
CHANNELS, RATE = 4, 1000
BOUND: Final = 1.05
MEBIBYTE: Final = 2**20


async def run(context: Context) -> list[Figure]:
    """Growth from the first tenth to the last."""
    database = await context.database("worker_memory")
    tenth = round(MESSAGES * context.scale) // 10
    task = context.progress.add_task("worker memory", total=10)
    async with plant(context.servers, database) as place:
        await place.start_api()
        (worker,) = await place.start_workers(1)
        channels = await place.channels(CHANNELS, rate=RATE)
        await place.warm(channels)
        resident: list[float] = []
        for _ in range(10):
            since = new_id()
            await traffic.enqueue(place, channels, tenth // CHANNELS)
            await traffic.until(place, channels, since, "read", pause=0.25)
            resident.append(_mebibytes(worker))
            context.progress.advance(task)
    return [
        Figure(
            f"a worker's resident memory after {10 * tenth:,} messages, beside after {tenth:,}",
            [resident[-1] / resident[0]],
            BOUND,
            detail="MiB after each tenth: " + ", ".join(f"{each:.0f}" for each in resident),
        )
    ]


def _mebibytes(process: Process) -> float:
    return process.resident_bytes / MEBIBYTE
