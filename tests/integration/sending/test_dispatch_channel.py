"""One channel's dispatcher between real PostgreSQL, real Redis and the simulator over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random
from types import SimpleNamespace

import aiohttp
import pytest
from sqlalchemy import text

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.infrastructure.redis import connect
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.application.accept_message import AcceptMessage, NewMessage
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.change_channel import PauseChannel, ResumeChannel, RotateToken
from whatsapp.application.dispatch_channel import DispatchChannel
from whatsapp.application.dispatch_settings import DispatchSettings
from whatsapp.application.know_contact import KnowContact
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.read_together import ReadTogether
from whatsapp.application.record_results import RecordResults
from whatsapp.application.tend_channel import ExpireUnsent, RetryFailed, SettleUnknown
from whatsapp.domain.entities import ChannelStatus, OutboundMessage
from whatsapp.domain.rate_limit import Reservation
from whatsapp.domain.send_queue import UNKNOWN_LANES, Lease
from whatsapp.domain.value_objects import (
    AccessToken,
    AccessTokenUnreadable,
    IdempotencyKey,
    MessageContent,
    MessageStatus,
    PhoneNumber,
    parse_recipient,
)
from whatsapp.domain.webhook_inbox import Route
from whatsapp.entrypoints.workers.send_worker import SendWorker
from whatsapp.infrastructure.cloud_api.client import CloudApiClient, create_http_session
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.sender import CloudApiSender
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.repositories import (
    RedisRateLimiter,
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
)
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue
from whatsapp.infrastructure.persistence.work import work_in
from whatsapp_simulator.config import SimulatorConfig
from whatsapp_simulator.server import serve

SECRET = Secret("an-app-secret")


@asynccontextmanager
async def simulating(**settings) -> AsyncIterator[str]:
    """A simulator that takes any number and token; gives its base URL."""
    config = SimulatorConfig(app_secret=SECRET, port=0, open_numbers=True, **settings)
    listening = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(config, ready=listening.set_result, stop=stop))
        yield await listening
        stop.set()


@pytest.fixture
async def simulator() -> AsyncIterator[str]:
    async with simulating() as url:
        yield url


@pytest.fixture
async def dispatching(database, redis_url, sessions, simulator):
    engine = create_engine(database.url("tellwire_dispatch"))
    redis = connect(redis_url)
    async with create_http_session() as http:
        client = CloudApiClient(http, base_url=simulator, version="v25.0")

        def make(customer, limited_by=RedisRateLimiter, **more) -> DispatchChannel:
            begin, limiter = work_in(sessions), limited_by(redis)
            return DispatchChannel(
                tenant_id=customer.tenant_id,
                channel_id=customer.channel.id,
                begin=begin,
                reads=ReadTogether(begin=begin),
                queue=SQLAlchemySendQueue(engine),
                limiter=limiter,
                recorder=RecordResults(
                    tenant_id=customer.tenant_id,
                    begin=begin,
                    late=LateFailures.judged(
                        outcome_of_status_errors, begin=begin, limiter=limiter
                    ),
                ),
                sender=CloudApiSender(client),
                rng=Random(1),
                **more,
            )

        yield make
    await redis.aclose()
    await engine.dispose()


def message(customer, number: int, **more) -> OutboundMessage:
    return OutboundMessage(
        tenant_id=customer.tenant_id,
        channel_id=customer.channel.id,
        recipient=PhoneNumber(f"+4915100{number:06d}"),
        content=MessageContent.text(f"Hello {number}"),
        **more,
    )


async def save(sessions, customer, messages) -> None:
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=customer.tenant_id)
        await SQLAlchemyMessageRepository(uow.session).save_outbound_many(messages)
        await uow.commit()


async def read(sessions, customer, messages) -> list[OutboundMessage]:
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=customer.tenant_id)
        repository = SQLAlchemyMessageRepository(uow.session)
        return [await repository.get_outbound_by_id(m.id) for m in messages]


async def send_all(dispatching, sessions, customer) -> None:
    """Dispatch and retry until nothing is left.

    Simulator and workers share one event loop here, so that a busy machine may make one of them
    late and the limit strike; how exact the pace is, is for tests with processes of their own.
    """
    retry = RetryFailed(begin=work_in(sessions))
    queue = "SELECT count(*) FROM whatsapp_send_queue"
    while await dispatching(customer).run() or await count(sessions, customer, queue):
        await retry(customer.tenant_id)
        await asyncio.sleep(0.05)


async def count(sessions, customer, query: str) -> int:
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=customer.tenant_id)
        return await uow.session.scalar(text(query))


async def report(url: str) -> dict:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/_simulator/report") as answer:
        return await answer.json()


async def test_what_is_queued_is_sent_once_each(dispatching, sessions, ana, simulator) -> None:
    messages = [message(ana, number) for number in range(200)]
    await save(sessions, ana, messages)

    await send_all(dispatching, sessions, ana)

    stored = await read(sessions, ana, messages)
    assert {m.status for m in stored} == {MessageStatus.SENT}
    assert all(m.wamid for m in stored)
    seen = await report(simulator)
    assert (seen["accepted"], seen["doubled_messages"]) == (200, 0)


async def test_who_makes_room_sends_what_is_claimed_and_claims_no_more(
    dispatching, sessions, ana
) -> None:
    await save(sessions, ana, [message(ana, number) for number in range(300)])
    dispatcher = dispatching(ana)
    seen = []
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())
        while not dispatcher.has_sent:
            seen.append(dispatcher.is_sending)
            await asyncio.sleep(0.01)
        dispatcher.retire()

    claimed = running.result()
    untouched = "SELECT count(*) FROM whatsapp_send_queue WHERE state = 'ready' AND attempt = 0"
    assert 0 < claimed < 300
    assert await count(sessions, ana, untouched) == 300 - claimed
    assert not dispatcher.is_sending
    # A number that is new to the limiter is held for a second: that is waiting, and not sending.
    assert seen[0]
    assert not all(seen)


class AnswersTooLate(RedisRateLimiter):
    """A limiter whose slots are over when they arrive, as on a process that hardly runs."""

    has_answered = False

    async def reserve(self, *args, **kwargs) -> Reservation:
        given = await super().reserve(*args, **kwargs)
        self.has_answered |= bool(given)
        return Reservation((), timedelta(milliseconds=20), len(given.slots) + given.forfeited)


async def test_who_is_too_late_for_its_slots_is_sending_all_the_same(
    dispatching, sessions, ana
) -> None:
    await save(sessions, ana, [message(ana, 1)])
    dispatcher = dispatching(ana, AnswersTooLate)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(dispatcher.run())
        while not dispatcher.limiter.has_answered:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        seen = []
        for _ in range(20):
            await asyncio.sleep(0.005)
            seen.append(dispatcher.is_sending)
        dispatcher.stop()

    assert all(seen)


async def test_a_row_that_cannot_be_read_fails_and_holds_up_nobody(
    dispatching, sessions, ana, simulator, caplog
) -> None:
    messages = [message(ana, number) for number in range(6)]
    await save(sessions, ana, messages)
    broken, *others = messages
    async with SQLAlchemyUnitOfWork(sessions) as uow, RLSManager(uow.session) as rls:
        await rls.set_context(tenant_id=ana.tenant_id)
        change = text("UPDATE whatsapp_outbound_messages SET recipient = '+canary' WHERE id = :id")
        await uow.session.execute(change, {"id": broken.id})
        await uow.commit()

    await send_all(dispatching, sessions, ana)

    assert {m.status for m in await read(sessions, ana, others)} == {MessageStatus.SENT}
    failed = (
        "SELECT count(*) FROM whatsapp_outbound_messages"
        " WHERE status = 'failed' AND failure_title LIKE '%cannot be read%' AND attempts = 0"
    )
    assert await count(sessions, ana, failed) == 1
    assert (await report(simulator))["accepted"] == 5
    assert "cannot be read" in caplog.text
    assert "canary" not in caplog.text


async def test_several_workers_share_a_channel_without_doubling(
    dispatching, sessions, ana, simulator
) -> None:
    messages = [message(ana, number) for number in range(200)]
    await save(sessions, ana, messages)

    await asyncio.gather(*(send_all(dispatching, sessions, ana) for _ in range(4)))

    seen = await report(simulator)
    assert (seen["accepted"], seen["doubled_messages"]) == (200, 0)


async def test_messages_to_one_recipient_go_out_in_their_order(dispatching, sessions, ana) -> None:
    messages = [message(ana, 7, idempotency_key=IdempotencyKey(f"n{n}")) for n in range(5)]
    await save(sessions, ana, messages)

    await asyncio.gather(*(send_all(dispatching, sessions, ana) for _ in range(2)))

    stored = await read(sessions, ana, messages)
    assert [m.status for m in stored] == [MessageStatus.SENT] * 5
    assert [m.status_at for m in stored] == sorted(m.status_at for m in stored)


class SlowlyMarked(SQLAlchemySendQueue):
    """A queue whose answers take long, as they do where PostgreSQL or the worker hardly runs."""

    async def mark(self, entries, *, lease):
        held = await super().mark(entries, lease=lease)
        await asyncio.sleep(0.4)
        return held


async def test_marking_that_takes_longer_than_a_mark_may_be_used_stops_nothing(
    dispatching, sessions, ana, simulator
) -> None:
    messages = [message(ana, number) for number in range(12)]
    await save(sessions, ana, messages)
    statuses = set[MessageStatus]()

    for _ in range(10):  # Where the machine stood still beside it, the next one sends the rest.
        dispatcher = dispatching(ana, settings=DispatchSettings(lease=Lease(timedelta(seconds=1))))
        await replace(dispatcher, queue=SlowlyMarked(dispatcher.queue._engine)).run()
        statuses = {m.status for m in await read(sessions, ana, messages)}
        if statuses == {MessageStatus.SENT}:
            break

    assert statuses == {MessageStatus.SENT}
    assert (await report(simulator))["doubled_messages"] == 0


async def fault(url: str, **what) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/_simulator/faults", json=what) as answer,
    ):
        assert answer.status < 300, await answer.text()


async def test_a_failure_that_passes_is_retried_and_then_sent(
    dispatching, sessions, ana, simulator
) -> None:
    await fault(simulator, behaviour={"error": 131016}, count=1)
    one = message(ana, 1)
    await save(sessions, ana, [one])

    await dispatching(ana).run()
    (waiting,) = await read(sessions, ana, [one])
    await send_all(dispatching, sessions, ana)

    (sent,) = await read(sessions, ana, [one])
    assert (waiting.status, waiting.failure.code) == (MessageStatus.RETRYING, 131016)
    assert (sent.status, sent.attempts) == (MessageStatus.SENT, 2)


class Alone:
    """Drivers of an installation with one worker: it serves everything."""

    workers = 1

    async def drive(self, stances) -> frozenset:
        return frozenset(stances)

    async def leave(self, channels) -> None:
        pass


@asynccontextmanager
async def sending(database, sessions, dispatching) -> AsyncIterator[None]:
    """A send worker that serves every channel of the database."""
    engine, begin = create_engine(database.url("tellwire_dispatch")), work_in(sessions)
    process = create_engine(database.url("tellwire_process"))

    def dispatcher(tenant_id, channel_id) -> DispatchChannel:
        channel = SimpleNamespace(id=channel_id)
        return dispatching(SimpleNamespace(tenant_id=tenant_id, channel=channel))

    queue = SQLAlchemySendQueue(engine)
    worker = SendWorker(
        queue=queue,
        dispatch=dispatcher,
        drivers=Alone(),
        retry=RetryFailed(begin=begin),
        settle=SettleUnknown(
            begin=begin,
            queue=queue,
            inbox=SQLAlchemyWebhookQueue(process),
            unknown_for=timedelta(minutes=2),
        ),
        expire=ExpireUnsent(begin=begin),
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(stopping))
        yield
        stopping.set()
    await engine.dispose()
    await process.dispose()


async def until(holds) -> None:
    """Ask until it holds, at most 20 seconds."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110  # PostgreSQL sets no events
            await asyncio.sleep(0.02)


