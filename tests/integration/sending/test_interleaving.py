"""Answers to requests and webhooks about them, in any order: the message ends as in the right one.

Meta's webhooks overtake its answers, come again and out of order; a worker records an answer late.
Each example plays the events of a few messages twice, once in their natural order and once as
hypothesis shuffles, repeats and cuts them; what is stored must be the same.
"""

from dataclasses import dataclass
from datetime import timedelta
from itertools import count, pairwise

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.kernel.clock import utc_now
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.value_objects import MessageContent, MessageStatus, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
)

pytestmark = pytest.mark.postgres

S = MessageStatus
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
REFUSED = FailureReason(131026, "Undeliverable", "Not on WhatsApp")
REFUSED_BY_META = {
    "code": REFUSED.code,
    "title": REFUSED.title,
    "error_data": {"details": REFUSED.details},
}
BROKEN = FailureReason(131000, "Something went wrong", "")
ANSWERS = {"accepted": S.SENT, "unknown": S.UNKNOWN, "deferred": S.RETRYING}
"""What a worker learns of a request that Meta took: its answer, nothing, or a fault of Meta's."""
REPORTS = [
    [],
    [S.SENT],
    [S.SENT, S.DELIVERED],
    [S.SENT, S.DELIVERED, S.READ],
    [S.DELIVERED],
    [S.READ],
    [S.FAILED],
    [S.SENT, S.FAILED],
    [S.SENT, S.DELIVERED, S.FAILED],
]
_numbers = count(1)


@dataclass(frozen=True)
class Event:
    """One thing that happens to the message `who`: its answer, or a report about it."""

    who: int
    status: MessageStatus
    answer: str | None = None
    echoed: bool = True


@st.composite
def worlds(draw):
    """What happens to a few messages, in its natural order, and the same as it may come in."""
    events = []
    for who in range(draw(st.integers(1, 3))):
        answer = draw(st.sampled_from(sorted(ANSWERS)))
        events.append(Event(who, ANSWERS[answer], answer))
        # Meta echoes what we gave along or it does not; without it only the wamid leads to the
        # message, and only an answer tells that.
        echoed = answer != "accepted" or draw(st.booleans())
        reported = draw(st.sampled_from(REPORTS))
        events += [Event(who, status, echoed=echoed) for status in reported]
    reports = [event for event in events if event.answer is None]
    again = draw(st.lists(st.sampled_from(reports), max_size=3)) if reports else []
    shuffled = draw(st.permutations(events + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(shuffled)), max_size=5)))
    bounds = sorted({0, *cuts, len(shuffled)})
    return [[event] for event in events], [shuffled[a:b] for a, b in pairwise(bounds)]


class Stage:
    """Plays events to messages of one channel and tells what is stored of them."""

    def __init__(self, sessions, customer, queue, superuser) -> None:
        self.sessions, self.customer = sessions, customer
        self.queue, self.superuser = queue, superuser

    async def run(self, method, *args, **more):
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=self.customer.tenant_id)
            result = await getattr(SQLAlchemyMessageRepository(uow.session), method)(*args, **more)
            await uow.commit()
        return result

    async def marked(self, number: int):
        """So many messages whose requests are under way."""
        fresh = [
            OutboundMessage(
                tenant_id=self.customer.tenant_id,
                channel_id=self.customer.channel.id,
                recipient=PhoneNumber(f"+4915{next(_numbers):08d}"),
                content=MessageContent.text("Hello"),
            )
            for _ in range(number)
        ]
        await self.run("save_outbound_many", fresh)
        entries = await self.queue.claim(
            tenant_id=self.customer.tenant_id,
            channel_id=self.customer.channel.id,
            limit=number,
            lease=HOUR,
        )
        by_id = {entry.message_id: entry for entry in entries}
        assert await self.queue.mark(entries, lease=HOUR) == {one.id for one in fresh}
        return [by_id[one.id] for one in fresh]

    async def play(self, entries, batches, start) -> None:
        """Each batch as one webhook; the answers in it as one transaction of a worker's."""
        for batch in batches:
            reports = [self.report(entries[e.who], e, start) for e in batch if e.answer is None]
            answers = [self.answer(entries[e.who], e, start) for e in batch if e.answer is not None]
            steps = [("record_statuses", self.customer.channel.id, reports)] if reports else []
            steps += [("record_attempts", answers)] if answers else []
            # Whichever the batch began with comes first.
            for method, *args in steps if batch[0].answer is None else reversed(steps):
                await self.run(method, *args)

    def answer(self, entry, event, start):
        return AttemptResult(
            message_id=entry.message_id,
            lease_token=entry.lease_token,
            number=entry.attempt,
            status=event.status,
            outcome=event.answer,
            started_at=start,
            finished_at=start,
            wamid=f"wamid.{entry.message_id}" if event.answer == "accepted" else None,
            failure=BROKEN if event.answer == "deferred" else None,
            due_at=None if event.answer == "accepted" else start + HOUR,
        )

    def report(self, entry, event, start):
        return StatusReport(
            wamid=f"wamid.{entry.message_id}",
            status=event.status,
            occurred_at=start + SECOND * event.status.rank,
            message_id=entry.message_id if event.echoed else None,
            attempt=entry.attempt if event.echoed else None,
            failure=REFUSED if event.status is S.FAILED else None,
            errors=[REFUSED_BY_META] if event.status is S.FAILED else [],
        )

    async def stored(self, entry):
        """All that anybody can see of a message, without its id."""
        name = str(entry.message_id)
        message = await self.superuser.fetchrow(
            "SELECT status, wamid, failure_code, failure_title, failure_details"
            " FROM whatsapp_outbound_messages WHERE id = $1",
            entry.message_id,
        )
        events = await self.superuser.fetch(
            "SELECT wamid, status FROM whatsapp_status_events WHERE message_id = $1 ORDER BY 2",
            entry.message_id,
        )
        attempts = await self.superuser.fetch(
            "SELECT number, outcome, wamid FROM whatsapp_message_attempts WHERE message_id = $1",
            entry.message_id,
        )
        queued = await self.superuser.fetchval(
            "SELECT state FROM whatsapp_send_queue WHERE id = $1", entry.message_id
        )
        found = (dict(message), [tuple(e) for e in events], [tuple(a) for a in attempts], queued)
        return repr(found).replace(name, "its id")


@pytest.fixture
async def stage(module_database, sessions, ana):
    engine = create_engine(module_database.url("tellwire_dispatch"))
    superuser = await asyncpg.connect(module_database.superuser_url.replace("+asyncpg", ""))
    yield Stage(sessions, ana, SQLAlchemySendQueue(engine), superuser)
    await superuser.close()
    await engine.dispose()


@pytest.fixture
def database(module_database):
    return module_database


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds())
async def test_any_interleaving_of_answers_and_webhooks_ends_like_the_ordered_one(
    stage, world
) -> None:
    ordered, shuffled = world
    number = 1 + max(event.who for batch in ordered for event in batch)
    start = utc_now()

    expected, entries = await stage.marked(number), await stage.marked(number)
    await stage.play(expected, ordered, start)
    await stage.play(entries, shuffled, start)

    for right, other in zip(expected, entries, strict=True):
        assert await stage.stored(other) == await stage.stored(right), shuffled
