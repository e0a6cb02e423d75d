"""Events are told once, forward only, in an order in which nobody can miss one."""

import asyncio
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.domain.events import EventType, MessageProgress, NewEvent
from whatsapp.domain.value_objects import MessageStatus

pytestmark = pytest.mark.postgres


async def open_stream(begin, customer):
    async with begin(customer.tenant_id) as work:
        await work.events.open()
        await work.commit()


async def record(begin, customer, *progress, others=()):
    async with begin(customer.tenant_id) as work:
        told = await work.events.record(progress=progress, others=others)
        await work.commit()
    return told


async def events_of(begin, customer, after=0):
    async with begin(customer.tenant_id) as work:
        return await work.events.list_after(after, limit=1000)


def progress(message, status=None, **given):
    given.setdefault("message_id", message.id)
    return MessageProgress(status=status and MessageStatus(status), occurred_at=utc_now(), **given)


def something(**given):
    return NewEvent(type=EventType.CHANNEL_PAUSED, occurred_at=utc_now(), data={}, **given)


async def test_nothing_is_kept_for_a_tenant_that_never_asked(begin, ana, sent, set_status):
    message = await sent(ana)
    await set_status(message, "sent")

    assert await record(begin, ana, progress(message)) == 0
    assert await events_of(begin, ana) == []


async def test_an_event_says_what_became_of_which_message(begin, ana, sent, set_status):
    await open_stream(begin, ana)
    message = await sent(ana, callback_data="mine")
    await set_status(message, "delivered", attempts=2)

    await record(begin, ana, progress(message, "delivered", attempt=2))

    (event,) = await events_of(begin, ana)
    assert event.type is EventType.MESSAGE_DELIVERED
    assert event.subject_id == message.id
    assert event.phone_number_id == "1001"
    assert event.data == {
        "message_id": str(message.id),
        "channel_id": str(ana.channel.id),
        "wamid": f"wamid.{message.id}",
        "status": "delivered",
        "recipient": message.recipient.e164,
        "metadata": {"order": "42"},
        "callback_data": "mine",
        "attempt": 2,
    }


async def test_each_step_is_told_once_however_often_it_is_reported(begin, ana, sent, set_status):
    await open_stream(begin, ana)
    message = await sent(ana)
    await set_status(message, "read")
    every = [progress(message, status, attempt=1) for status in ("read", "sent", "delivered")]

    assert await record(begin, ana, *every) == 3
    again = [progress(message, status, attempt=1) for status in ("sent", "delivered", "read")]
    assert await record(begin, ana, *again) == 0

    told = [event.type.value for event in await events_of(begin, ana)]
    assert told == ["message.sent", "message.delivered", "message.read"]


@pytest.mark.parametrize("status", ["delivered", "read"])
@pytest.mark.parametrize("attempts", [(1, 2), (2, 1)])
async def test_what_the_phone_has_is_told_once_of_both_copies_that_are_reported_together(
    begin, ana, sent, set_status, status, attempts
):
    await open_stream(begin, ana)
    message = await sent(ana)
    await set_status(message, status, attempts=2)
    every = [progress(message, status, attempt=attempt) for attempt in attempts]

    assert await record(begin, ana, *every) == 1

    (event,) = await events_of(begin, ana)
    assert event.data["attempt"] == attempts[0]


async def test_copies_that_went_out_are_told_for_each_attempt_and_none_behind_a_later_one(
    begin, ana, sent, set_status
):
    await open_stream(begin, ana)
    one, other = await sent(ana), await sent(ana)
    for message in (one, other):
        await set_status(message, "sent", attempts=2)

    await record(
        begin,
        ana,
        *(progress(one, "sent", attempt=attempt) for attempt in (1, 2)),
        *(progress(other, "sent", attempt=attempt) for attempt in (2, 1)),
    )

    told = [(event.subject_id, event.data["attempt"]) for event in await events_of(begin, ana)]
    assert told == [(one.id, 1), (one.id, 2), (other.id, 2)]


async def test_a_step_behind_one_that_was_told_is_not_told_any_more(begin, ana, sent, set_status):
    await open_stream(begin, ana)
    message = await sent(ana)
    await set_status(message, "read")

    await record(begin, ana, progress(message, "read", attempt=1))
    await record(begin, ana, progress(message, "delivered", attempt=1))

    assert [e.type.value for e in await events_of(begin, ana)] == ["message.read"]


async def test_a_failure_that_is_tried_again_by_itself_is_not_told(begin, ana, sent, set_status):
    await open_stream(begin, ana)
    message = await sent(ana)
    await set_status(message, "retrying")

    assert await record(begin, ana, progress(message, "failed", attempt=1)) == 0


async def test_a_failure_is_told_once_for_each_attempt(begin, ana, sent, set_status):
    await open_stream(begin, ana)
    message = await sent(ana)
    await set_status(message, "failed", attempts=1)
    assert await record(begin, ana, progress(message, "failed", attempt=1)) == 1

    await set_status(message, "failed", attempts=2)  # Somebody had it sent again.
    assert await record(begin, ana, progress(message, "failed", attempt=2)) == 1
    assert await record(begin, ana, progress(message, "failed", attempt=1)) == 0


