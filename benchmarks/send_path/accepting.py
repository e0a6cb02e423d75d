"""How long a caller waits for a single message to be accepted over HTTP."""

import time
from statistics import median
from typing import Final

from benchmarks.harness import Context, Figure
from benchmarks.plant import Plant, plant
from benchmarks.send_path import traffic

from whatsapp.domain.entities import Channel

REQUESTS: Final = 2000
WARM_UP: Final = 200


async def run(context: Context) -> list[Figure]:
    """One request after the other on one connection; nothing is sent meanwhile."""
    database = await context.database("accepting")
    async with plant(context.servers, database) as place:
        await place.start_api()
        (channel,) = await place.channels(1, rate=80)
        task = context.progress.add_task("accepting", total=1)
        number = max(WARM_UP, round(REQUESTS * context.scale))
        took = [await _accept(place, channel) for _ in range(WARM_UP + number)]
        context.progress.advance(task)
    took = sorted(took[WARM_UP:])
    p99 = took[len(took) * 99 // 100]
    return [
        Figure(
            "accepting a single message over HTTP, median",
            [median(took) * 1e3],
            None,
            unit="ms",
            detail=f"{number} requests, one after the other; slowest {took[-1] * 1e3:.0f} ms",
        ),
        Figure(
            "accepting a single message over HTTP, 99th percentile", [p99 * 1e3], None, unit="ms"
        ),
    ]


async def _accept(place: Plant, channel: Channel) -> float:
    body, headers = traffic.body_for(channel), place.headers(channel)
    began = time.perf_counter()
    async with place.http.post(f"{place.api}/v1/messages", json=body, headers=headers) as answer:
        await answer.read()
        if answer.status != 202:
            raise RuntimeError(f"HTTP {answer.status}")
    return time.perf_counter() - began
