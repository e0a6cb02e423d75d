"""Which of several workers serves a channel, on real Redis."""

import asyncio

import pytest

from shared.infrastructure.redis import connect
from shared.infrastructure.redis.errors import RedisUnavailable
from shared.kernel.ids import new_id
from whatsapp.domain.driving import Stance
from whatsapp.infrastructure.persistence.repositories import RedisChannelDrivers

CHANNEL, OTHER = new_id(), new_id()
ALONE, JOIN, RELIEVE, LOOK = Stance.ALONE, Stance.JOIN, Stance.RELIEVE, Stance.LOOK
SILENCE_SECONDS = 0.45


@pytest.fixture
async def redis(redis_url):
    client = connect(redis_url)
    await client.execute_command("DEL", "tellwire:{drivers}", "tellwire:{drivers}:workers")
    yield client
    await client.aclose()


@pytest.fixture
def ana(redis):
    return RedisChannelDrivers(redis, worker="ana")


@pytest.fixture
def bea(redis):
    return RedisChannelDrivers(redis, worker="bea")


@pytest.fixture
def eve(redis):
    return RedisChannelDrivers(redis, worker="eve")


async def drives(worker, stance=ALONE, channel=CHANNEL) -> bool:
    return channel in await worker.drive({channel: stance})


async def test_the_first_to_ask_serves_and_goes_on_serving(ana, bea) -> None:
    assert await drives(ana)
    assert not await drives(bea)
    assert await drives(ana)
    assert not await drives(bea)


async def test_channels_are_given_one_by_one(ana, bea) -> None:
    await drives(ana)

    assert await bea.drive({CHANNEL: ALONE, OTHER: ALONE}) == {OTHER}


async def test_others_step_in_within_half_a_second_when_the_driver_is_silent(ana, bea) -> None:
    await drives(ana)
    await asyncio.sleep(SILENCE_SECONDS)

    assert await drives(bea)
    assert not await drives(ana)


async def test_others_may_serve_at_once_what_the_driver_left(ana, bea) -> None:
    await drives(ana)
    await ana.leave([CHANNEL])

    assert await drives(bea)


async def test_leaving_takes_nothing_from_anybody_else(ana, bea, eve) -> None:
    await drives(ana)
    await bea.leave([CHANNEL])

    assert not await drives(eve)


async def test_a_full_driver_gets_company_which_goes_when_it_is_no_longer_needed(
    ana, bea, eve
) -> None:
    await drives(bea, JOIN)

    assert await drives(ana)
    assert not await drives(eve)  # Ana is not full.
    assert not await drives(bea)  # One of them is enough again.
    assert await drives(ana)


async def test_full_drivers_are_all_joined(ana, bea, eve) -> None:
    await drives(ana, JOIN)
    await drives(bea, JOIN)

    assert await drives(eve)
    assert await drives(ana, JOIN)
    assert await drives(bea, JOIN)


async def test_a_late_driver_goes_on_until_somebody_else_serves_in_its_place(ana, bea, eve) -> None:
    await drives(ana)
    assert await drives(ana, RELIEVE)

    assert await drives(bea)
    assert not await drives(ana, RELIEVE)
    assert not await drives(eve)
    assert await drives(bea)


async def test_looking_takes_nothing(ana, bea) -> None:
    assert await drives(ana, LOOK)
    assert await drives(bea)
    assert not await drives(ana, LOOK)
    assert await drives(bea, RELIEVE)
    assert await drives(ana, LOOK)
    assert await drives(bea)


async def test_each_worker_knows_how_many_there_are(ana, bea) -> None:
    assert ana.workers == 1
    await ana.drive({})
    await bea.drive({})

    assert bea.workers == 2


async def test_redis_may_forget_everything(ana, bea, redis) -> None:
    await drives(ana)
    await redis.execute_command("SCRIPT", "FLUSH")
    await redis.execute_command("DEL", "tellwire:{drivers}")

    assert await drives(bea)
    assert not await drives(ana)


async def test_without_redis_nobody_says_who_serves(tmp_path) -> None:
    nobody = connect(f"unix://{tmp_path}/nothing")

    with pytest.raises(RedisUnavailable):
        await RedisChannelDrivers(nobody).drive({CHANNEL: ALONE})
    await nobody.aclose()