async def until_all_are(sessions, customer, messages, wanted) -> None:
    async def holds() -> bool:
        return {m.status for m in await read(sessions, customer, messages)} == {wanted}

    await until(holds)


EXPIRED = "UPDATE whatsapp_outbound_messages SET expires_at = now() WHERE id = :id"


async def change(begin, customer, statement: str, **values) -> None:
    async with begin(customer.tenant_id) as work:
        await work.session.execute(text(statement), values)
        await work.commit()


async def listen(begin, customer) -> None:
    async with begin(customer.tenant_id) as work:
        await work.events.open()
        await work.commit()


async def told_of(begin, customer) -> list:
    async with begin(customer.tenant_id) as work:
        events = await work.events.list_after(0, limit=100)
    return [(one.type.value, one.subject_id) for one in events]


async def test_what_has_expired_when_it_is_claimed_is_not_sent_and_told(
    dispatching, sessions, ana, simulator
) -> None:
    begin = work_in(sessions)
    await listen(begin, ana)
    late, sent = message(ana, 1, expires_at=utc_now() + timedelta(hours=1)), message(ana, 2)
    await save(sessions, ana, [late, sent])
    # Its entry says nothing of it, so that whoever claims it is the first to notice.
    await change(begin, ana, EXPIRED, id=late.id)

    await dispatching(ana).run()

    expired, other = await read(sessions, ana, [late, sent])
    assert (expired.status, expired.attempts, expired.wamid) == (MessageStatus.EXPIRED, 0, None)
    assert expired.failure.title == "It expired unsent"
    assert other.status is MessageStatus.SENT
    assert sorted(await told_of(begin, ana)) == [
        ("message.expired", late.id),
        ("message.sent", sent.id),
    ]
    assert await count(sessions, ana, "SELECT count(*) FROM whatsapp_send_queue") == 0
    assert (await report(simulator))["accepted"] == 1


