"""The same report with our echo and without it, in either order: a lost answer is made good.

Nobody stored what Meta answered, so that reports alone can tell the message its wamid.
"""

import asyncio
from dataclasses import replace
from itertools import permutations

import pytest

from shared.kernel.clock import utc_now
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import StatusReport
from whatsapp.domain.value_objects import MessageStatus

pytestmark = pytest.mark.postgres

S = MessageStatus
REPORTED = (S.SENT, S.DELIVERED, S.READ, S.FAILED)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
def lost(at, message, superuser):
    """`await lost(ana)`: the id of a message whose request left, and whose answer nobody has."""

    async def lost(customer, status="unknown"):
        async with at(customer) as desk:
            saved = await desk.messages.save_outbound(message(customer))
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET attempts = 1, status = $2 WHERE id = $1",
            saved.id,
            status,
        )
        await superuser.execute(
            "UPDATE whatsapp_send_queue SET attempt = 1, state = 'unknown' WHERE id = $1", saved.id
        )
        return saved.id

    return lost


def named(message_id, status=S.DELIVERED, at=None):
    failure = FailureReason(131026, "Undeliverable", "") if status is S.FAILED else None
    return StatusReport(
        wamid=f"wamid.{message_id}",
        status=status,
        occurred_at=at or utc_now().replace(microsecond=0),
        message_id=message_id,
        attempt=1,
        failure=failure,
        errors=[] if failure is None else [{"code": failure.code, "title": "", "details": ""}],
    )


def unnamed(report):
    return replace(report, message_id=None, attempt=None)


@pytest.fixture
def tell(at):
    """As the intake does: what does not name its message waits for answers first."""

    async def tell(customer, *reports):
        async with at(customer) as desk:
            if strays := [one.wamid for one in reports if one.message_id is None]:
                await desk.messages.expect_answers(customer.channel.id, strays)
            return await desk.messages.record_statuses(customer.channel.id, reports)

    return tell


async def standing(superuser, message_id):
    row = await superuser.fetchrow(
        "SELECT status, wamid, (SELECT count(*) FROM whatsapp_send_queue q WHERE q.id = m.id)"
        " AS entries, (SELECT count(*) FROM whatsapp_status_events e WHERE e.wamid = $2"
        " AND message_id IS NULL) AS parked"
        " FROM whatsapp_outbound_messages m WHERE id = $1",
        message_id,
        f"wamid.{message_id}",
    )
    return tuple(row)


@pytest.mark.parametrize("before", ["unknown", "sending"])
@pytest.mark.parametrize("status", REPORTED)
@pytest.mark.parametrize("turn", ["unnamed first", "named first"])
async def test_either_teaches_the_message_its_wamid_and_settles_it(
    ana, lost, tell, superuser, before, status, turn
):
    message_id = await lost(ana, before)
    report = named(message_id, status)
    pair = [unnamed(report), report]

    for one in pair if turn == "unnamed first" else reversed(pair):
        await tell(ana, one)

    assert await standing(superuser, message_id) == (
        status.value,
        f"wamid.{message_id}",
        0,
        0,
    )


@pytest.mark.parametrize("turn", list(permutations(range(4))))
async def test_the_furthest_of_them_stands_in_any_order(ana, lost, tell, superuser, turn):
    """Two reports, each told both ways, in every order of their four bodies."""
    message_id = await lost(ana)
    sent, read = named(message_id, S.SENT), named(message_id, S.READ)
    bodies = [sent, unnamed(sent), read, unnamed(read)]

    for place in turn:
        await tell(ana, bodies[place])

    assert await standing(superuser, message_id) == ("read", f"wamid.{message_id}", 0, 0)


async def test_one_that_says_nothing_new_of_one_that_is_known_changes_nothing(ana, lost, tell):
    message_id = await lost(ana)
    report = named(message_id)
    await tell(ana, unnamed(report))
    await tell(ana, report)

    again = await tell(ana, report, unnamed(report))

    assert not any(one.moved for one in again.reports)
    assert not again.failed


@pytest.mark.parametrize("is_named", [True, False])
async def test_both_at_one_instant_wait_for_and_find_each_other(
    at, ana, lost, tell, is_waiting, superuser, is_named
):
    message_id = await lost(ana)
    report = named(message_id)
    one, other = (report, unnamed(report)) if is_named else (unnamed(report), report)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, at(ana) as desk:
        if one.message_id is None:
            await desk.messages.expect_answers(ana.channel.id, [one.wamid])
        await desk.messages.record_statuses(ana.channel.id, [one])
        telling = tasks.create_task(tell(ana, other))
        await is_waiting(telling)
        await desk.uow.commit()

    assert await standing(superuser, message_id) == ("delivered", f"wamid.{message_id}", 0, 0)


@pytest.mark.parametrize("before", ["failed", "cancelled", "expired"])
@pytest.mark.parametrize("status", REPORTED)
@pytest.mark.parametrize("repeats", [False, True])
async def test_one_that_was_given_up_learns_its_wamid_too(
    ana, lost, tell, superuser, before, status, repeats
):
    """Also where nothing moves: what people answer to it is found by its wamid alone."""
    message_id = await lost(ana, before)
    report = named(message_id, status)
    if repeats:
        await tell(ana, unnamed(report))

    await tell(ana, report)

    standing_now, wamid, _, parked = await standing(superuser, message_id)
    stays = before == "failed" and status is S.SENT
    assert standing_now == ("failed" if stays else status.value)
    assert (wamid, parked) == (f"wamid.{message_id}", 0)
