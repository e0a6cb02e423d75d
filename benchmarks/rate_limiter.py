"""The limiter beside a bare script call, and beside `limits` and `throttled-py` on the same Redis.

One `consume_token` is compared with the bare EVALSHA of its script on the same client: what is lost
is what Python does around it. The next row compares it with an EVALSHA that does nothing
(`return 1`, with the same arguments): there the script's own work in Redis counts too. Tokens per
second are those of one task that asks again and again. The rivals take one token per call, since
each call answers for one moment; asked for a hundred at once they let all hundred go in that
moment. A reservation hands out a hundred slots, each with its own time. All clients run on
redis-py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Final

from benchmarks.harness import Contender, Context, Figure, Timings
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)
from throttled.asyncio import RateLimiterType, RedisStore, Throttled, per_sec

from shared.infrastructure.redis import RedisClient, connect
from whatsapp.domain.rate_limit import MAX_RATE, spacing_micros
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter
from whatsapp.infrastructure.persistence.repositories.rate_limiter import _script, rate_key

TITLE = "Rate limiter"

SINGLE = "consume_token"
BARE = "bare EVALSHA"
NOTHING = "EVALSHA that does nothing"
BATCH = "reserve"
TOKENS: Final = 100
# One number has 90 slots in a millisecond at the highest rate; many leave the limit out of it.
NUMBERS: Final = [str(number) for number in range(50)]
PLENTY: Final = MAX_RATE  # Never reached, one call after the other.
SINGLE_BOUND = 0.9
BATCH_BOUND = 10.0
FIRST_SECOND: Final = 1.1


async def run(context: Context) -> list[Figure]:
    """Two ratios: a single token beside a bare call, a batch beside the best of the rivals."""
    async with _client(context) as client:
        limiter = RedisRateLimiter(client)
        for number in NUMBERS:
            await limiter.reserve(number, count=1, rate=MAX_RATE)
        await asyncio.sleep(FIRST_SECOND)
        return [*await _single(context, client, limiter), await _batch(context, limiter)]


@asynccontextmanager
async def _client(context: Context) -> AsyncIterator[RedisClient]:
    client = connect(context.servers.redis.url)
    try:
        yield client
    finally:
        await client.aclose()


async def _single(context: Context, client: RedisClient, limiter: RedisRateLimiter) -> list[Figure]:
    nothing = await client.script_load("return 1")
    script = await client.script_load(_script("rate_limiter.lua")[0])
    spacing = spacing_micros(MAX_RATE)

    def bare(digest: str) -> Callable[[str], Awaitable[object]]:
        async def call(number: str) -> object:
            key = rate_key(number)
            return await client.evalsha(digest, 1, key, "reserve", spacing, 1, 1, 0, 250_000)

        return call

    async def ours(number: str) -> object:
        taken = await limiter.consume_token(number, rate=MAX_RATE)
        if not taken and not taken.forfeited:
            raise RuntimeError("the limit itself was measured")
        return taken

    turn = cycle(NUMBERS)
    timings = await context.duel(
        SINGLE,
        Contender(SINGLE, ours, lambda: next(turn)),
        Contender(BARE, bare(script), lambda: next(turn)),
        Contender(NOTHING, bare(nothing), lambda: next(turn)),
        rounds=31,
        batches=40,
    )
    return [
        Figure(
            "speed of one `consume_token` beside the bare EVALSHA of its script, same client",
            timings.ratios(BARE, SINGLE),
            SINGLE_BOUND,
            at_least=True,
            detail=timings.detail(SINGLE, BARE),
        ),
        Figure(
            "speed of one `consume_token` beside an EVALSHA that does nothing, same client",
            timings.ratios(NOTHING, SINGLE),
            None,
            at_least=True,
            detail=timings.detail(SINGLE, NOTHING),
        ),
    ]


async def _batch(context: Context, limiter: RedisRateLimiter) -> Figure:
    async def ours(number: str) -> object:
        taken = await limiter.reserve(number, count=TOKENS, rate=MAX_RATE)
        if len(taken.slots) + taken.forfeited != TOKENS:
            raise RuntimeError("the limit itself was measured")
        return taken

    turn = cycle(NUMBERS)
    rivals = _rivals(context.servers.redis.url)
    timings = await context.duel(
        "tokens per second",
        Contender(BATCH, ours, lambda: next(turn)),
        *[Contender(name, call) for name, call in rivals.items()],
        rounds=21,
        batches=20,
    )
    return Figure(
        f"tokens per second in reservations of {TOKENS}, beside the best of `limits` and "
        "`throttled-py`",
        _times_the_best(timings, list(rivals)),
        BATCH_BOUND,
        at_least=True,
        detail=timings.detail(BATCH, *rivals),
    )


def _times_the_best(timings: Timings, rivals: list[str]) -> list[float]:
    """How many times the tokens per second of the round's fastest rival ours are."""
    best = [min(times) for times in zip(*(timings.rounds[name] for name in rivals), strict=True)]
    return [
        TOKENS * theirs / ours for ours, theirs in zip(timings.rounds[BATCH], best, strict=True)
    ]


def _rivals(url: str) -> dict[str, Callable[[object], Awaitable[object]]]:
    """Every algorithm of both packages, each for one token of a limit that is never reached."""
    storage = RedisStorage(f"async+redis+{url}", implementation="redispy")
    item = RateLimitItemPerSecond(PLENTY)
    strategies = FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
    found: dict[str, Callable[[object], Awaitable[object]]] = {
        f"limits {strategy.__name__.removesuffix('RateLimiter')}": _hit(strategy(storage), item)
        for strategy in strategies
    }
    store = RedisStore(server=url)
    for algorithm in RateLimiterType:
        throttle = Throttled(
            key="1", using=algorithm.value, quota=per_sec(PLENTY, burst=PLENTY), store=store
        )
        found[f"throttled-py {algorithm.value}"] = _limit(throttle)
    return found


def _hit(
    strategy: FixedWindowRateLimiter | MovingWindowRateLimiter | SlidingWindowCounterRateLimiter,
    item: RateLimitItemPerSecond,
) -> Callable[[object], Awaitable[object]]:
    async def hit(_: object) -> object:
        return await strategy.hit(item, type(strategy).__name__)

    return hit


def _limit(throttle: Throttled) -> Callable[[object], Awaitable[object]]:
    async def limit(_: object) -> object:
        return await throttle.limit()

    return limit