async def test_what_expires_on_a_paused_channel_is_told_unless_it_may_have_left(
    database, dispatching, sessions, ana, simulator
) -> None:
    begin = work_in(sessions)
    await listen(begin, ana)
    soon = utc_now() + timedelta(hours=1)
    late = [message(ana, number, expires_at=soon) for number in range(3)]
    kept = [message(ana, 3, expires_at=soon), message(ana, 4)]
    waiting, left, unknown = late
    await save(sessions, ana, [*late, *kept])
    for one, state, lane in (
        (left, "dispatching", 1),
        (unknown, "unknown", 1 + UNKNOWN_LANES),
    ):
        await change(
            begin,
            ana,
            "UPDATE whatsapp_send_queue SET state = :state, lane = :lane,"
            " due_at = now() + interval '1 h', lease_until = now() + interval '1 h'"
            " WHERE id = :id",
            id=one.id,
            state=state,
            lane=lane,
        )
    entries = "UPDATE whatsapp_send_queue SET expires_at = now() WHERE id = ANY(:ids)"
    await change(begin, ana, entries, ids=[one.id for one in late])
    await PauseChannel(begin=begin)(ana.tenant_id, ana.channel.id, reason="Maintenance")

    async with sending(database, sessions, dispatching):
        await until_all_are(sessions, ana, [waiting], MessageStatus.EXPIRED)

    others = await read(sessions, ana, [left, unknown, *kept])
    assert MessageStatus.EXPIRED not in {one.status for one in others}
    assert [one for one in await told_of(begin, ana) if one[0] == "message.expired"] == [
        ("message.expired", waiting.id)
    ]
    assert await count(sessions, ana, "SELECT count(*) FROM whatsapp_send_queue") == 4
    assert (await report(simulator))["accepted"] == 0


