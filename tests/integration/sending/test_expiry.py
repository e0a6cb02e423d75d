"""What expires while it waits ends in time, whatever its channel does, and is told once."""

import asyncio
from datetime import timedelta
from itertools import count

import asyncpg
import pytest

from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from webhook_bodies import body, status_of
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.tend_channel import ExpireUnsent
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import Deferred, FailureReason
from whatsapp.domain.repositories import AttemptResult, Revival
from whatsapp.domain.retry import RetryPolicy
from whatsapp.domain.send_queue import RETRY_LANES, UNKNOWN_LANES, WAITING_LANES
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    MessageContent,
    MessageStatus,
    PhoneNumber,
)
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.callback import callback_data
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.repositories import SQLAlchemySendQueue
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

S = MessageStatus
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
PASSING = FailureReason(131016, "Service unavailable", "")
ANA = PhoneNumber("+4915112345678")


class Desk:
    """One customer's messages that expire, and who looks after them."""

    def __init__(self, sessions, customer, queue, superuser) -> None:
        self.begin, self.customer = work_in(sessions), customer
        self.queue, self.superuser = queue, superuser
        self.numbers = count()

    def new(self, **more) -> OutboundMessage:
        number = next(self.numbers)
        given = {
            "tenant_id": self.customer.tenant_id,
            "channel_id": self.customer.channel.id,
            "recipient": PhoneNumber(f"+4915100{number:06d}"),
            "content": MessageContent.text("Hello"),
            "idempotency_key": IdempotencyKey(f"key-{number}"),
            "expires_at": utc_now() + MINUTE,
        }
        return OutboundMessage(**given | more)

    async def run(self, method, *args, **more):
        async with self.begin(self.customer.tenant_id) as work:
            done = await getattr(work.messages, method)(*args, **more)
            await work.commit()
        return done

    async def waiting(self, **more) -> OutboundMessage:
        return await self.run("save_outbound", self.new(**more))

    async def late(self, **more) -> OutboundMessage:
        """A message whose time has run out."""
        saved = await self.waiting(**more)
        await self.pass_time(saved)
        return saved

    async def pass_time(self, *messages) -> None:
        for table in ("whatsapp_outbound_messages", "whatsapp_send_queue"):
            await self.superuser.execute(
                f"UPDATE {table} SET expires_at = now() WHERE id = ANY($1)",  # noqa: S608  # ours
                [one.id for one in messages],
            )

    async def put(self, message, state, lane=1, lease=None) -> None:
        await self.superuser.execute(
            "UPDATE whatsapp_send_queue SET state = $2, lane = $3, lease_token = $4,"
            " lease_until = now() + $5::interval WHERE id = $1",
            message.id,
            state,
            lane,
            None if lease is None else new_id(),
            lease,
        )

    async def expire(self) -> int:
        expire = ExpireUnsent(begin=self.begin)
        return await expire(self.customer.tenant_id, self.customer.channel.id)

    async def ended(self, **more) -> list:
        channel = self.customer.channel.id
        return list(await self.run("expire_unsent", channel, at=utc_now(), **more))

    async def sees_some(self) -> bool:
        """Whether a sweep of the worker would have the channel tended for it."""
        return any(
            one.expiring
            for one in await self.queue.find_work()
            if one.channel_id == self.customer.channel.id
        )

    async def read(self, message) -> OutboundMessage:
        return await self.run("get_outbound_by_id", message.id)

    async def is_queued(self, message) -> bool:
        return await self.superuser.fetchval(
            "SELECT EXISTS (SELECT FROM whatsapp_send_queue WHERE id = $1)", message.id
        )

    async def expiry_in_queue(self, message):
        return await self.superuser.fetchval(
            "SELECT expires_at FROM whatsapp_send_queue WHERE id = $1", message.id
        )

    async def claim(self):
        return await self.queue.claim(
            tenant_id=self.customer.tenant_id,
            channel_id=self.customer.channel.id,
            limit=10,
            lease=MINUTE,
        )

    async def listen(self) -> None:
        async with self.begin(self.customer.tenant_id) as work:
            await work.events.open()
            await work.commit()

    async def told(self) -> list:
        async with self.begin(self.customer.tenant_id) as work:
            return await work.events.list_after(0, limit=100)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
async def desk(database, sessions, ana):
    engine = create_engine(database.url("tellwire_dispatch"))
    superuser = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    yield Desk(sessions, ana, SQLAlchemySendQueue(engine), superuser)
    await superuser.close()
    await engine.dispose()


