"""Nothing that is written to Redis stays there for good, however long traffic goes on."""

from datetime import timedelta

import pytest

from shared.infrastructure.redis import connect
from shared.kernel.ids import new_id
from whatsapp.domain.driving import Stance
from whatsapp.infrastructure.persistence.repositories import RedisChannelDrivers, RedisRateLimiter

pytestmark = pytest.mark.redis

MINUTE = timedelta(minutes=1)
WEEK = timedelta(days=7)
FOREVER = -1  # as PTTL says it


@pytest.fixture
async def redis(redis_url):
    client = connect(redis_url)
    yield client
    await client.aclose()


async def test_every_key_of_every_operation_has_an_end(redis) -> None:
    limiter, drivers = RedisRateLimiter(redis), RedisChannelDrivers(redis)
    numbers = [str(new_id().int)[:15] for _ in range(8)]
    taken, given, held, *others = numbers
    await limiter.meet_server(others[0])
    await limiter.check_rate_limit(others[0])
    await limiter.consume_token(others[0])
    await limiter.reserve(others[1], count=5, rate=80)
    await limiter.hold(others[2], MINUTE)
    await limiter.slow_down(others[3])
    await limiter.debit(others[4], 5, rate=80)
    await limiter.take_pairs(taken, ["1", "1", "2"])
    await limiter.give_back_pairs(await limiter.take_pairs(given, ["1", "1"]))
    await limiter.hold_pair(held, "1", MINUTE)
    await drivers.drive({new_id(): Stance.ALONE, new_id(): Stance.LOOK})
    await drivers.leave([new_id()])

    keys = [key async for key in redis.scan_iter(match="tellwire:*")]
    ends = {key: await redis.pttl(key) for key in keys}

    written = " ".join(key.decode() for key in keys)
    for number in numbers[:1] + numbers[2:3] + others[1:]:
        assert number in written
    assert "{drivers}" in written

    assert [key for key, left in ends.items() if left == FOREVER] == []
    assert max(ends.values()) <= WEEK // timedelta(milliseconds=1)
