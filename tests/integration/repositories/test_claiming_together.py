# ruff: noqa: S608  # the statements here are literals about one table of ours
"""Channels claimed on in one turn of the loop: one statement for a tenant, and to each its own."""

import asyncio
from datetime import timedelta

import pytest

from shared.infrastructure.database.driver_errors import InvalidValue
from shared.kernel.clock import utc_now
from whatsapp.domain.entities import Channel
from whatsapp.domain.send_queue import LANES
from whatsapp.domain.value_objects import AccessToken, PhoneNumber, Priority
from whatsapp.infrastructure.persistence.repositories.send_queue import MOST_CHANNELS

pytestmark = pytest.mark.postgres

QUEUE = "whatsapp_send_queue"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
CARLA = PhoneNumber("+4915112345678")


@pytest.fixture
def open_channels(at):
    """So many channels of a customer."""

    async def open_channels(customer, number):
        async with at(customer) as desk:
            channels = []
            for place in range(number):
                channel = Channel(
                    tenant_id=customer.tenant_id,
                    name=f"Channel {place}",
                    phone_number_id=f"77{place:04}",
                    access_token=AccessToken("EAAG-together"),
                )
                channel.verify(utc_now())
                channels.append(await desk.channels.add(channel))
        return channels

    return open_channels


@pytest.fixture
def store(at, message):
    """Queue so many messages on a channel, in order; gives their ids."""

    async def store(customer, channel, number, **values):
        many = [message(customer, channel_id=channel.id, **values) for _ in range(number)]
        async with at(customer) as desk:
            await desk.messages.save_outbound_many(many)
        return [one.id for one in many]

    return store


@pytest.fixture
def claim_on(send_queue):
    """Claim on a channel."""

    def claim_on(channel, **values):
        given = {"limit": 100, "lease": MINUTE} | values
        return send_queue.claim(tenant_id=channel.tenant_id, channel_id=channel.id, **given)

    return claim_on


@pytest.fixture
def claims_of(superuser):
    """The transactions that claimed a customer's entries: how many entries of how many channels."""

    async def claims_of(customer):
        return await superuser.fetch(
            f"""SELECT count(*) AS entries, count(DISTINCT channel_id) AS channels,
                       count(DISTINCT lease_token) AS tokens
                FROM {QUEUE} q WHERE tenant_id = $1 AND state = 'leased' GROUP BY q.xmin::text
                ORDER BY 2""",
            customer.tenant_id,
        )

    return claims_of


def ids(entries):
    return [entry.message_id for entry in entries]


async def test_channels_of_a_tenant_are_claimed_on_by_one_statement_each_for_itself(
    ana, open_channels, store, claim_on, claims_of
):
    few, many, none = await open_channels(ana, 3)
    stored, others = await store(ana, few, 2), await store(ana, many, 5)
    of_few, of_many, of_none = await asyncio.gather(
        claim_on(few), claim_on(many, limit=3), claim_on(none)
    )

    assert (ids(of_few), ids(of_many), ids(of_none)) == (stored, others[:3], [])
    assert [one.leaves_due for one in (of_few, of_many, of_none)] == [False, True, False]
    assert {(one.channel_id, one.attempt) for one in of_many} == {(many.id, 1)}
    (claim,) = await claims_of(ana)
    assert (claim["entries"], claim["channels"], claim["tokens"]) == (5, 2, 2)


async def test_what_is_claimed_together_is_held_by_its_own_claim_alone(
    ana, open_channels, store, claim_on, send_queue
):
    channels = await open_channels(ana, 3)
    for channel in channels:
        await store(ana, channel, 2)
    claims = await asyncio.gather(*map(claim_on, channels))

    for one in claims:
        assert await send_queue.mark(one, lease=MINUTE) == set(ids(one))
    assert not any(await asyncio.gather(*map(claim_on, channels)))


async def test_claims_on_one_channel_share_no_entry_and_miss_none(
    ana, open_channels, store, claim_on, send_queue
):
    (channel,) = await open_channels(ana, 1)
    stored = await store(ana, channel, 5)
    claims = await asyncio.gather(*(claim_on(channel, limit=2) for _ in range(3)))

    assert sorted(entry for one in claims for entry in ids(one)) == sorted(stored)
    assert [one.leaves_due for one in claims if len(one) == 2] == [True, True]
    for one in claims:
        assert await send_queue.mark(one, lease=MINUTE) == set(ids(one))


async def test_each_channel_keeps_its_own_lanes_order_and_lease(
    ana, open_channels, store, claim_on, superuser
):
    ordered, free, turned = await open_channels(ana, 3)
    first, _ = await store(ana, ordered, 2, recipient=CARLA)
    both = await store(ana, free, 2, recipient=PhoneNumber("+4915212345678"))
    bulk = await store(ana, turned, 1, priority=Priority.BULK)
    high = await store(ana, turned, 1, priority=Priority.HIGH)
    claims = await asyncio.gather(
        claim_on(ordered, lease=HOUR),
        claim_on(free, in_order=False),
        claim_on(turned, lanes=LANES[::-1]),
    )

    assert [ids(one) for one in claims] == [[first], both, bulk + high]
    assert [one.leaves_due for one in claims] == [True, False, False]

    minutes = await superuser.fetch(
        "SELECT DISTINCT channel_id, round(extract(epoch FROM lease_until - now()) / 60)"
        f" FROM {QUEUE} WHERE state = 'leased'"
    )
    assert dict(map(tuple, minutes)) == {ordered.id: 60, free.id: 1, turned.id: 1}


async def test_no_statement_claims_on_more_channels_than_its_plan_expects(
    ana, open_channels, store, claim_on, claims_of
):
    channels = await open_channels(ana, MOST_CHANNELS + 2)
    stored = [await store(ana, channel, 1) for channel in channels]
    claims = await asyncio.gather(*map(claim_on, channels))

    assert list(map(ids, claims)) == stored
    assert [one["channels"] for one in await claims_of(ana)] == [2, MOST_CHANNELS]


async def test_what_goes_wrong_with_a_statement_is_told_to_all_that_went_with_it(
    ana, open_channels, store, claim_on
):
    wrong, right = await open_channels(ana, 2)
    stored = await store(ana, right, 1)
    failed = await asyncio.gather(
        claim_on(wrong, limit=-1), claim_on(right), return_exceptions=True
    )

    assert [type(one) for one in failed] == [InvalidValue] * 2
    assert ids(await claim_on(right)) == stored