TAMPERED = "overlay(access_token placing '\\x00' from 20)"
CUT = "substr(access_token, 1, 30)"
KEY_GONE = "overlay(access_token placing '\\xffff' from 2)"
OTHER_VERSION = "overlay(access_token placing '\\x09' from 1)"


async def is_paused(begin, customer) -> bool:
    async with begin(customer.tenant_id) as work:
        return (await work.channels.find(customer.channel.id)).status is ChannelStatus.PAUSED


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (TAMPERED, "decryption_tampered"),
        (CUT, "decryption_malformed"),
        (KEY_GONE, "decryption_unknown_key"),
        (OTHER_VERSION, "decryption_unknown_version"),
    ],
)
async def test_a_token_that_does_not_open_rests_its_channel_alone(
    database, dispatching, sessions, ana, bea, simulator, caplog, harm, code
) -> None:
    begin = work_in(sessions)
    kept, others = [message(ana, n) for n in range(20)], [message(bea, n) for n in range(20)]
    await save(sessions, ana, kept)
    await save(sessions, bea, others)
    async with begin(ana.tenant_id) as work:
        harmed = f"UPDATE whatsapp_channels SET access_token = {harm} WHERE id = :id"  # noqa: S608  # ours
        await work.session.execute(text(harmed), {"id": ana.channel.id})
        await work.commit()

    async with sending(database, sessions, dispatching):
        await until_all_are(sessions, bea, others, MessageStatus.SENT)
        await until(lambda: is_paused(begin, ana))
        await asyncio.sleep(0.3)  # Long enough for three more sweeps to find the channel.

        async with begin(ana.tenant_id) as work:
            found = await work.channels.find(ana.channel.id)
        assert found.pause_reason.endswith(f"({code})")
        alerts = [r for r in caplog.records if str(ana.channel.id) in r.getMessage()]
        assert [(r.levelname, r.getMessage()) for r in alerts] == [
            ("ERROR", f"channel {ana.channel.id} paused: {code}")
        ]
        assert not any(r.exc_info for r in caplog.records)
        assert {m.status for m in await read(sessions, ana, kept)} == {MessageStatus.QUEUED}
        async with begin(bea.tenant_id) as work:
            assert (await work.channels.get_by_id(bea.channel.id)).is_active

        with pytest.raises(AccessTokenUnreadable):
            await ResumeChannel(begin=begin)(ana.tenant_id, ana.channel.id)
        await RotateToken(begin=begin)(ana.tenant_id, ana.channel.id, AccessToken("EAAG-mended"))
        await ResumeChannel(begin=begin)(ana.tenant_id, ana.channel.id)
        await until_all_are(sessions, ana, kept, MessageStatus.SENT)

    seen = await report(simulator)
    assert (seen["accepted"], seen["doubled_messages"]) == (40, 0)


