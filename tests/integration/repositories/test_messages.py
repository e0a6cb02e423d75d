"""What message methods give, and what they leave in the database."""

import asyncio
from datetime import timedelta
from itertools import product

import pytest

from shared.infrastructure.database import (
    DatabaseFailed,
    TenantNotFound,
    create_engine,
    create_session_factory,
)
from shared.kernel.clock import utc_now
from shared.kernel.errors import InvalidInput
from shared.kernel.ids import new_id
from whatsapp.domain.entities import (
    ChannelNotFound,
    IdempotencyKeyReused,
    InvalidTransition,
)
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import (
    FORWARD,
    IdempotencyKey,
    InboundContent,
    MessageContent,
    MessageStatus,
    PhoneNumber,
    Priority,
)

pytestmark = pytest.mark.postgres

REASON = FailureReason(131000, "Something went wrong", "Try again later")
SECOND = timedelta(seconds=1)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


async def entries(superuser, customer):
    """The queue as (message, lane, state)."""
    rows = await superuser.fetch(
        "SELECT id, lane, state FROM whatsapp_send_queue WHERE tenant_id = $1", customer.tenant_id
    )
    return {row["id"]: (row["lane"], row["state"]) for row in rows}


# --- Saving --------------------------------------------------------------------------------------


async def test_a_saved_message_comes_back_as_it_was_and_waits_in_the_queue(
    at, ana, message, superuser
):
    given = message(
        ana,
        priority=Priority.HIGH,
        metadata={"order": "17"},
        send_at=utc_now() + SECOND,
        expires_at=utc_now() + 9 * SECOND,
        content=MessageContent.text("Grüße \N{WAVING HAND SIGN} \\ ' % :x"),
    )
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(given)
        found = await desk.messages.get_outbound_by_id(given.id)
        by_key = await desk.messages.get_outbound_by_idempotency_key(given.idempotency_key)

    assert saved == given == found == by_key
    assert not saved.replayed
    assert await entries(superuser, ana) == {given.id: (0, "ready")}


async def test_fifty_saves_at_once_with_one_key_store_one_message_and_all_get_it(
    database, at, ana, message, superuser
):
    engine = create_engine(database.url("tellwire_app"), pool_size=12, max_overflow=0)
    factory = create_session_factory(engine)
    key = IdempotencyKey("order-17")
    created, to = utc_now(), PhoneNumber("+4915100000000")

    async def save():
        given = message(ana, idempotency_key=key, recipient=to, created_at=created)
        async with at(ana, factory) as desk:
            return await desk.messages.save_outbound(given)

    answers = await asyncio.gather(*(save() for _ in range(50)))
    await engine.dispose()

    assert len({answer.id for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert all(answer == answers[0] for answer in answers)
    assert list(await entries(superuser, ana)) == [answers[0].id]


async def test_a_save_that_was_rolled_back_leaves_the_key_free(at, ana, message):
    first, second = (message(ana, idempotency_key=IdempotencyKey("k")) for _ in range(2))
    second.recipient = first.recipient
    async with at(ana) as desk:
        await desk.messages.save_outbound(first)
        await desk.uow.rollback()
        saved = await desk.messages.save_outbound(second)

    assert saved.id == second.id
    assert not saved.replayed


async def test_a_key_used_for_another_message_is_refused_and_changes_nothing(at, ana, message):
    key = IdempotencyKey("k")
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana, idempotency_key=key))
    async with at(ana) as desk:
        other = message(ana, idempotency_key=key, content=MessageContent.text("Another"))
        with pytest.raises(IdempotencyKeyReused):
            await desk.messages.save_outbound(other)
        assert await desk.messages.get_outbound_by_idempotency_key(key) == saved


async def test_two_tenants_may_use_one_key_one_wamid_and_one_number(at, ana, bea, message, inbound):
    """A constraint that both share would tell the one about the other."""
    key = IdempotencyKey("the-same")
    for customer in (ana, bea):
        async with at(customer) as desk:
            saved = await desk.messages.save_outbound(
                message(customer, idempotency_key=key, wamid="wamid.same")
            )
            heard = await desk.messages.save_inbound(inbound(customer, wamid="wamid.same"))
            assert not saved.replayed
            assert not heard.replayed
            found = await desk.messages.get_outbound_by_wa_id("wamid.same")
            assert found.tenant_id == customer.tenant_id


