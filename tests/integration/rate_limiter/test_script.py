"""The real script in a real Redis."""

import asyncio
import re
import runpy
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from shared.infrastructure.redis import RedisUnavailable
from whatsapp.domain.rate_limit import LATENESS, MAX_HORIZON, MAX_LATENESS, spacing_micros
from whatsapp.infrastructure.persistence.repositories.rate_limiter import _script, rate_key

pytestmark = [pytest.mark.redis, pytest.mark.xdist_group("rate_limiter")]
m = runpy.run_path(str(Path(__file__).parents[2] / "rate_limit_model.py"))

KEY = rate_key("100")
IN_A_SECOND = pytest.approx(1.0, abs=0.3)


class BothScripts:
    """The model and the real script side by side; any difference between them is an error.

    Only the two lines that ask Redis for the time and for its run id are replaced.
    """

    def __init__(self, client):
        text = _script("rate_limiter.lua")[0]
        text = substitute(text, "redis.call('TIME')", "{ 0, ARGV[#ARGV - 1] }")
        text = substitute(text, "redis.call('INFO', 'server')", "'run_id:' .. ARGV[#ARGV]")
        self.client, self.script, self.model = client, client.register_script(text), m["Model"]()
        self.drop()

    def drop(self):
        self.client.delete(KEY)
        self.model.drop()

    def snapshot(self):
        return self.client.get(KEY), self.model.snapshot()

    def restore(self, snapshot):
        self.drop()
        kept, modelled = snapshot
        if kept is not None:
            self.client.set(KEY, kept)
        self.model.restore(modelled)

    def call(self, now, server, *args):
        server_name, *reply = self.script(keys=[KEY], args=[*args, now, server])
        expected = self.model.call(now, server, *args)
        assert [server_name.decode(), *reply] == expected
        return expected


def substitute(text, old, new):
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.timeout(1800)  # A minute where nothing else runs, and by the calls, not by waiting.
def test_the_script_does_what_the_model_does_whatever_happens(server):
    events = m["days"](*m["CALLS"], *m["ACCIDENTS"], m["SLOW"], m["RAISE_OR_LOWER"])

    with server.client() as client:

        @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
        @given(rate=m["RATE"], events=events)
        def law(rate, events):
            world = m["World"](BothScripts(client))
            m["play"](world, rate, events)
            assert m["overfull_seconds"](world.sent) == []

        law()


def test_script_and_python_agree_on_their_constants():
    found = dict(
        re.findall(r"^local ([A-Z_]+) = (\d+)", _script("rate_limiter.lua")[0], re.MULTILINE)
    )

    assert int(found["MAX_HORIZON"]) == MAX_HORIZON // timedelta(microseconds=1)
    assert int(found["LATENESS"]) == LATENESS // timedelta(microseconds=1)
    assert int(found["MAX_LATENESS"]) == MAX_LATENESS // timedelta(microseconds=1)
    assert spacing_micros(1) == (timedelta(seconds=1) + LATENESS) // timedelta(microseconds=1)


async def test_a_number_that_redis_does_not_know_waits_for_a_second(limiter):
    first = await limiter.consume_token("100")

    assert not first
    assert first.retry_after.total_seconds() == IN_A_SECOND
    await asyncio.sleep(first.retry_after.total_seconds())
    assert await token(limiter)


@pytest.mark.parametrize("loss", ["flushall", "delete", "garbage"])
async def test_a_lost_or_broken_key_costs_a_second_once(limiter, client, loss):
    await ready(limiter)
    if loss == "flushall":
        await client.flushall()
    elif loss == "delete":
        await client.delete(KEY)
    else:
        await client.set(KEY, "1 2 three")

    assert (await limiter.consume_token("100")).retry_after.total_seconds() == IN_A_SECOND
    await asyncio.sleep(1.05)
    assert await token(limiter)


async def test_looking_takes_nothing_but_starts_the_wait_of_an_unknown_number(limiter):
    assert (await limiter.check_rate_limit("100")).remaining == 0
    await asyncio.sleep(1.05)

    for _ in range(5):
        assert await limiter.check_rate_limit("100")
        assert await limiter.get_remaining_tokens("100", rate=80) == 80
    assert await token(limiter)


async def test_a_token_is_for_now_and_the_next_comes_one_spacing_later(limiter):
    await ready(limiter)

    async def two():
        taken = await limiter.consume_token("100", rate=20)
        refused = await limiter.consume_token("100", rate=20)
        return taken, refused, await limiter.check_rate_limit("100", rate=20)

    taken, refused, looked = await promptly(two, within=0.007)

    assert (bool(taken), bool(refused), bool(looked)) == (True, False, False)
    assert 0.03 < refused.retry_after.total_seconds() <= 0.0504
    await asyncio.sleep(refused.retry_after.total_seconds())
    assert await token(limiter, rate=20)


async def test_several_tokens_are_all_taken_or_none_and_lie_apart(limiter):
    await ready(limiter)

    async def three_and_three():
        taken = await limiter.consume_token("100", 3, rate=80)
        return taken, time.monotonic(), await limiter.consume_token("100", 3, rate=80)

    taken, after, refused = await promptly(three_and_three, within=0.007)

    assert [round(b.at - a.at, 4) for a, b in pairwise(taken.slots)] == [0.0126, 0.0126]
    assert taken.slots[0].at <= after < taken.slots[-1].at
    assert not refused


