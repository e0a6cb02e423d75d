"""A worker process of the rate limiter's tests: takes slots as fast as it gets them.

    python sender.py URL OUT SENDERS BATCH RATE-FILE NUMBER...

Until SIGTERM it takes slots, and makes the file OUT.ready when each number has had one. Then it
writes a line for each slot, `sent` if it was reached in time, else `forfeited`, with its `<number>
<monotonic seconds>`; and a line `stalled <from> <until>` for each stretch in which the machine did
not run it or Redis in time. RATE-FILE (`<number> <rate>` lines) is read again when it changes, as a
dispatcher reads the rate from its channel. Without Redis it sends nothing and tries again.
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


async def send(limiter, number, *, rates, batch, lines, on_slot):
    while True:
        asked = time.monotonic()
        try:
            reservation = await limiter.reserve(number, count=batch, rate=rates.rate_of(number))
        except RedisUnavailable:
            await asyncio.sleep(0.05)
            continue
        note_stall(lines, asked, time.monotonic())
        lines += [f"forfeited {number} {time.monotonic():.6f}"] * reservation.forfeited
        for slot in reservation.slots:
            kind = "sent" if await reach(slot) else "forfeited"
            lines.append(f"{kind} {number} {time.monotonic():.6f}")
        if reservation:
            on_slot(number)
        else:
            await asyncio.sleep(reservation.retry_after.total_seconds())


def note_stall(lines, began, ended):
    """Note what took as long as a slot may be late."""
    if ended - began > LATENESS.total_seconds():
        lines.append(f"stalled {began:.6f} {ended:.6f}")


async def watch(lines):
    """Note each time that this process is not run in time."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(LATENESS.total_seconds() / 2)
        note_stall(lines, before, time.monotonic())


class Ready:
    """Makes a file when each number has had a slot."""

    def __init__(self, path, numbers):
        self.path, self.waiting = path, set(numbers)

    def __call__(self, number):
        if self.waiting:
            self.waiting.discard(number)
            if not self.waiting:
                self.path.touch()


async def main(url, ready, senders, batch, rate_file, *numbers):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = connect(url)
    limiter, rates, lines = RedisRateLimiter(client), RateFile(Path(rate_file)), []
    on_slot = Ready(ready, numbers)
    tasks = [
        asyncio.create_task(
            send(limiter, number, rates=rates, batch=int(batch), lines=lines, on_slot=on_slot)
        )
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
    lines, clean = asyncio.run(main(url, Path(f"{out}.ready"), *rest))
    Path(out).write_text("".join(f"{line}\n" for line in lines))
    sys.exit(0 if clean else 1)