@pytest.mark.parametrize(
    ("state", "lane", "lease", "ends"),
    [
        ("ready", 1, None, True),
        ("ready", 1, MINUTE, True),  # Rests because of its recipient's limit.
        ("ready", 1 + WAITING_LANES, None, True),
        ("retrying", 1 + RETRY_LANES, None, True),
        ("leased", 1, -SECOND, True),
        ("leased", 1, MINUTE, False),
        ("dispatching", 1, MINUTE, False),
        ("dispatching", 1, -SECOND, False),
        ("unknown", 1 + UNKNOWN_LANES, None, False),
    ],
)
async def test_what_nobody_holds_ends_and_what_may_have_left_does_not(
    desk, state, lane, lease, ends
) -> None:
    late = await desk.late()
    await desk.put(late, state, lane, lease)

    assert await desk.sees_some() is ends
    assert await desk.ended() == ([late.id] if ends else [])
    assert await desk.is_queued(late) is not ends
    assert not await desk.sees_some()


async def test_it_ends_as_it_would_in_the_hands_of_a_worker(desk) -> None:
    await desk.listen()
    late = await desk.late(metadata={"order": "42"})
    await desk.superuser.execute(
        "UPDATE whatsapp_outbound_messages SET status = 'retrying', next_attempt_at = now(),"
        " attempts = 2, failure_code = 131016, failure_title = 'x', failure_details = 'y'"
        " WHERE id = $1",
        late.id,
    )
    before = utc_now()

    assert await desk.expire() == 1

    found = await desk.read(late)
    assert (found.status, found.attempts, found.next_attempt_at) == (S.EXPIRED, 2, None)
    assert found.failure == FailureReason(None, "It expired unsent", "")
    assert before <= found.status_at <= utc_now()
    (event,) = await desk.told()
    assert (event.type, event.subject_id) == ("message.expired", late.id)
    assert event.occurred_at == found.status_at
    assert event.data["failure"]["title"] == "It expired unsent"
    assert event.data["metadata"] == {"order": "42"}
    attempts = "SELECT count(*) FROM whatsapp_message_attempts WHERE message_id = $1"
    assert await desk.superuser.fetchval(attempts, late.id) == 0


async def test_what_has_time_or_never_expires_is_left_alone(desk) -> None:
    kept = [await desk.waiting(), await desk.waiting(expires_at=None)]

    assert not await desk.sees_some()
    assert await desk.expire() == 0
    assert [(await desk.read(one)).status for one in kept] == [S.QUEUED] * 2


async def test_what_waits_behind_it_comes_forward(desk) -> None:
    late = await desk.late(recipient=ANA)
    following = await desk.waiting(recipient=ANA)
    await desk.put(late, "retrying", 1 + RETRY_LANES)
    assert await desk.run("step_aside", desk.customer.channel.id) == 1
    assert not await desk.claim()

    assert await desk.ended() == [late.id]

    assert [entry.message_id for entry in await desk.claim()] == [following.id]


async def test_two_that_look_at_once_tell_it_once(desk) -> None:
    await desk.listen()
    late = [await desk.late() for _ in range(20)]

    expired = await asyncio.gather(*(desk.expire() for _ in range(4)))

    assert sum(expired) == 20
    assert sorted(one.subject_id for one in await desk.told()) == sorted(one.id for one in late)


async def test_nobody_waits_for_somebody_who_ends_it_already(desk) -> None:
    late, channel = await desk.late(), desk.customer.channel.id
    async with asyncio.timeout(10), desk.begin(desk.customer.tenant_id) as work:
        assert await work.messages.expire_unsent(channel, at=utc_now()) == [late.id]
        assert await desk.ended() == []
        assert not await desk.claim()
        await work.commit()


async def test_nobody_waits_for_somebody_who_takes_it_back(desk) -> None:
    late = await desk.late()
    async with asyncio.timeout(10), desk.begin(desk.customer.tenant_id) as work:
        await work.messages.cancel_outbound(late.id, utc_now())
        assert await desk.ended() == []
        await work.commit()

    assert await desk.ended() == []
    assert (await desk.read(late)).status is S.CANCELLED


async def test_nobody_waits_for_somebody_who_queues_it_again(desk) -> None:
    """A retry holds the entry and then asks for the message: both would wait for each other."""
    late = await desk.late()
    await desk.superuser.execute(
        "UPDATE whatsapp_outbound_messages SET status = 'retrying' WHERE id = $1", late.id
    )
    await desk.put(late, "retrying", 1 + RETRY_LANES)
    async with asyncio.timeout(10), desk.begin(desk.customer.tenant_id) as work:
        (due,) = await work.messages.get_failed_for_retry()
        assert await desk.ended() == []
        due.requeue(utc_now())
        assert (await work.messages.update_outbound(due)).status is S.QUEUED
        await work.commit()

    assert await desk.ended() == [late.id]


