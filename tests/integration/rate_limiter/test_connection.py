"""Connecting: bounds, time-outs, and what a server must promise."""

import asyncio
import logging
import time
from datetime import timedelta

import pytest
from redis.exceptions import NoScriptError, ResponseError

from shared.infrastructure.redis import RedisUnavailable, assert_noeviction, connect
from shared.infrastructure.redis.errors import redis_errors_translated
from shared.kernel.errors import Misconfigured

pytestmark = [pytest.mark.redis, pytest.mark.xdist_group("rate_limiter")]


async def test_a_server_that_keeps_its_keys_is_accepted(client):
    await assert_noeviction(client)


@pytest.mark.parametrize("policy", ["volatile-ttl", "allkeys-lru", "volatile-lfu"])
async def test_a_server_that_evicts_is_refused(client, policy):
    await client.config_set("maxmemory-policy", policy)

    with pytest.raises(Misconfigured, match=policy):
        await assert_noeviction(client)


async def test_a_server_that_does_not_tell_its_policy_is_accepted_with_a_warning(
    start_redis, caplog
):
    server = start_redis("--rename-command", "CONFIG", "")
    client = connect(server.url)
    with caplog.at_level(logging.WARNING):
        await assert_noeviction(client)
    await client.aclose()

    assert "noeviction" in caplog.text


async def test_a_wrong_password_is_a_wrong_setting_and_is_not_shown(start_redis, laws):
    port = laws["free_port"]()
    with start_redis(port=port).client() as admin:
        admin.config_set("requirepass", "right-canary")
    client = connect(f"redis://:wrong-canary@127.0.0.1:{port}")
    with pytest.raises(Misconfigured) as refused, redis_errors_translated():
        await client.ping()
    await client.aclose()

    assert "canary" not in str(refused.value) + str(refused.value.__cause__)


async def test_more_callers_than_connections_wait_for_their_turn(server):
    client = connect(server.url, max_connections=2)
    answers = await asyncio.gather(*[client.ping() for _ in range(50)])
    with server.client() as direct:
        connections = len(direct.client_list()) - 1
    await client.aclose()

    assert all(answers)
    assert connections <= 2


async def reads_of(client) -> int:
    return (await client.info("stats"))["total_reads_processed"]


async def test_scripts_that_are_asked_for_in_one_turn_take_one_round_trip(client):
    digests = [await client.script_load(f"return {number}") for number in range(20)]
    before = await reads_of(client)
    answers = await asyncio.gather(*[client.execute_command("EVALSHA", d, 0) for d in digests])

    assert answers == list(range(20))
    assert await reads_of(client) - before <= 3  # Of which one asks for this number.


async def test_a_script_that_fails_concerns_none_that_went_with_it(client):
    good, bad = [await client.script_load(f"return {text}") for text in ("1", "x.y.z")]
    found = await asyncio.gather(
        *[client.execute_command("EVALSHA", digest, 0) for digest in (good, "0" * 40, bad, good)],
        return_exceptions=True,
    )

    assert found[0] == found[3] == 1
    assert isinstance(found[1], NoScriptError)
    assert isinstance(found[2], ResponseError)


async def test_scripts_that_go_together_end_within_the_time_out(server):
    client = connect(server.url, timeout=timedelta(seconds=0.2))
    digest = await client.script_load("return 1")
    before = time.monotonic()
    with server.paused():
        asked = [client.execute_command("EVALSHA", digest, 0) for _ in range(3)]
        found = await asyncio.gather(*asked, return_exceptions=True)
    again = await asyncio.gather(*[client.execute_command("EVALSHA", digest, 0) for _ in range(3)])
    await client.aclose()

    assert [type(one) for one in found] == [TimeoutError] * 3
    assert time.monotonic() - before < 1
    assert again == [1, 1, 1]


async def test_a_server_that_is_not_there_is_unavailable_at_once(tmp_path):
    client = connect(f"unix://{tmp_path}/none.sock")
    before = time.monotonic()
    with pytest.raises(RedisUnavailable), redis_errors_translated():
        await client.ping()
    await client.aclose()

    assert time.monotonic() - before < 1


async def test_a_server_that_hangs_is_unavailable_after_the_time_out(server):
    client = connect(server.url, timeout=timedelta(seconds=0.2))
    await client.ping()
    before = time.monotonic()
    with server.paused(), pytest.raises(RedisUnavailable), redis_errors_translated():
        await client.ping()
    await client.aclose()

    assert 0.2 <= time.monotonic() - before < 1


async def test_a_cancelled_task_ends_whenever_it_is_cancelled(server):
    client = connect(server.url)

    async def call_for_ever():
        while True:
            await client.ping()

    for wait in range(300):
        task = asyncio.create_task(call_for_ever())
        await asyncio.sleep((wait % 20) / 20_000)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done, "the cancellation was lost"
    await client.aclose()
