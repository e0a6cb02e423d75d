"""PostgreSQL or Redis is killed and comes back, connections are cut, Redis forgets: all goes on."""

import asyncio
from collections import Counter
from itertools import count
from statistics import mean

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from fleet import most_in_any_second
from shared.kernel.clock import utc_now
from tellwire.installation import open_installation
from whatsapp.domain.entities import WindowPolicy
from whatsapp.infrastructure.cloud_api.code_table import rule_for

RATE, OUTAGE_SECONDS, STORM_SECONDS = 80, 10, 60
pytestmark = [pytest.mark.soak, pytest.mark.timeout(450), pytest.mark.asyncio(loop_scope="session")]
_keys = count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def channel(crew):
    """A channel in the middle of sending, by three workers."""
    channel = await crew.fleet.new_channel(RATE, window_policy=WindowPolicy.ALLOW)
    await crew.fleet.enqueue(channel, 400)
    for _ in range(3):
        crew.start_worker()
    await crew.until_requests(80, or_for=60)
    return channel


async def all_is_well(crew, channel) -> None:
    """Everything is read once, and left no faster than it may."""
    await crew.settle(channel, within=120)
    verdict = await crew.judge(channel)
    assert verdict.is_clean, (verdict, crew.logs())
    assert set(verdict.statuses) == {"read"}, (verdict, crew.logs())
    departures = [at.timestamp() for at in await crew.fleet.departures(channel)]
    assert most_in_any_second(departures) <= RATE


async def api_key(crew, channel) -> str:
    async with open_installation(crew.fleet.settings) as installation:
        issued = await installation.create_api_key(
            channel.tenant_id, name="Test", scopes=["messages:send"]
        )
    return issued.text.reveal()


async def post(crew, channel, key):
    """Ask the API to send one message; gives its answer."""
    number = next(_keys)
    async with crew.fleet.http.post(
        f"{crew.api}/v1/messages",
        json={
            "channel_id": str(channel.id),
            "to": f"+4916{number:09}",
            "type": "text",
            "text": {"body": f"Posted {number}"},
        },
        headers={"Authorization": f"Bearer {key}"},
    ) as answer:
        return answer.status, answer.headers.get("Retry-After")


async def test_postgresql_is_gone_for_ten_seconds(crew, channel) -> None:
    key = await api_key(crew, channel)
    answers = []
    async with crew.without(crew.postgres, seconds=OUTAGE_SECONDS):
        for _ in range(5):
            answers.append(await post(crew, channel, key))
            await asyncio.sleep(0.5)

    assert {status for status, _ in answers} == {503}, answers
    assert all(again for _, again in answers), answers
    async with asyncio.timeout(30):
        while (await post(crew, channel, key))[0] != 202:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.2)
    await all_is_well(crew, channel)


async def test_redis_is_gone_for_ten_seconds(crew, channel) -> None:
    key = await api_key(crew, channel)
    async with crew.without(crew.redis, seconds=OUTAGE_SECONDS):
        await asyncio.sleep(2)
        silent_since = len(await crew.fleet.arrivals(channel))
        assert (await post(crew, channel, key))[0] == 202
        await asyncio.sleep(OUTAGE_SECONDS - 4)
        assert len(await crew.fleet.arrivals(channel)) == silent_since
    await all_is_well(crew, channel)


async def test_redis_forgets_everything_again_and_again(crew, channel) -> None:
    async with Redis.from_url(crew.redis.url) as redis:
        for _ in range(8):
            await redis.flushall()
            await asyncio.sleep(0.7)
    await all_is_well(crew, channel)


async def test_connections_to_postgresql_are_cut_again_and_again(crew, channel) -> None:
    cut = 0
    for _ in range(30):
        rows = await crew.fleet.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename LIKE 'tellwire%' AND pid <> pg_backend_pid()"
        )
        cut += len(rows)
        await asyncio.sleep(0.15)

    assert cut > 100
    await crew.reconnect()
    await all_is_well(crew, channel)


@pytest.mark.parametrize("code", [130429, 131056])
async def test_meta_refuses_everything_for_a_while(crew, code) -> None:
    """The number or each recipient is too fast, says Meta: nobody hammers, and all goes out."""
    channel = await crew.fleet.new_channel(RATE, window_policy=WindowPolicy.ALLOW)
    await crew.behave(channel, 10_000, error=code)
    await crew.fleet.enqueue(channel, 160)
    for _ in range(3):
        crew.start_worker()
    await crew.until_requests(1, or_for=20)
    await asyncio.sleep(3)
    refused = await crew.fleet.arrivals(channel)
    await crew.forgive()

    await all_is_well(crew, channel)
    tries = Counter(entry["callback"].split(".")[1] for entry in refused)
    assert {entry["code"] for entry in refused} == {code}
    assert max(tries.values()) <= 3
    # A number that is too fast rests a second after each refusal, whoever sends for it.
    assert code != 130429 or len(refused) < 4 * RATE / 2


@pytest.mark.timeout(700)
async def test_a_minute_of_refusals_of_all_kinds_ends_without_a_herd(crew, record_property) -> None:
    """The number, its recipients or Meta itself are in trouble, in turns, while work piles up."""
    channel = await crew.fleet.new_channel(RATE, window_policy=WindowPolicy.ALLOW)
    for code, share in {130429: 1 / 3, 131056: 1 / 2, 131016: 1}.items():
        await crew.behave(channel, 100_000, share=share, error=code)
    await crew.fleet.enqueue(channel, 1600)
    for _ in range(3):
        crew.start_worker()
    await crew.until_requests(1, or_for=20)
    await asyncio.sleep(STORM_SECONDS)
    refused = await crew.fleet.arrivals(channel)
    await crew.forgive()
    calm_since = utc_now().timestamp()

    await all_is_well(crew, channel)
    assert len(refused) < STORM_SECONDS * RATE / 4
    tries, tried_at = Counter(), {}
    for entry in refused:
        message, code = entry["callback"].split(".")[1], entry["code"]
        tries[message, code] += 1
        before, number, at = tried_at.get(message, (None, 0, 0))
        if before == 131056:  # The one policy here whose waits are certain but for what is added.
            policy = rule_for(before).retry
            assert entry["mono_ns"] / 1e9 - at > policy.window(number).total_seconds()
        tried_at[message] = (code, tries[message, code], entry["mono_ns"] / 1e9)
    assert {code for _, code in tries} == {130429, 131056, 131016}
    assert all(number <= rule_for(code).retry.retries + 1 for (_, code), number in tries.items())

    # All that has piled up is due at once, or comes back when its wait ends: at an even pace.
    departures = await crew.fleet.departures(channel)
    seconds = Counter(int(at.timestamp() - calm_since) for at in departures)
    calm = [seconds[second] for second in range(2, 17)]
    record_property("messages in each second after the storm", calm)
    assert max(calm) < 1.2 * mean(calm), calm
