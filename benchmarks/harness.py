"""How figures are measured: rivals side by side, in small alternating batches, over many rounds.

Machines are noisy, noise comes in stretches, and it only ever adds. So rivals take turns a few
calls at a time; in each round the fastest tenth of a rival's calls speaks for it (its first decile)
and gives one ratio; a figure is the median of its rounds, shown with their quartiles.
"""

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.servers import Database, Servers
from rich.progress import Progress


@dataclass(frozen=True, slots=True)
class Figure:
    """One promise and what was measured: a value per round, and whether their median keeps it."""

    name: str
    rounds: Sequence[float]
    bound: float | None  # None: measured for comparison, nothing is promised.
    unit: str = "x"
    at_least: bool = False
    detail: str = ""  # The absolute times behind a ratio.
    reason: str = ""  # What a profile says, shown where a bound is not met or there is none.

    @property
    def value(self) -> float:
        """The figure itself."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and the third quartile of the rounds."""
        if len(self.rounds) < 2:
            return self.value, self.value
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return low, high

    @property
    def is_met(self) -> bool:
        """Whether the promise is kept; where there is none, it is."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.at_least else self.value <= self.bound


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the rivals: `run(given)` is timed; `prepare` and `rest`, after each batch, are not.

    Whoever does more in one call may make fewer of them in a batch: `calls`.
    """

    name: str
    run: Callable[[Any], Awaitable[object]]
    prepare: Callable[[], Any] = field(default=lambda: None)
    rest: Callable[[], Awaitable[None]] = _nothing
    calls: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds per call of each contender: the first decile of each round."""

    rounds: Mapping[str, Sequence[float]]

    def ratios(self, ours: str, rival: str) -> Sequence[float]:
        """How many times the rival's time ours is, round by round."""
        pairs = zip(self.rounds[ours], self.rounds[rival], strict=True)
        return [mine / theirs for mine, theirs in pairs]

    def detail(self, *names: str) -> str:
        """The median time of each, for people."""
        return ", ".join(
            f"{name} {readable(statistics.median(self.rounds[name]))}" for name in names
        )


def readable(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 0.01:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


@dataclass(frozen=True, slots=True)
class Context:
    """What a benchmark is given: servers of its own, and the way to measure."""

    servers: Servers
    progress: Progress
    scale: float = 1.0

    async def database(self, name: str) -> Database:
        """A migrated database for this benchmark alone."""
        return await self.servers.database(name)

    def times(self, number: int) -> int:
        """`number` of rounds, or fewer of them in a quick run."""
        return max(3, round(number * self.scale))

    async def duel(
        self,
        title: str,
        *contenders: Contender,
        rounds: int = 21,
        batches: int = 10,
        calls: int = 5,
    ) -> Timings:
        """Time the contenders in turn: `rounds` of `batches` of `calls` each.

        The order changes from batch to batch, so that nobody is always the one behind somebody.
        """
        rounds = self.times(rounds)
        task = self.progress.add_task(title, total=rounds + 1)
        found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for number in range(rounds + 1):
            taken = await _round(contenders, batches=batches, calls=calls)
            if number > 0:  # The first round fills caches.
                for name, samples in taken.items():
                    found[name].append(_first_decile(samples))
            self.progress.advance(task)
        return Timings(found)


async def _round(
    contenders: Sequence[Contender], *, batches: int, calls: int
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for batch in range(batches):
        turn = batch % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            await _batch(contender, contender.calls or calls, samples[contender.name])
    return samples


def _first_decile(samples: Sequence[float]) -> float:
    return sorted(samples)[len(samples) // 10]


async def _batch(contender: Contender, calls: int, samples: list[float]) -> None:
    run, prepare, clock = contender.run, contender.prepare, time.perf_counter
    for _ in range(calls):
        given = prepare()
        began = clock()
        await run(given)
        samples.append(clock() - began)
    await contender.rest()
