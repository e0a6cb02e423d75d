"""A worker process of the rate limiter's tests: takes slots as fast as it gets them.

    python sender.py URL OUT SENDERS BATCH RATE-FILE NUMBER...

Until SIGTERM it takes slots; then it writes a line for each, `sent` if it was reached in time, else
`forfeited`, with its `<number> <monotonic seconds>`; and a line `stalled <monotonic seconds>
<seconds>` for each stretch in which the machine did not run it. RATE-FILE (`<number> <rate>` lines)
is read again when it changes, as a dispatcher reads the rate from its channel. Without Redis it
sends nothing and tries again.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

from shared.infrastructure.redis import RedisUnavailable, connect
from whatsapp.domain.rate_limit import LATENESS, reach
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter


class RateFile:
    def __init__(self, path):
        self.path, self.stamp, self.rates = path, None, {}

    def rate_of(self, number):
        stamp = self.path.stat().st_mtime_ns
        if stamp != self.stamp:
            lines = map(str.split, self.path.read_text().splitlines())
            self.stamp, self.rates = stamp, {n: int(rate) for n, rate in lines}
        return self.rates[number]


async def send(limiter, number, *, rates, batch, lines):
    while True:
        try:
            reservation = await limiter.reserve(number, count=batch, rate=rates.rate_of(number))
        except RedisUnavailable:
            await asyncio.sleep(0.05)
            continue
        lines += [f"forfeited {number} {time.monotonic():.6f}"] * reservation.forfeited
        for slot in reservation.slots:
            kind = "sent" if await reach(slot) else "forfeited"
            lines.append(f"{kind} {number} {time.monotonic():.6f}")
        if not reservation:
            await asyncio.sleep(reservation.retry_after.total_seconds())


async def watch(lines):
    """Note each time that this process is run half as late as a slot may be reached, or later."""
    before, pause = time.monotonic(), LATENESS.total_seconds() / 2
    while True:
        await asyncio.sleep(pause)
        now = time.monotonic()
        if now - before > 2 * pause:
            lines.append(f"stalled {now:.6f} {now - before:.6f}")
        before = now


async def main(url, senders, batch, rate_file, *numbers):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = connect(url)
    limiter, rates, lines = RedisRateLimiter(client), RateFile(Path(rate_file)), []
    tasks = [
        asyncio.create_task(send(limiter, number, rates=rates, batch=int(batch), lines=lines))
        for number in numbers
        for _ in range(int(senders))
    ]
    tasks.append(asyncio.create_task(watch(lines)))
    await asyncio.wait([asyncio.create_task(stop.wait()), *tasks], return_when="FIRST_COMPLETED")
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()
    return lines, all(isinstance(result, asyncio.CancelledError) for result in results)


if __name__ == "__main__":
    url, out, *rest = sys.argv[1:]
    lines, clean = asyncio.run(main(url, *rest))
    Path(out).write_text("".join(f"{line}\n" for line in lines))
    sys.exit(0 if clean else 1)