async def test_a_batch_comes_back_in_its_order_with_repetitions_marked(at, ana, message, superuser):
    one, two = message(ana), message(ana)
    again = message(
        ana, idempotency_key=one.idempotency_key, recipient=one.recipient, created_at=one.created_at
    )
    async with at(ana) as desk:
        await desk.messages.save_outbound(two)
    async with at(ana) as desk:
        answers = await desk.messages.save_outbound_many([one, two, again])
        assert await desk.messages.save_outbound_many([]) == []

    assert [answer.id for answer in answers] == [one.id, two.id, one.id]
    assert [answer.replayed for answer in answers] == [False, True, True]
    assert set(await entries(superuser, ana)) == {one.id, two.id}


async def test_batches_that_share_keys_in_opposite_order_do_not_deadlock(at, ana, message):
    keys = [IdempotencyKey(f"shared-{number}") for number in range(40)]
    created, to = utc_now(), PhoneNumber("+4915100000001")
    made = [
        [message(ana, idempotency_key=key, recipient=to, created_at=created) for key in keys]
        for _ in range(6)
    ]

    async def save(batch, *, backwards):
        async with at(ana) as desk:
            return await desk.messages.save_outbound_many(batch[::-1] if backwards else batch)

    answers = await asyncio.gather(
        *(save(batch, backwards=number % 2) for number, batch in enumerate(made))
    )

    assert len({answer.id for batch in answers for answer in batch}) == len(keys)


async def test_a_batch_too_large_stores_nothing(at, ana, message, superuser):
    one = message(ana)
    async with at(ana) as desk:
        with pytest.raises(InvalidInput) as refused:
            await desk.messages.save_outbound_many([one] * 1001)

    assert refused.value.code == "batch_too_large"
    assert await entries(superuser, ana) == {}


async def test_an_unknown_channel_stores_nothing(at, ana, message, superuser):
    async with at(ana) as desk:
        lost = message(ana, channel_id=new_id())
        with pytest.raises(ChannelNotFound):
            await desk.messages.save_outbound_many([message(ana), lost])
        with pytest.raises(DatabaseFailed):
            await desk.uow.commit()
        await desk.uow.rollback()

    assert await entries(superuser, ana) == {}


async def test_a_tenant_that_does_not_exist_is_named_as_such(at, ana, message, inbound):
    nobody = type(ana)(new_id(), ana.channel)
    async with at(nobody) as desk:
        for save in (
            desk.channels.add(_channel_of(nobody)),
            desk.messages.save_outbound(message(nobody)),
            desk.messages.save_inbound(inbound(nobody)),
        ):
            with pytest.raises((TenantNotFound, ChannelNotFound)) as refused:
                await save
            await desk.uow.rollback()
        assert refused.value.status == 404


def _channel_of(customer):
    channel = customer.channel
    return type(channel)(
        tenant_id=customer.tenant_id,
        name="x",
        phone_number_id="1",
        access_token=channel.access_token,
    )


async def test_an_inbound_message_is_stored_once_and_comes_back_whole(at, ana, inbound):
    given = inbound(ana, raw={"text": {"body": "Hi"}, "id": "x"}, profile_name="Éva")
    async with at(ana) as desk:
        first = await desk.messages.save_inbound(given)
        again = await desk.messages.save_inbound(inbound(ana, wamid=given.wamid))
        found = await desk.messages.get_inbound_by_wa_id(given.wamid)

    assert not first.replayed
    assert again.replayed
    assert again.id == first.id == given.id
    given.received_at = first.received_at
    assert first == found == given


@pytest.mark.parametrize("body", ["a\0b", "\ud800", {"\0": ["\0", {"x": "\udfff"}]}])
async def test_what_postgresql_cannot_hold_is_replaced_in_what_a_customer_wrote(
    at, ana, inbound, body
):
    """Meta signed it and will send it again and again; it must not be refused for one character."""
    content = InboundContent("text", {"body": body})
    given = inbound(ana, content=content, profile_name="\0", raw={"body": body, "\\u0000": "x"})
    async with at(ana) as desk:
        saved = await desk.messages.save_inbound(given)

    assert "\N{REPLACEMENT CHARACTER}" in str(saved.raw)
    assert saved.profile_name == "\N{REPLACEMENT CHARACTER}"
    assert saved.raw["\\u0000"] == "x"


# --- Moving on -----------------------------------------------------------------------------------