async def test_a_reservation_lies_within_its_horizon_and_the_next_follows_it(limiter):
    await ready(limiter)

    async def reserve_three():
        return [
            await limiter.reserve("100", count=n, rate=80, horizon=timedelta(milliseconds=horizon))
            for n, horizon in ((1000, 100), (2, 150), (2, 50))
        ]

    first, second, third = await promptly(reserve_three, within=0.05)

    assert len(first.slots) + first.forfeited == 8
    apart = second.slots[0].at - first.slots[-1].at
    assert apart == pytest.approx(0.0126, abs=doubt(first.slots[-1]) + 2e-6)
    assert not third
    assert 0.02 < third.retry_after.total_seconds() < 0.1


async def test_no_horizon_is_longer_than_the_longest(limiter):
    await ready(limiter)

    taken = await limiter.reserve("100", count=5_000, rate=1000, horizon=timedelta(hours=1))

    # What came too late to be used was granted all the same.
    assert len(taken.slots) + taken.forfeited == 0.25 // 0.001008 + 1


async def test_a_held_number_gets_no_slot_until_the_hold_ends(limiter):
    await ready(limiter)
    await limiter.hold("100", timedelta(seconds=0.5))
    await limiter.hold("100", timedelta(seconds=0.1))  # The longer one counts.

    refused = await limiter.consume_token("100")

    assert refused.retry_after.total_seconds() == pytest.approx(0.5, abs=0.1)
    await asyncio.sleep(refused.retry_after.total_seconds())
    assert await token(limiter)


async def test_inbound_messages_are_counted_but_never_for_more_than_a_second(limiter):
    await ready(limiter)
    await limiter.debit("100", 10, rate=20)
    after_ten = (await limiter.check_rate_limit("100", rate=20)).retry_after
    await limiter.debit("100", 10_000, rate=20)
    after_many = (await limiter.check_rate_limit("100", rate=20)).retry_after

    assert after_ten.total_seconds() == pytest.approx(0.504, abs=0.1)
    assert after_many.total_seconds() == pytest.approx(1.0, abs=0.1)


async def test_slowing_down_widens_the_spacing_and_one_burst_of_refusals_counts_once(limiter):
    await ready(limiter)
    for _ in range(20):
        await limiter.slow_down("100")

    taken = await two_slots(limiter)

    assert taken.slots[1].at - taken.slots[0].at == pytest.approx(0.0126 / 0.95, abs=2e-6)


async def test_a_slowed_number_is_back_at_its_rate_when_the_time_is_over(limiter):
    await ready(limiter)
    await limiter.slow_down("100", factor=0.5, duration=timedelta(seconds=1))
    await asyncio.sleep(1.05)

    taken = await two_slots(limiter)

    assert taken.slots[1].at - taken.slots[0].at == pytest.approx(0.0126, abs=2e-6)


async def test_redis_may_forget_the_script(limiter, client):
    await ready(limiter)
    await client.script_flush()

    assert await token(limiter)


async def test_a_key_lives_for_days_and_carries_a_hash_tag(limiter, client):
    await limiter.consume_token("100")

    assert KEY == "tellwire:rate:{100}"
    assert await client.ttl(KEY) == pytest.approx(3 * 86_400, abs=5)


async def test_a_full_redis_hands_out_nothing(limiter, client):
    await ready(limiter)
    await client.config_set("maxmemory", "1")

    with pytest.raises(RedisUnavailable):
        await limiter.consume_token("100")


async def test_a_replica_hands_out_nothing(limiter, server, start_redis, laws):
    await ready(limiter)
    master = start_redis(port=laws["free_port"]())
    with server.client() as client:
        client.replicaof("127.0.0.1", master.port)

    with pytest.raises(RedisUnavailable):
        await limiter.consume_token("100")


async def test_a_redis_that_hangs_is_given_up_in_time(limiter, server):
    await ready(limiter)
    limiter._redis.command_timeout = 0.2
    before = time.monotonic()
    with server.paused(), pytest.raises(RedisUnavailable):
        await limiter.consume_token("100")

    assert 0.2 <= time.monotonic() - before < 1.0


async def test_waiting_gives_one_slot_after_another_and_none_beyond_its_patience(limiter):
    await ready(limiter)
    patience = timedelta(seconds=1)
    slots = [await limiter.wait_for_slot("100", rate=80, within=patience) for _ in range(5)]
    await limiter.hold("100", timedelta(seconds=5))

    # Between two calls, what is known of Redis's clock may have become better: up to 8 ms.
    assert all(b.at - a.at > 0.0126 - 0.008 for a, b in pairwise(slots))
    assert all(b.latest - a.latest > 0.0126 - 0.008 for a, b in pairwise(slots))
    assert await limiter.wait_for_slot("100", rate=80, within=timedelta(milliseconds=50)) is None


async def two_slots(limiter):
    """Two slots of one reservation; on a busy machine the first may be forfeited on its way."""
    while True:
        taken = await limiter.reserve("100", count=2, rate=80)
        if len(taken.slots) == 2:
            return taken


async def token(limiter, **how):
    """A token, which is there: only one that this process was too late for is asked for again."""
    for _ in range(200):
        if got := await limiter.consume_token("100", **how):
            return got
        assert got.forfeited
        await asyncio.sleep(got.retry_after.total_seconds())
    return pytest.fail("the machine was not in time once")


async def promptly(work, *, within):
    """What `work` gives once the machine runs it in so many seconds: what it takes goes by."""
    for _ in range(50):
        before = time.monotonic()
        given = await work()
        if time.monotonic() - before < within:
            return given
        await asyncio.sleep(2 * MAX_HORIZON.total_seconds())
    return pytest.fail("the machine did not run it in time once")


def doubt(slot):
    """How little is known of Redis's clock: by so much it may become better until the next call."""
    return LATENESS.total_seconds() - (slot.latest - slot.at)


async def ready(limiter):
    """Let the number's first second pass."""
    await limiter.check_rate_limit("100")
    await asyncio.sleep(1.01)
