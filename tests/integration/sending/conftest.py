"""A tenant's office: channels that send to a Meta which answers as it is told."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count

import pytest

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.infrastructure.redis import connect
from shared.kernel.clock import utc_now
from webhook_bodies import APP, body, messages_of
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.count_inbound import CountInbound
from whatsapp.application.dispatch_channel import DispatchChannel
from whatsapp.application.heed_reports import HeedReports
from whatsapp.application.in_flight import InFlight
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.process_webhooks import ProcessWebhooks
from whatsapp.application.read_together import ReadTogether
from whatsapp.application.record_events import RecordEvents
from whatsapp.application.record_results import RecordResults
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.outcome import Accepted
from whatsapp.domain.value_objects import (
    AccessToken,
    IdempotencyKey,
    MessageContent,
    UserId,
    parse_recipient,
)
from whatsapp.infrastructure.cloud_api.callback import callback_data
from whatsapp.infrastructure.cloud_api.outcomes import (
    outcome_of_response,
    outcome_of_status_errors,
)
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence.repositories import (
    RedisRateLimiter,
    SQLAlchemyChannelRepository,
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
    SQLAlchemyWebhookInbox,
)
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue
from whatsapp.infrastructure.persistence.work import work_in

RATE = 80
_numbers, _wamids = count(2000), count(1)


@dataclass
class Meta:
    """Refuses the next messages to a recipient (or to any) with a code, and takes all others."""

    refusals: dict = field(default_factory=dict)
    sent: list = field(default_factory=list)
    accepted: list = field(default_factory=list)
    """Of each message that it took: its id, the attempt, its wamid and to whom."""
    before_answering: object = None
    """Called with what it took last, before it says so; once."""

    async def send(self, channel, message, attempt, **_until):
        to = message.recipient
        to = to.value if isinstance(to, UserId) else to.e164
        code = self.refusals.pop(to, None) or self.refusals.pop("any", None)
        self.sent.append((channel.phone_number_id, to, code))
        if code is None:
            wamid = f"wamid.{next(_wamids)}"
            self.accepted.append((message.id, attempt, wamid, to))
            if (tell := self.before_answering) is not None:
                self.before_answering = None
                await tell(self.accepted[-1:])
            return Accepted(wamid, None, None)
        error = {"error": {"code": code, "message": "(#0) no", "type": "OAuthException"}}
        return outcome_of_response(400, json.dumps(error).encode())


@dataclass
class Office:
    """A tenant's channels, and what is asked about them."""

    sessions: object
    queue: object
    limiter: RedisRateLimiter
    tenant: object
    meta: Meta = field(default_factory=Meta)
    in_flight: InFlight = field(default_factory=InFlight)

    async def work(self, do):
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=self.tenant)
            done = await do(uow.session)
            await uow.commit()
        return done

    async def channel(self, **more) -> Channel:
        """Another channel of the tenant, whose number is known to the limiter."""
        made = Channel(
            tenant_id=self.tenant,
            name="Another",
            phone_number_id=str(next(_numbers)),
            access_token=AccessToken("EAAG-another"),
            **{"messages_per_second": RATE} | more,
        )
        made.verify(utc_now())
        stored = await self.work(lambda s: SQLAlchemyChannelRepository(s).add(made))
        assert await self.limiter.wait_for_slot(
            made.phone_number_id, rate=RATE, within=timedelta(seconds=30)
        )
        return stored

    async def store(self, channel, *recipients, **more) -> list:
        messages = [
            OutboundMessage(
                tenant_id=self.tenant,
                channel_id=channel.id,
                recipient=parse_recipient(to=recipient),
                content=MessageContent.text("Hello"),
                idempotency_key=IdempotencyKey(f"n{next(_wamids)}"),
                **more,
            )
            for recipient in recipients
        ]
        await self.work(lambda s: SQLAlchemyMessageRepository(s).save_outbound_many(messages))
        return messages

    async def send(self, channel, *recipients) -> list:
        messages = await self.store(channel, *recipients)
        await self.dispatch(channel)
        return [one.status for one in await self.read(messages)]

    async def dispatch(self, channel) -> None:
        await self.dispatcher(channel).run()

    def dispatcher(self, channel) -> DispatchChannel:
        return DispatchChannel(
            tenant_id=self.tenant,
            channel_id=channel.id,
            begin=work_in(self.sessions),
            reads=ReadTogether(begin=work_in(self.sessions)),
            queue=self.queue,
            limiter=self.limiter,
            sender=self.meta,
            recorder=RecordResults(
                tenant_id=self.tenant,
                begin=work_in(self.sessions),
                late=LateFailures.judged(
                    outcome_of_status_errors, begin=work_in(self.sessions), limiter=self.limiter
                ),
                in_flight=self.in_flight,
            ),
        )

    async def read(self, messages) -> list:
        return [
            await self.work(lambda s, m=m: SQLAlchemyMessageRepository(s).get_outbound_by_id(m.id))
            for m in messages
        ]

    async def wait_of(self, channel) -> timedelta:
        state = await self.limiter.check_rate_limit(channel.phone_number_id, rate=RATE)
        return state.retry_after

    async def spacing_of(self, channel) -> float:
        """How many seconds lie between two slots; the first may be forfeited on a busy machine."""
        number = channel.phone_number_id
        for _ in range(200):
            slots = (await self.limiter.reserve(number, count=3, rate=RATE)).slots
            if len(slots) > 1:
                return slots[1].at - slots[0].at
            await asyncio.sleep(0.05)
        return pytest.fail("the machine was not in time once")

    async def state_of(self, channel) -> Channel:
        return await self.work(lambda s: SQLAlchemyChannelRepository(s).get_by_id(channel.id))