async def test_a_copy_tells_nothing_behind_what_the_first_one_came_to(begin, ana, sent, set_status):
    """Of unknown outcome it was sent once more, and then Meta reports on both."""
    await open_stream(begin, ana)
    message = await sent(ana)
    await set_status(message, "read", attempts=2)

    assert await record(begin, ana, progress(message, "read", attempt=1)) == 1
    for step in ("sent", "delivered", "read"):
        assert await record(begin, ana, progress(message, step, attempt=2)) == 0
    assert await record(begin, ana, progress(message, attempt=2)) == 0

    await set_status(message, "played", attempts=2)
    assert await record(begin, ana, progress(message, "played", attempt=2)) == 1


async def test_an_answer_and_a_report_of_the_same_step_are_one_event(begin, ana, sent, set_status):
    await open_stream(begin, ana)
    message = await sent(ana)
    await set_status(message, "sent")

    assert await record(begin, ana, progress(message, "sent", attempt=1)) == 1
    assert await record(begin, ana, progress(message, attempt=1)) == 0


async def test_a_tenant_reads_its_own_events_alone(begin, ana, bea, sent, set_status):
    for customer in (ana, bea):
        await open_stream(begin, customer)
        message = await sent(customer)
        await set_status(message, "sent")
        assert await record(begin, customer, progress(message)) == 1

    (of_ana,), (of_bea,) = await events_of(begin, ana), await events_of(begin, bea)
    assert of_ana.subject_id != of_bea.subject_id
    async with begin(ana.tenant_id) as work:
        assert await work.events.load([of_bea.id]) == []


async def test_a_message_of_another_tenant_is_not_told(begin, ana, bea, sent, set_status):
    await open_stream(begin, ana)
    message = await sent(bea)
    await set_status(message, "sent")

    assert await record(begin, ana, progress(message)) == 0


async def test_what_is_rolled_back_was_never_told_and_leaves_no_gap(begin, ana):
    await open_stream(begin, ana)
    async with begin(ana.tenant_id) as work:
        await work.events.record(others=[something()])
    assert await events_of(begin, ana) == []

    await record(begin, ana, others=[something()])
    assert [event.number for event in await events_of(begin, ana)] == [1]


async def test_whoever_has_seen_an_event_has_missed_none_below_it(begin, ana):
    """Transactions that take their time, end in any order, or not at all, beside a reader."""
    await open_stream(begin, ana)
    writing = True

    async def write(number):
        for turn in range(12):
            async with begin(ana.tenant_id) as work:
                await work.channels.get_by_id(ana.channel.id)  # The snapshot is old by then.
                await asyncio.sleep(0.001 * (number % 3))
                await work.events.record(others=[something() for _ in range(1 + turn % 3)])
                await asyncio.sleep(0.001 * (turn % 4))
                if turn % 5:
                    await work.commit()

    async def read():
        seen, at = [], 0
        while True:
            done = not writing
            page = await events_of(begin, ana, at)
            seen += [event.number for event in page]
            at = seen[-1] if seen else 0
            if done and not page:
                return seen

    reader = asyncio.create_task(read())
    await asyncio.gather(*(write(number) for number in range(6)))
    writing = False
    seen = await reader

    assert seen == [event.number for event in await events_of(begin, ana)]
    assert len(seen) > 50
    assert seen == sorted(set(seen))


async def test_an_open_transaction_that_took_numbers_makes_later_ones_wait(begin, ana):
    """The proof that the order is not luck: the second writer cannot become visible first."""
    await open_stream(begin, ana)
    async with begin(ana.tenant_id) as first:
        await first.events.record(others=[something()])
        second = asyncio.create_task(record(begin, ana, others=[something()]))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
        await first.commit()
    assert await second == 1
    assert [event.number for event in await events_of(begin, ana)] == [1, 2]


async def test_opening_waits_for_what_is_being_recorded_so_that_nothing_falls_between(begin, ana):
    async with begin(ana.tenant_id) as first:
        await first.events.record(others=[something()])
        opening = asyncio.create_task(open_stream(begin, ana))
        done, _ = await asyncio.wait([opening], timeout=0.2)
        assert not done
        await first.commit()
    await opening


async def test_where_nobody_listens_nobody_waits_for_another_who_records(begin, ana):
    async with begin(ana.tenant_id) as slow:
        await slow.events.record(others=[something()])

        await asyncio.wait_for(record(begin, ana, others=[something()]), 10)


async def test_old_events_and_their_deliveries_are_forgotten_and_that_is_remembered(
    begin, ana, superuser
):
    await open_stream(begin, ana)
    await record(begin, ana, others=[something() for _ in range(5)])
    await superuser.execute(
        "UPDATE events SET recorded_at = now() - interval '10 days' WHERE number <= 3"
    )
    cutoff = utc_now() - timedelta(days=7)

    async with begin(ana.tenant_id) as work:
        assert await work.events.forget(before=cutoff, limit=2) == 2
        assert await work.events.forget(before=cutoff, limit=2) == 1
        assert await work.events.forget(before=cutoff, limit=2) == 0
        await work.commit()

    assert [event.number for event in await events_of(begin, ana)] == [4, 5]
    async with begin(ana.tenant_id) as work:
        assert await work.events.position() == (5, 3)


async def test_what_customers_wrote_is_stored_even_where_json_cannot_hold_it(begin, ana):
    await open_stream(begin, ana)
    event = NewEvent(
        type=EventType.MESSAGE_RECEIVED,
        occurred_at=utc_now(),
        subject_id=new_id(),
        data={"text": "a\0b\ud800"},
    )

    assert await record(begin, ana, others=[event]) == 1