async def test_a_stale_update_never_moves_a_status_back(at, ana, message, superuser):
    """Every stored status against every new one, from a copy that was loaded while queued."""
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
    wrong = []
    for stored, new in product(MessageStatus, MessageStatus):
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = $1 WHERE id = $2",
            stored.value,
            saved.id,
        )
        saved.stored_status, saved.status = MessageStatus.QUEUED, new
        async with at(ana) as desk:
            got = await desk.messages.update_outbound(saved)
        # Back to the queue is open to whoever saw the very status that is stored.
        open_ = FORWARD[stored] - {MessageStatus.QUEUED} | {stored}
        if got.status != (new if new in open_ else stored):
            wrong.append((stored, new, got.status))

    assert wrong == []


async def test_only_who_saw_the_failure_may_queue_a_message_again(at, ana, message, superuser):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        saved.fail(REASON, utc_now())
        failed = await desk.messages.update_outbound(saved)
    assert await entries(superuser, ana) == {}

    async with at(ana) as desk:
        failed.requeue(utc_now())
        again = await desk.messages.update_outbound(failed)
        assert again.status == "queued"
        assert await entries(superuser, ana) == {}
    assert await entries(superuser, ana) == {saved.id: (1, "ready")}
    async with at(ana) as desk:
        again.accept("wamid.1", utc_now())
        await desk.messages.update_outbound(again)
        assert (await desk.messages.update_outbound(failed)).status == "sent"
    assert await entries(superuser, ana) == {}


async def test_two_updates_at_once_end_at_the_furthest_status(at, ana, message):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))

    async def update(status):
        async with at(ana) as desk:
            mine = await desk.messages.get_outbound_by_id(saved.id)
            mine.advance(status, utc_now())
            await desk.messages.update_outbound(mine)

    order = [MessageStatus.READ, MessageStatus.SENT, MessageStatus.DELIVERED]
    await asyncio.gather(*(update(status) for status in order * 4))

    async with at(ana) as desk:
        assert (await desk.messages.get_outbound_by_id(saved.id)).status == "read"


async def test_a_message_can_be_taken_back_until_a_worker_holds_it(at, ana, message, claim):
    async with at(ana) as desk:
        early = await desk.messages.save_outbound(message(ana))
        assert (await desk.messages.cancel_outbound(early.id, utc_now())).status == "cancelled"
        late = await desk.messages.save_outbound(message(ana))
    assert [entry.message_id for entry in await claim(ana)] == [late.id]
    async with at(ana) as desk:
        assert (await desk.messages.get_outbound_by_id(late.id)).status == "sending"
        for message_id in (late.id, early.id, new_id()):
            with pytest.raises(InvalidTransition):
                await desk.messages.cancel_outbound(message_id, utc_now())


# --- Retries -------------------------------------------------------------------------------------


async def retrying(at, customer, message, count, due_at):
    async with at(customer) as desk:
        for _ in range(count):
            saved = await desk.messages.save_outbound(message(customer))
            saved.advance(MessageStatus.SENDING, utc_now())
            saved = await desk.messages.update_outbound(saved)
            saved.retry_at(due_at, REASON, utc_now())
            await desk.messages.update_outbound(saved)


async def test_failed_messages_come_back_when_they_are_due_and_with_their_reason(
    at, ana, message, superuser
):
    await retrying(at, ana, message, 2, utc_now() - SECOND)
    await retrying(at, ana, message, 1, utc_now() + 60 * SECOND)

    async with at(ana) as desk:
        due = await desk.messages.get_failed_for_retry()
        assert len(due) == 2
        assert {m.status for m in due} == {"retrying"}
        assert {m.failure for m in due} == {REASON}
        assert len(await desk.messages.get_failed_for_retry(limit=1)) == 1
    assert sorted((await entries(superuser, ana)).values()) == [(11, "retrying")] * 3


async def test_four_workers_never_get_the_same_failed_message(at, ana, message, superuser):
    await retrying(at, ana, message, 120, utc_now() - SECOND)
    taken = []

    async def worker():
        while True:
            async with at(ana) as desk:
                due = await desk.messages.get_failed_for_retry(limit=7)
                taken.extend(m.id for m in due)
                for failed in due:
                    failed.requeue(utc_now())
                    await desk.messages.update_outbound(failed)
            if not due:
                return

    await asyncio.gather(*(worker() for _ in range(4)))

    assert len(taken) == len(set(taken)) == 120
    assert set((await entries(superuser, ana)).values()) == {(1, "ready")}


async def test_a_worker_that_gives_up_leaves_the_failed_messages_to_the_next(at, ana, message):
    await retrying(at, ana, message, 3, utc_now() - SECOND)
    async with at(ana) as desk:
        assert len(await desk.messages.get_failed_for_retry()) == 3
        await desk.uow.rollback()
        async with at(ana) as other:
            assert len(await other.messages.get_failed_for_retry()) == 3