def _webhook(customer, **value) -> bytes:
    number = {"phone_number_id": customer.channel.phone_number_id}
    change = {"field": "messages", "value": {"metadata": number} | value}
    document = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}
    return json.dumps(document).encode()


async def test_somebody_without_a_number_is_written_to_by_user_id(
    dispatching, sessions, ana, simulator
) -> None:
    begin, user_id = work_in(sessions), "US.13491208655302741918"
    apply = ApplyWebhook(
        begin=begin,
        statuses=ApplyStatuses(judge=outcome_of_status_errors),
        inbound=ApplyInbound(),
        changes=ApplyChanges(),
        followers=[KnowContact()],
    )

    async def tell(**value) -> None:
        parsed = parse_webhook(_webhook(ana, **value))
        placed = [Placed(new_id(), element) for element in parsed.elements]
        await apply(Route(ana.tenant_id, ana.channel.id), placed)

    now = str(int(utc_now().timestamp()))
    heard = {"id": "wamid.in", "timestamp": now, "type": "text", "text": {"body": "Hi"}}
    await tell(messages=[heard | {"from_user_id": user_id}])
    new = NewMessage(
        channel_id=ana.channel.id,
        recipient=parse_recipient(recipient=user_id),
        content=MessageContent.text("Hello"),
    )
    stored = await AcceptMessage(begin=begin)(ana.tenant_id, new)
    await send_all(dispatching, sessions, ana)
    (sent,) = await read(sessions, ana, [stored])
    # Without our echo, so that the wamid is all there is to go by.
    status = {"id": sent.wamid, "timestamp": now, "recipient_user_id": user_id}
    await tell(statuses=[status | {"status": "delivered"}])

    async with aiohttp.ClientSession() as http, http.get(f"{simulator}/_simulator/log") as answer:
        (logged,) = [one for one in (await answer.json())["entries"] if one["kind"] == "message"]
    (delivered,) = await read(sessions, ana, [stored])
    assert (logged["to"], logged["outcome"]) == (user_id, "accepted")
    assert (sent.status, delivered.status) == (MessageStatus.SENT, MessageStatus.DELIVERED)
