# ruff: noqa: S608  # the statements here are literals about one table of ours
"""Claims of many workers at once: nothing twice, nothing out of turn, nothing another may take."""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from itertools import count
from random import Random
from statistics import median

import asyncpg
import pytest

from shared.kernel.clock import utc_now
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.send_queue import RETRY_LANES, UNKNOWN_LANES
from whatsapp.domain.value_objects import MessageStatus, PhoneNumber, Priority

pytestmark = pytest.mark.postgres

_calls = count(1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
def store(at, message):
    """Queue messages of a customer, to as many recipients as are named."""

    async def store(customer, size, *, recipients=1000, **values):
        to = [PhoneNumber(f"+4915200000{n % recipients:03}") for n in range(size)]
        # Several calls in one test are to several people as well.
        shift = next(_calls) if recipients == 1000 else 0
        to = [PhoneNumber(f"{one.e164}{shift}") for one in to]
        many = [message(customer, recipient=recipient, **values) for recipient in to]
        async with at(customer) as desk:
            return await desk.messages.save_outbound_many(many)

    return store


def ids(entries):
    return [entry.message_id for entry in entries]


# --- Claiming ------------------------------------------------------------------------------------


async def test_sixteen_workers_never_claim_one_entry_twice_nor_more_than_they_asked_for(
    ana, store, claim
):
    saved = await store(ana, 300)
    claimed, sizes, rng = Counter(), [], Random(3)

    async def worker():
        while True:
            limit = rng.randint(1, 9)
            entries = await claim(ana, limit)
            sizes.append((limit, len(entries)))
            claimed.update((entry.message_id, entry.attempt) for entry in entries)
            if not entries:
                return

    await asyncio.gather(*(worker() for _ in range(16)))

    assert set(claimed) == {(one.id, 1) for one in saved}
    assert set(claimed.values()) == {1}
    assert all(got <= limit for limit, got in sizes)


@pytest.mark.parametrize(
    "setting",
    ["enable_nestloop", "enable_hashjoin", "enable_mergejoin", "enable_indexscan", "enable_sort"],
)
async def test_a_claim_keeps_its_limit_whatever_plan_the_planner_chooses(
    superuser, ana, store, claim, setting
):
    await superuser.execute(f"ALTER ROLE tellwire_dispatch SET {setting} = off")
    try:
        await store(ana, 60)
        assert [len(await claim(ana, 7)) for _ in range(3)] == [7, 7, 7]
    finally:
        await superuser.execute(f"ALTER ROLE tellwire_dispatch RESET {setting}")


async def test_messages_to_one_recipient_go_out_in_the_order_they_were_accepted(
    ana, at, store, claim, send_queue
):
    saved = await store(ana, 90, recipients=3)
    sent, busy = [], set()
    recipient = {one.id: one.recipient for one in saved}

    async def worker():
        while len(sent) < len(saved):
            for entry in await claim(ana, 5):
                to = recipient[entry.message_id]
                assert to not in busy
                busy.add(to)
                await send_queue.mark([entry], lease=MINUTE)
                sent.append(entry.message_id)
                busy.discard(to)
                async with at(ana) as desk:
                    found = await desk.messages.get_outbound_by_id(entry.message_id)
                    found.accept(f"wamid.{entry.message_id}", utc_now())
                    await settle(desk, entry)

    await asyncio.wait_for(asyncio.gather(*(worker() for _ in range(4))), 60)

    for to in {one.recipient for one in saved}:
        assert [i for i in sent if recipient[i] == to] == [
            one.id for one in saved if one.recipient == to
        ]


async def settle(desk, entry, status=MessageStatus.SENT):
    now = utc_now()
    recorded = await desk.messages.record_attempts(
        [
            AttemptResult(
                message_id=entry.message_id,
                lease_token=entry.lease_token,
                number=entry.attempt,
                status=status,
                outcome="accepted",
                started_at=now,
                finished_at=now,
                due_at=now + MINUTE,
            )
        ]
    )
    assert recorded.held == {entry.message_id}


async def test_a_recipient_whose_message_waits_for_a_retry_gets_no_later_one_first(
    ana, at, store, claim, send_queue
):
    first, second = await store(ana, 2, recipients=1)
    (entry,) = await claim(ana)
    await send_queue.mark([entry], lease=MINUTE)
    async with at(ana) as desk:
        await settle(desk, entry, MessageStatus.RETRYING)

    assert entry.message_id == first.id
    assert not await claim(ana)
    async with at(ana) as desk:
        await desk.messages.delete(first.id)
    assert ids(await claim(ana)) == [second.id]


async def test_high_goes_first_and_what_is_not_due_does_not_go(ana, store, claim):
    (bulk,) = await store(ana, 1, priority=Priority.BULK)
    (normal,) = await store(ana, 1)
    (high,) = await store(ana, 1, priority=Priority.HIGH)
    await store(ana, 1, send_at=utc_now() + MINUTE)

    assert [ids(await claim(ana, 1))[0] for _ in range(3)] == [high.id, normal.id, bulk.id]
    assert not await claim(ana)


async def test_a_claim_gives_what_it_got_lane_by_lane_and_the_longest_due_first(
    ana, store, claim, superuser
):
    stored = {
        lane: await store(ana, 20, priority=lane)
        for lane in (Priority.BULK, Priority.NORMAL, Priority.HIGH)
    }
    # As a rest, a retry and a scheduled message leave it: due in another order than accepted.
    for number, one in enumerate(stored[Priority.NORMAL]):
        await superuser.execute(
            "UPDATE whatsapp_send_queue SET due_at = due_at - $2::interval WHERE id = $1",
            one.id,
            number * SECOND,
        )

    high, normal, bulk = (
        [one.id for one in stored[lane]] for lane in (Priority.HIGH, Priority.NORMAL, Priority.BULK)
    )
    assert ids(await claim(ana)) == [*high, *reversed(normal), *bulk]


async def test_another_tenants_queue_is_not_claimed_for_this_channel(ana, bea, store, claim):
    await store(ana, 3)

    assert not await claim(bea)
    assert len(await claim(ana)) == 3


# --- Leases --------------------------------------------------------------------------------------


async def test_a_claim_whose_lease_ran_out_is_given_to_the_next(ana, store, claim, send_queue):
    (saved,) = await store(ana, 1)
    (lost,) = await claim(ana, lease=-SECOND)
    (found,) = await claim(ana)

    assert ids([lost, found]) == [saved.id, saved.id]
    assert lost.lease_token != found.lease_token
    assert found.attempt == 1
    for late in (send_queue.mark([lost], lease=MINUTE), send_queue.release([lost])):
        assert await late == frozenset()
    assert await send_queue.mark([found], lease=MINUTE) == {saved.id}


async def test_a_mark_fails_whose_claim_a_crash_took_back(ana, store, claim, send_queue, superuser):
    (saved,) = await store(ana, 1)
    (lost,) = await claim(ana)
    # Claims do not wait for the disk: a crash of PostgreSQL may leave the entry as it was before.
    await superuser.execute(
        f"UPDATE {QUEUE} SET state = 'ready', lease_token = NULL, lease_until = NULL"
    )

    assert await send_queue.mark([lost], lease=MINUTE) == frozenset()
    (again,) = await claim(ana)
    assert (again.message_id, again.attempt) == (saved.id, 1)
    assert await send_queue.mark([again], lease=MINUTE) == {saved.id}


async def test_claiming_stays_fast_while_somebody_keeps_an_old_snapshot(
    ana, at, store, claim, send_queue, superuser
):
    """What is deleted meanwhile cannot be cleaned up, and claims have to walk over it."""
    for _ in range(4):
        await store(ana, 1000)
    seconds = []
    async with superuser.transaction(isolation="repeatable_read"):
        await superuser.fetch(f"SELECT count(*) FROM {QUEUE}")
        while True:
            began = time.perf_counter()
            entries = await claim(ana, 100)
            seconds.append(time.perf_counter() - began)
            if not entries:
                break
            await send_queue.mark(entries, lease=MINUTE)
            async with at(ana) as desk:
                await desk.messages.record_attempts([sent(entry) for entry in entries])

    assert len(seconds) == 41
    assert median(seconds[-20:-1]) < 0.05


@pytest.mark.soak
async def test_no_claim_comes_back_short_while_somebody_keeps_an_old_snapshot(
    ana, at, store, claim, send_queue, superuser
):
    """At 80 per second this is what four minutes leave behind; autovacuum may not help either."""
    saved = [one.id for _ in range(20) for one in await store(ana, 1000)]
    claimed = []
    async with superuser.transaction(isolation="repeatable_read"):
        await superuser.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        seen = await superuser.fetchval(f"SELECT count(*) FROM {QUEUE}")
        while entries := await claim(ana, 500):
            assert len(entries) == 500
            claimed += ids(entries)
            assert await send_queue.mark(entries, lease=MINUTE) == set(ids(entries))
            async with at(ana) as desk:
                await desk.messages.record_attempts([sent(entry) for entry in entries])
        # To the old snapshot all of it is still there, so nothing of it could be cleaned up.
        assert await superuser.fetchval(f"SELECT count(*) FROM {QUEUE}") == seen >= len(saved)

    assert len(claimed) == len(set(claimed))
    assert set(claimed) == set(saved)


def sent(entry):
    now = utc_now()
    return AttemptResult(
        message_id=entry.message_id,
        lease_token=entry.lease_token,
        number=entry.attempt,
        status=MessageStatus.SENT,
        outcome="accepted",
        started_at=now,
        finished_at=now,
        wamid=f"wamid.{entry.message_id}",
    )


async def test_what_was_marked_is_never_claimed_again_however_old_its_lease(
    ana, store, claim, send_queue
):
    (saved,) = await store(ana, 1)
    entries = await claim(ana)
    assert await send_queue.mark(entries, lease=-SECOND) == {saved.id}

    assert not await claim(ana)
    assert await send_queue.mark(entries, lease=MINUTE) == frozenset()


async def test_a_mark_can_be_taken_back_and_an_entry_given_back(ana, store, claim, send_queue):
    (saved,) = await store(ana, 1)
    entries = await claim(ana)
    await send_queue.mark(entries, lease=MINUTE)
    assert await send_queue.unmark(entries) == {saved.id}
    assert await send_queue.release(entries) == {saved.id}

    (again,) = await claim(ana)
    assert (again.message_id, again.attempt) == (saved.id, 1)
    assert await send_queue.release([]) == frozenset()


async def test_work_is_found_channel_by_channel_behind_a_cursor(ana, bea, store, send_queue):
    await store(ana, 3)
    await store(bea, 1, send_at=utc_now() + MINUTE)
    mine = [(c.tenant_id, c.channel.id) for c in (ana, bea)]
    found, after = [], None
    while page := await send_queue.find_work(limit=1, **({"after": after} if after else {})):
        (work,) = page
        after = (work.tenant_id, work.channel_id)
        found.append(work)

    here = [w for w in found if (w.tenant_id, w.channel_id) in mine]
    assert [(w.tenant_id, w.channel_id) for w in here] == sorted(mine)
    assert {w.tenant_id: w.sending for w in here} == {ana.tenant_id: True, bea.tenant_id: False}
    assert len({(w.tenant_id, w.channel_id) for w in found}) == len(found)


async def work_of(customer, send_queue):
    (found,) = [w for w in await send_queue.find_work() if w.tenant_id == customer.tenant_id]
    return found


async def test_what_a_worker_holds_is_nothing_to_send_until_its_lease_has_ended(
    ana, store, claim, send_queue, superuser
):
    await store(ana, 3)
    assert (await work_of(ana, send_queue)).sending
    await claim(ana)
    assert not (await work_of(ana, send_queue)).sending

    await superuser.execute(
        "UPDATE whatsapp_send_queue SET lease_until = now() - interval '1 s' WHERE tenant_id = $1",
        ana.tenant_id,
    )
    assert (await work_of(ana, send_queue)).sending
    entries = await claim(ana)
    await send_queue.mark(entries, lease=timedelta())
    assert not (await work_of(ana, send_queue)).sending


async def test_retries_and_unknown_outcomes_that_are_due_are_seen(
    ana, store, send_queue, superuser
):
    saved = await store(ana, 4)
    for lane, due, (retrying, unknown) in (
        (RETRY_LANES + 2, "-1 s", (True, False)),
        (RETRY_LANES + 2, "1 h", (False, False)),
        (UNKNOWN_LANES, "-1 s", (False, True)),
        (UNKNOWN_LANES + 1, "1 h", (False, False)),
    ):
        await superuser.execute(
            "UPDATE whatsapp_send_queue SET lane = $2, due_at = now() + $3::text::interval"
            " WHERE id = $1",
            saved[0].id,
            lane,
            due,
        )
        work = await work_of(ana, send_queue)
        assert (work.sending, work.retrying, work.unknown) == (True, retrying, unknown)


async def test_a_claim_says_whether_it_left_something_that_is_due(ana, bea, store, claim):
    await store(ana, 3)
    await store(ana, 1, send_at=utc_now() + MINUTE)
    sizes = [(len(c), c.leaves_due) for c in [await claim(ana, n) for n in (2, 2, 2)]]
    assert sizes == [(2, True), (1, False), (0, False)]

    await store(bea, 2, recipients=1)
    sizes = [(len(c), c.leaves_due) for c in [await claim(bea) for _ in range(2)]]
    assert sizes == [(1, True), (0, True)]


async def test_channels_are_found_whose_marked_entries_outlived_their_lease(
    ana, bea, store, claim, send_queue
):
    mine = [(c.tenant_id, c.channel.id) for c in (ana, bea)]
    for customer, lease in ((ana, timedelta()), (bea, MINUTE)):
        await store(customer, 20)
        await send_queue.mark(await claim(customer, 3), lease=lease)

    assert await send_queue.find_abandoned(mine, limit=100) == mine[:1]
    assert not await send_queue.find_abandoned(mine[1:], limit=100)
    assert not await send_queue.find_abandoned([], limit=100)


# --- The role that claims ------------------------------------------------------------------------

QUEUE = "whatsapp_send_queue"
FORBIDDEN = [
    "SELECT body FROM whatsapp_outbound_messages",
    "SELECT recipient FROM whatsapp_outbound_messages",
    "SELECT id FROM whatsapp_outbound_messages",
    "SELECT access_token FROM whatsapp_channels",
    "SELECT id FROM whatsapp_channels",
    "SELECT 1 FROM tenants",
    "SELECT 1 FROM webhook_inbox",
    "SELECT 1 FROM meta_apps",
    f"DELETE FROM {QUEUE}",
    f"TRUNCATE {QUEUE}",
    f"INSERT INTO {QUEUE} SELECT * FROM {QUEUE}",
    f"UPDATE {QUEUE} SET state = 'retrying'",
    f"UPDATE {QUEUE} SET state = 'unknown'",
    f"UPDATE {QUEUE} SET tenant_id = tenant_id",
    f"UPDATE {QUEUE} SET recipient_key = 0",
    f"CREATE TEMP TABLE copy AS SELECT * FROM {QUEUE}",
]


@pytest.fixture
async def dispatch(database):
    connection = await asyncpg.connect(database.url("tellwire_dispatch").replace("+asyncpg", ""))
    yield connection
    await connection.close()


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_dispatcher_can_neither_read_a_payload_nor_settle(
    ana, store, dispatch, statement
):
    await store(ana, 1)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await dispatch.execute(statement)


async def test_the_dispatcher_locks_the_very_rows_it_sees(ana, bea, store, dispatch):
    for customer in (ana, bea):
        await store(customer, 2)
    tenants = [ana.tenant_id, bea.tenant_id]
    where = f"FROM {QUEUE} WHERE tenant_id = ANY($1) ORDER BY tenant_id, id"
    async with dispatch.transaction():
        seen = await dispatch.fetch(f"SELECT tenant_id, id {where}", tenants)
        locked = await dispatch.fetch(
            f"SELECT tenant_id, id {where} FOR UPDATE SKIP LOCKED", tenants
        )

    assert len(seen) == 4
    assert seen == locked


@pytest.mark.parametrize("state", ["retrying", "unknown"])
@pytest.mark.parametrize("change", ["state = 'ready', lease_token = NULL", "due_at = now()"])
async def test_the_dispatcher_cannot_touch_what_waits_for_somebody_elses_decision(
    ana, store, dispatch, superuser, state, change
):
    (saved,) = await store(ana, 1)
    await superuser.execute(f"UPDATE {QUEUE} SET state = $1 WHERE id = $2", state, saved.id)
    changed = await dispatch.execute(f"UPDATE {QUEUE} SET {change} WHERE id = $1", saved.id)

    assert changed == "UPDATE 0"


async def test_the_dispatcher_can_put_no_entry_into_a_state_that_is_not_its_own(
    ana, store, dispatch
):
    (saved,) = await store(ana, 1)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await dispatch.execute(f"UPDATE {QUEUE} SET state = 'unknown' WHERE id = $1", saved.id)