@pytest.fixture
async def office(database, redis_url, sessions, ana):
    engine, redis = create_engine(database.url("tellwire_dispatch")), connect(redis_url)
    yield Office(sessions, SQLAlchemySendQueue(engine), RedisRateLimiter(redis), ana.tenant_id)
    await redis.aclose()
    await engine.dispose()


@pytest.fixture
def flush(office, redis_url):
    """Have Redis forget everything; the limiter has met the number again when this is done."""

    async def flush(channel) -> None:
        redis = connect(redis_url)
        await redis.flushdb()
        await redis.aclose()
        assert await office.limiter.wait_for_slot(
            channel.phone_number_id, rate=RATE, within=timedelta(seconds=30)
        )
        assert await office.wait_of(channel) < timedelta(milliseconds=100)

    return flush


@dataclass
class Webhooks:
    """Meta's reports on their way through the inbox."""

    office: object
    inbox: object
    process: ProcessWebhooks

    async def fail(
        self, channel, *codes, accepted=None, at=timedelta(), status="failed", echoed=True
    ) -> bytes:
        """One body that fails what Meta took last, by recipient, each with a code; gives it."""
        given = self.office.meta.accepted[-len(codes) :] if accepted is None else accepted
        given = sorted(given, key=lambda one: one[-1])
        now = int((utc_now() + at).timestamp())
        reports = [
            {
                "id": wamid,
                "status": status,
                "timestamp": str(now),
                "recipient_id": recipient.removeprefix("+"),
            }
            | ({"errors": [{"code": code, "title": "No"}]} if code else {})
            | (
                {"biz_opaque_callback_data": callback_data(message_id=message_id, attempt=attempt)}
                if echoed
                else {}
            )
            for code, (message_id, attempt, wamid, recipient) in zip(codes, given, strict=True)
        ]
        made = body(messages_of(channel.phone_number_id, statuses=reports))
        await self.take_in(made)
        return made

    def without_redis(self, limiter) -> None:
        heed = replace(self.process.heed_reports, limiter=limiter)
        self.process = replace(self.process, heed_reports=heed)

    async def take_in(self, made: bytes) -> None:
        await self.inbox.append(APP, made)
        while await self.process():
            pass


@pytest.fixture
async def webhooks(database, sessions, office):
    engines = [create_engine(database.url(f"tellwire_{role}")) for role in ("intake", "process")]
    begin = work_in(sessions)
    process = ProcessWebhooks(
        inbox=SQLAlchemyWebhookQueue(engines[1]),
        parse=parse_webhook,
        apply=ApplyWebhook(
            begin=begin,
            statuses=ApplyStatuses(judge=outcome_of_status_errors),
            inbound=ApplyInbound(),
            changes=ApplyChanges(),
            followers=[RecordEvents()],
        ),
        count_inbound=CountInbound(begin=begin, limiter=office.limiter),
        heed_reports=HeedReports(
            begin=begin, limiter=office.limiter, judge=outcome_of_status_errors
        ),
    )
    yield Webhooks(office, SQLAlchemyWebhookInbox(engines[0]), process)
    for engine in engines:
        await engine.dispose()


@pytest.fixture
async def told(sessions, office):
    """The events since now, by type."""
    begin = work_in(sessions)
    async with begin(office.tenant) as work:
        await work.events.open()
        await work.commit()

    async def told() -> list:
        async with begin(office.tenant) as work:
            events = await work.events.list_after(0, limit=1000)
        return [(one.type.value, one.data.get("reason")) for one in events]

    return told