async def test_what_is_claimed_as_it_expires_is_left_to_its_worker(desk) -> None:
    late = await desk.late()
    await desk.claim()

    assert not await desk.sees_some()
    assert await desk.ended() == []
    assert (await desk.read(late)).status is S.SENDING


async def test_what_has_gone_on_already_leaves_the_queue_and_is_no_news(desk) -> None:
    """Or each sweep would find it again."""
    late = await desk.late()
    await desk.superuser.execute(
        "UPDATE whatsapp_outbound_messages SET status = 'delivered' WHERE id = $1", late.id
    )

    assert await desk.ended() == []
    assert (await desk.read(late)).status is S.DELIVERED
    assert not await desk.is_queued(late)


async def test_many_end_a_handful_at_a_time_the_longest_expired_first(desk) -> None:
    first, second = [await desk.late(), await desk.late()], [await desk.late()]

    assert set(await desk.ended(limit=2)) == {one.id for one in first}
    assert await desk.ended(limit=2) == [one.id for one in second]


@pytest.mark.parametrize("way", ["one", "many", "accepted"])
async def test_the_queue_knows_when_a_message_expires_however_it_came_in(desk, way) -> None:
    await desk.superuser.execute("UPDATE whatsapp_channels SET window_policy = 'allow'")
    new = [desk.new(), desk.new(expires_at=None)]
    match way:
        case "one":
            for one in new:
                await desk.run("save_outbound", one)
        case "many":
            await desk.run("save_outbound_many", new)
        case _:
            await desk.run("accept_outbound", new, at=utc_now())

    assert [await desk.expiry_in_queue(one) for one in new] == [new[0].expires_at, None]


async def test_what_waits_for_a_retry_or_proof_keeps_its_time(desk) -> None:
    saved, now = await desk.waiting(), utc_now()
    for status, settled in ((S.RETRYING, S.QUEUED), (S.UNKNOWN, S.UNKNOWN)):
        (entry,) = await desk.claim()
        await desk.queue.mark([entry], lease=MINUTE)
        result = AttemptResult(
            message_id=saved.id,
            lease_token=entry.lease_token,
            number=entry.attempt,
            status=status,
            outcome="deferred",
            started_at=now,
            finished_at=now,
            failure=PASSING,
            due_at=now - SECOND,
        )
        await desk.run("record_attempts", [result])
        assert await desk.expiry_in_queue(saved) == saved.expires_at
        if settled is S.QUEUED:
            (due,) = await desk.run("get_failed_for_retry")
            due.requeue(now)
            await desk.run("update_outbound", due)
            assert await desk.expiry_in_queue(saved) == saved.expires_at


@pytest.mark.parametrize("is_queued", [False, True])
async def test_who_sends_it_again_by_hand_drops_what_has_passed_in_the_queue_too(
    desk, is_queued
) -> None:
    past, future = await desk.late(), await desk.waiting()
    await desk.superuser.execute(
        "UPDATE whatsapp_outbound_messages SET status = 'failed' WHERE tenant_id = $1",
        desk.customer.tenant_id,
    )
    if not is_queued:
        await desk.superuser.execute("DELETE FROM whatsapp_send_queue")
    revivals = [Revival(message=one) for one in (past, future)]

    assert await desk.run("send_again", revivals, at=utc_now()) == {past.id, future.id}

    assert await desk.expiry_in_queue(past) is None
    assert await desk.expiry_in_queue(future) == future.expires_at
    assert await desk.is_queued(past)
    assert await desk.ended() == []


@pytest.mark.parametrize(
    ("expires_in", "status"),
    [(MINUTE / 2, S.FAILED), (10 * MINUTE, S.RETRYING), (None, S.RETRYING)],
)
async def test_what_fails_later_is_tried_again_only_before_it_expires(
    desk, expires_in, status
) -> None:
    policy = RetryPolicy(base=timedelta(), cap=timedelta(), retries=3, floor=MINUTE)
    expires_at = None if expires_in is None else utc_now() + expires_in
    saved, customer = await desk.waiting(expires_at=expires_at), desk.customer
    (entry,) = await desk.claim()
    await desk.queue.mark([entry], lease=MINUTE)
    echo = callback_data(message_id=saved.id, attempt=1)
    change = status_of(
        customer,
        f"wamid.{saved.id}",
        "failed",
        errors=[{"code": 131016, "title": "Service unavailable"}],
        biz_opaque_callback_data=echo,
    )
    reported = parse_webhook(body(change)).elements

    async with desk.begin(customer.tenant_id) as work:
        apply = ApplyStatuses(judge=lambda _errors: Deferred(PASSING, policy))
        await apply(work, Route(customer.tenant_id, customer.channel.id), reported)
        await work.commit()

    assert (await desk.read(saved)).status is status
    assert await desk.expiry_in_queue(saved) == expires_at
