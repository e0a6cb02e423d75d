"""What comes in is counted against the rate of its number, by whichever way it was stored."""

from datetime import timedelta

import pytest

from shared.infrastructure.database import create_engine
from shared.infrastructure.redis import connect
from tellwire.worker import _webhooks
from webhook_bodies import APP, body, inbound_to, new_wamid, number_of, status_of
from whatsapp.application.process_webhooks import count_nothing, do_nothing
from whatsapp.domain.send_queue import Lease
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres
RATE = 80


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


async def test_what_is_new_is_counted_once_on_its_number(intake, ana, bea) -> None:
    again = inbound_to(ana)

    await intake.take_in(
        body(again, inbound_to(ana), inbound_to(bea)), body(again, status_of(bea, new_wamid()))
    )
    await intake.take_in(body(again, time=1))

    assert sorted(intake.debits.taken) == [(number_of(ana), 2, RATE), (number_of(bea), 1, RATE)]


async def test_a_number_that_two_tenants_have_is_counted_once(intake, ana, bea) -> None:
    await intake.superuser.execute(
        "UPDATE whatsapp_channels SET phone_number_id = $1 WHERE id = $2",
        *(number_of(ana), bea.channel.id),
    )

    await intake.take_in(body(inbound_to(ana), inbound_to(ana)))

    assert len(await intake.inbound(ana)) == len(await intake.inbound(bea)) == 2
    assert intake.debits.taken == [(number_of(ana), 2, RATE)]


async def test_what_is_stored_beside_something_broken_is_counted_too(intake, ana, bea) -> None:
    poison = new_wamid()
    intake.poison.add(poison)

    await intake.take_in(
        body(inbound_to(bea), inbound_to(ana), inbound_to(ana, poison), inbound_to(ana)),
        body(inbound_to(ana)),
    )

    assert sorted(intake.debits.taken) == [(number_of(ana), 3, RATE), (number_of(bea), 1, RATE)]


async def test_the_worker_has_what_comes_in_make_room(
    intake, sessions, database, ana, redis_url
) -> None:
    """As a worker assembles it: a number on which much came in has no slot for a while."""
    redis, engine = connect(redis_url), create_engine(database.url("tellwire_process"))
    limiter, number = RedisRateLimiter(redis), number_of(ana)
    processing, _ = _webhooks(
        engine,
        work_in(sessions),
        limiter,
        Lease(timedelta(seconds=30)),
        stretch=lambda: 1.0,
        count=count_nothing,
        look=do_nothing,
    )
    assert await limiter.wait_for_slot(number, rate=RATE, within=timedelta(seconds=30))
    before = await limiter.check_rate_limit(number, rate=RATE)

    await intake.inbox.append(APP, body(*(inbound_to(ana) for _ in range(2 * RATE))))
    assert await processing.work() == 1

    after = await limiter.check_rate_limit(number, rate=RATE)
    assert before.retry_after < timedelta(milliseconds=100) < after.retry_after
    await redis.aclose()
    await engine.dispose()
