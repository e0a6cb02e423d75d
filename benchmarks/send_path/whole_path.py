"""Messages per second from acceptance to the last report, beside a bare loop and job queues."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median
from typing import Final, TypeAlias

from benchmarks.harness import Context, Figure
from benchmarks.plant import Plant, plant
from benchmarks.send_path import jobs, traffic
from benchmarks.send_path.bare import bare_loop

from shared.kernel.ids import new_id

MESSAGES: Final = 3000
ROUNDS: Final = 5
CHANNELS, RATE = 4, 1000
BARE_BOUND, JOBS_BOUND = 0.6, 3.0
OURS, BARE, PGQUEUER, PROCRASTINATE = "Tellwire", "bare loop", "pgqueuer", "procrastinate"
Rival: TypeAlias = Callable[[int], Awaitable[object]]
BARE_REASON = (
    "each message is stored, claimed, marked and recorded in transactions of its own, and each "
    "report is written down before it is answered and kept for good; the loop does none of that."
)
PGQUEUER_REASON = (
    "pgqueuer finishes jobs in bulk and runs them in the process that takes the reports: it is the "
    "bare loop with a queue before it and as fast. Three times that is more than this machine can "
    "send at all."
)
PROCRASTINATE_REASON = (
    "three times its rate is about what this machine does with all that is stored and tracked, the "
    "simulator beside it; rounds fall on both sides of it."
)


class Usage:
    """Processor time per message, by process: where it goes, as the kernel counts it."""

    def __init__(self, place: Plant) -> None:
        self._place = place
        self._rounds: dict[str, list[float]] = {}
        self._before: dict[str, float] = {}

    def begin(self) -> None:
        """Note what every process has used so far."""
        self._before = self._now()

    def end(self) -> None:
        """Add what each has used since."""
        for name, seconds in self._now().items():
            used = (seconds - self._before.get(name, 0.0)) / MESSAGES
            self._rounds.setdefault(name, []).append(used)

    def _now(self) -> dict[str, float]:
        ours = os.times()
        found = {"PostgreSQL": self._place.postgres_cpu_seconds(), "loop": ours.user + ours.system}
        for process in self._place.processes:
            name = process.name.partition("-")[0]
            found[name] = found.get(name, 0.0) + process.cpu_seconds
        return found

    def __str__(self) -> str:
        typical = {name: median(rounds) * 1e6 for name, rounds in self._rounds.items()}
        return ", ".join(f"{name} {used:.0f} us" for name, used in typical.items() if used >= 10)


async def run(context: Context) -> list[Figure]:
    """Each rival in turn, in whole runs of some thousand messages."""
    database = await context.database("whole_path")
    async with plant(context.servers, database) as place, bare_loop(place) as bare:
        await place.start_api()
        await place.start_workers(1)
        channels = await place.channels(CHANNELS, rate=RATE)
        await place.warm(channels)

        async def ours(number: int) -> None:
            since = new_id()
            await traffic.post_all(place, channels, number)
            # As often as the rivals look.
            await traffic.until(place, channels, since, "read", pause=0.02)

        rivals: dict[str, Rival] = {
            OURS: ours,
            BARE: bare.send_all,
            PGQUEUER: lambda number: jobs.with_pgqueuer(place, bare, number),
            PROCRASTINATE: lambda number: jobs.with_procrastinate(place, bare, number),
        }
        usage = {name: Usage(place) for name in rivals}
        rates = await _in_turn(context, rivals, usage)
    return [
        _beside(rates, usage, BARE, BARE_BOUND, BARE_REASON),
        _beside(rates, usage, PGQUEUER, JOBS_BOUND, PGQUEUER_REASON),
        _beside(rates, usage, PROCRASTINATE, JOBS_BOUND, PROCRASTINATE_REASON),
    ]


async def _in_turn(
    context: Context, rivals: Mapping[str, Rival], usage: Mapping[str, Usage]
) -> dict[str, list[float]]:
    """Messages per second of each rival in each round; a short round first is not counted."""
    rounds = context.times(ROUNDS)
    task = context.progress.add_task("whole path", total=(rounds + 1) * len(rivals))
    rates: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(rounds + 1):
        for name, send_all in rivals.items():
            usage[name].begin()
            began = time.perf_counter()
            await send_all(MESSAGES if turn else MESSAGES // 8)
            if turn:
                rates[name].append(MESSAGES / (time.perf_counter() - began))
                usage[name].end()
            context.progress.advance(task)
    return rates


def _beside(
    rates: Mapping[str, Sequence[float]],
    usage: Mapping[str, Usage],
    rival: str,
    bound: float,
    reason: str,
) -> Figure:
    pairs = zip(rates[OURS], rates[rival], strict=True)
    spent = "; ".join(f"{name}: {usage[name]}" for name in (OURS, rival))
    return Figure(
        "messages per second, accepted in batches of 500 over HTTP, sent and fully tracked, beside "
        f"{'a' if rival == BARE else 'one job per message of'} {rival}",
        [ours / theirs for ours, theirs in pairs],
        bound,
        at_least=True,
        detail=f"{OURS} {median(rates[OURS]):.0f}/s, {rival} {median(rates[rival]):.0f}/s. "
        f"Processor time per message: {spent}",
        reason=reason,
    )
