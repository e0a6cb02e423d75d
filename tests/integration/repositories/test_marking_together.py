# ruff: noqa: S608  # the statements here are literals about one table of ours
"""Groups that are marked in one turn of the loop: one statement for a tenant, an answer to each."""

import asyncio
from datetime import timedelta

import pytest

from whatsapp.domain.value_objects import PhoneNumber
from whatsapp.infrastructure.persistence.repositories.send_queue import MOST_MARKED

pytestmark = pytest.mark.postgres

QUEUE = "whatsapp_send_queue"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def store(at, message):
    """Queue so many messages of a customer, each to somebody else."""

    async def store(customer, size):
        many = [message(customer, recipient=PhoneNumber(f"+4915200{n:06}")) for n in range(size)]
        async with at(customer) as desk:
            await desk.messages.save_outbound_many(many)

    return store


@pytest.fixture
def marks_of(superuser):
    """The transactions that marked a customer's entries, each with how many minutes it gave."""

    async def marks_of(customer):
        return await superuser.fetch(
            f"""SELECT q.xmin::text AS marked_by, count(*) AS number,
                       round(extract(epoch FROM max(lease_until) - now()) / 60) AS most,
                       round(extract(epoch FROM min(lease_until) - now()) / 60) AS least
                FROM {QUEUE} q WHERE tenant_id = $1 AND state = 'dispatching' GROUP BY 1""",
            customer.tenant_id,
        )

    return marks_of


def ids(entries):
    return {entry.message_id for entry in entries}


async def test_a_tenants_groups_are_marked_by_one_statement(
    ana, store, claim, send_queue, marks_of
):
    await store(ana, 6)
    one, other = await claim(ana, limit=4), await claim(ana)
    held = await asyncio.gather(
        send_queue.mark(one, lease=MINUTE), send_queue.mark(other, lease=HOUR)
    )

    assert held == [ids(one), ids(other)]
    (mark,) = await marks_of(ana)
    assert (mark["number"], mark["least"], mark["most"]) == (6, 1, 60)


@pytest.mark.parametrize("first", [True, False])
async def test_who_has_lost_a_message_does_not_take_its_new_holders_mark_for_its_own(
    ana, store, claim, send_queue, first
):
    await store(ana, 3)
    lost = await claim(ana, limit=2, lease=-MINUTE)
    ours = await claim(ana)  # Among them those two.
    groups = [lost, ours] if first else [ours, lost]
    held = await asyncio.gather(*(send_queue.mark(group, lease=MINUTE) for group in groups))

    assert dict(zip(map(id, groups), held, strict=True)) == {id(lost): set(), id(ours): ids(ours)}


async def test_what_a_crash_took_back_is_missing_in_its_own_group_alone(
    ana, store, claim, send_queue, superuser
):
    await store(ana, 6)
    one, other = await claim(ana, limit=3), await claim(ana)
    await superuser.execute(
        f"UPDATE {QUEUE} SET state = 'ready', lease_token = NULL, lease_until = NULL WHERE id = $1",
        one[1].message_id,
    )
    held = await asyncio.gather(*(send_queue.mark(group, lease=MINUTE) for group in (one, other)))

    assert held == [ids([one[0], one[2]]), ids(other)]


async def test_no_tenant_waits_for_a_row_of_another(
    ana, bea, store, claim, send_queue, superuser, marks_of
):
    for customer in (ana, bea):
        await store(customer, 1)
    hers, others = await claim(ana), await claim(bea)
    async with superuser.transaction():
        await superuser.execute(f"SELECT FROM {QUEUE} WHERE id = $1 FOR UPDATE", *ids(others))
        late = asyncio.create_task(send_queue.mark(others, lease=MINUTE))
        async with asyncio.timeout(5):
            assert await send_queue.mark(hers, lease=MINUTE) == ids(hers)
        assert not late.done()
    assert await late == ids(others)
    assert [len(await marks_of(customer)) for customer in (ana, bea)] == [1, 1]


async def test_no_statement_marks_more_than_it_may(ana, store, claim, send_queue, marks_of):
    groups, size = 5, MOST_MARKED // 4
    await store(ana, groups * size)
    claimed = [await claim(ana, limit=size) for _ in range(groups)]
    held = await asyncio.gather(*(send_queue.mark(one, lease=MINUTE) for one in claimed))

    assert held == [ids(one) for one in claimed]
    assert sorted(mark["number"] for mark in await marks_of(ana)) == [size, 4 * size]
