"""What becomes of a message of which nobody knows whether it was sent."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from shared.infrastructure.database import RLSManager, SQLAlchemyUnitOfWork, create_engine
from shared.kernel.clock import utc_now
from whatsapp.application.attempt import taken_back
from whatsapp.application.change_message import RetryMessage
from whatsapp.domain.entities import (
    InvalidTransition,
    OutboundMessage,
    UnknownPolicy,
    WindowPolicy,
)
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.value_objects import MessageContent, MessageStatus, PhoneNumber
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyChannelRepository,
    SQLAlchemyMessageRepository,
    SQLAlchemySendQueue,
)
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres
S = MessageStatus
SECOND = timedelta(seconds=1)
T = timedelta(minutes=2)
REFUSED = FailureReason(131026, "Undeliverable", "")


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


class Desk:
    """One customer's messages, and a worker's view of their queue."""

    def __init__(self, sessions, customer, queue, superuser) -> None:
        self.sessions, self.customer = sessions, customer
        self.queue, self.superuser = queue, superuser
        self.numbers = iter(range(1000, 9999))

    async def run(self, method, *args, **more):
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=self.customer.tenant_id)
            repository = SQLAlchemyMessageRepository(uow.session)
            result = await getattr(repository, method)(*args, **more)
            await uow.commit()
            return result

    async def policy(self, policy) -> None:
        async with SQLAlchemyUnitOfWork(self.sessions) as uow, RLSManager(uow.session) as rls:
            await rls.set_context(tenant_id=self.customer.tenant_id)
            channel = replace(
                self.customer.channel, on_unknown=policy, window_policy=WindowPolicy.ALLOW
            )
            stored = await SQLAlchemyChannelRepository(uow.session).update(channel)
            await uow.commit()
        assert stored.on_unknown is policy

    async def saved(self, **more):
        given = {
            "tenant_id": self.customer.tenant_id,
            "channel_id": self.customer.channel.id,
            "recipient": PhoneNumber(f"+4915100{next(self.numbers)}"),
            "content": MessageContent.text(f"Hello {next(self.numbers)}"),
        }
        return await self.run("save_outbound", OutboundMessage(**given | more))

    async def claim(self):
        return await self.queue.claim(
            tenant_id=self.customer.tenant_id,
            channel_id=self.customer.channel.id,
            limit=10,
            lease=60 * SECOND,
        )

    async def marked(self, **more):
        saved = await self.saved(**more)
        (entry,) = await self.claim()
        assert await self.queue.mark([entry], lease=60 * SECOND) == {saved.id}
        return saved, entry

    async def record(self, entry, status, **more):
        now = utc_now()
        given = {
            "message_id": entry.message_id,
            "lease_token": entry.lease_token,
            "number": entry.attempt,
            "status": status,
            "outcome": {S.SENT: "accepted", S.UNKNOWN: "unknown"}.get(status, "rejected"),
            "started_at": now,
            "finished_at": now,
        }
        recorded = await self.run("record_attempts", [AttemptResult(**given | more)])
        return recorded.held

    async def report(
        self, saved, status, *, attempt=1, wamid="wamid.1", at=None, pricing=None
    ) -> None:
        told = StatusReport(
            wamid=wamid,
            status=status,
            occurred_at=at or utc_now(),
            message_id=saved.id,
            attempt=attempt,
            failure=REFUSED if status is S.FAILED else None,
            pricing=pricing,
        )
        return await self.run("record_statuses", self.customer.channel.id, [told])

    async def unknown(self, **more):
        """A message whose request ended without an answer."""
        saved, entry = await self.marked(**more)
        await self.record(entry, S.UNKNOWN, due_at=utc_now() + T)
        return saved

    async def give_up(self, *, heard_until=None) -> int:
        given_up = await self.run(
            "give_up_unknown",
            self.customer.channel.id,
            at=utc_now(),
            unknown_for=T,
            heard_until=heard_until,
        )
        return len(given_up)

    async def hear(self, *, pricing=None, **more) -> None:
        """A later message goes out, and Meta reports about it."""
        saved, entry = await self.marked(**more)
        await self.record(entry, S.SENT, wamid=f"wamid.{saved.id}")
        await self.report(saved, S.SENT, wamid=f"wamid.{saved.id}", pricing=pricing)

    async def pass_time(self, span) -> None:
        """As if everything so far had happened so much earlier."""
        for table, columns in {
            "whatsapp_outbound_messages": ["status_at"],
            "whatsapp_send_queue": ["due_at", "lease_until"],
            "whatsapp_message_attempts": ["started_at", "finished_at"],
            "whatsapp_status_events": ["received_at"],
        }.items():
            earlier = ", ".join(f"{c} = {c} - $1::interval" for c in columns)
            await self.superuser.execute(f"UPDATE {table} SET {earlier}", span)  # noqa: S608  # ours

    async def state(self, saved):
        message = await self.run("get_outbound_by_id", saved.id)
        entry = await self.superuser.fetchval(
            "SELECT state FROM whatsapp_send_queue WHERE id = $1", saved.id
        )
        return message.status, entry

    async def duplicates(self, saved):
        rows = await self.superuser.fetch(
            "SELECT number, wamid FROM whatsapp_message_attempts"
            " WHERE message_id = $1 AND outcome = 'duplicate'",
            saved.id,
        )
        return [tuple(row) for row in rows]


@pytest.fixture
async def desk(database, sessions, ana):
    engine = create_engine(database.url("tellwire_dispatch"))
    superuser = await asyncpg.connect(database.superuser_url.replace("+asyncpg", ""))
    # Tests move the time of everything they see; what others left is none of their business.
    await superuser.execute("DELETE FROM whatsapp_send_queue")
    yield Desk(sessions, ana, SQLAlchemySendQueue(engine), superuser)
    await superuser.close()
    await engine.dispose()


@pytest.mark.parametrize("status", [S.SENT, S.DELIVERED, S.READ, S.FAILED])
async def test_the_echo_settles_it_whatever_it_says(desk, status) -> None:
    saved = await desk.unknown()

    await desk.report(saved, status)

    assert await desk.state(saved) == (status, None)
    assert (await desk.run("get_outbound_by_id", saved.id)).wamid == "wamid.1"


async def test_nothing_is_decided_before_the_deadline(desk) -> None:
    saved = await desk.unknown()
    await desk.hear()

    assert await desk.give_up() == 0
    assert await desk.state(saved) == (S.UNKNOWN, "unknown")


async def test_silence_of_a_number_that_nothing_is_heard_of_decides_nothing(desk) -> None:
    saved = await desk.unknown()

    for _ in range(5):
        await desk.pass_time(T)
        assert await desk.give_up() == 0

    assert await desk.state(saved) == (S.UNKNOWN, "unknown")


async def test_it_holds_up_its_recipient_until_the_deadline_and_no_longer(desk) -> None:
    saved = await desk.unknown()
    later = await desk.saved(recipient=saved.recipient)

    before = await desk.claim()
    await desk.pass_time(T)
    await desk.give_up()
    after = await desk.claim()

    assert (len(before), [entry.message_id for entry in after]) == (0, [later.id])


async def test_healthy_silence_fails_it_where_the_channel_wants_that(desk) -> None:
    await desk.policy(UnknownPolicy.FAIL)
    saved = await desk.unknown()
    await desk.pass_time(SECOND)
    await desk.hear()
    await desk.pass_time(T)

    assert await desk.give_up() == 1
    assert await desk.give_up() == 0
    assert await desk.state(saved) == (S.FAILED, None)
    assert (await desk.run("get_outbound_by_id", saved.id)).failure.title.startswith("Nobody knows")


async def test_silence_counts_from_the_moment_in_which_the_number_is_heard_again(desk) -> None:
    await desk.policy(UnknownPolicy.FAIL)
    saved = await desk.unknown()
    await desk.pass_time(10 * T)
    assert await desk.give_up() == 0
    await desk.hear()
    await desk.pass_time(T / 2)

    assert await desk.give_up() == 0
    assert await desk.state(saved) == (S.UNKNOWN, "unknown")
    await desk.pass_time(T)
    assert await desk.give_up() == 1
    assert await desk.state(saved) == (S.FAILED, None)


async def test_a_report_about_an_earlier_message_proves_nothing(desk) -> None:
    earlier, entry = await desk.marked()
    await desk.record(entry, S.SENT, wamid="wamid.0", started_at=utc_now() - SECOND)
    saved = await desk.unknown()
    await desk.pass_time(SECOND)
    await desk.report(earlier, S.DELIVERED, wamid="wamid.0")
    await desk.pass_time(2 * T)

    assert await desk.give_up() == 0
    assert await desk.state(saved) == (S.UNKNOWN, "unknown")


async def silent(desk) -> int:
    """Let healthy silence pass."""
    await desk.pass_time(SECOND)
    await desk.hear()
    await desk.pass_time(T)
    return await desk.give_up()


@pytest.mark.parametrize("behind", [timedelta(), timedelta(minutes=5)])
async def test_silence_does_not_begin_earlier_where_a_workers_clock_is_behind(desk, behind) -> None:
    await desk.policy(UnknownPolicy.RESEND)
    await desk.hear()  # By a worker whose clock is right.
    await desk.pass_time(T + SECOND)
    saved, entry = await desk.marked()
    now = utc_now() - behind
    times = {"started_at": now, "finished_at": now, "due_at": now + T}
    await desk.record(entry, S.UNKNOWN, **times)

    assert await desk.give_up() == 0
    assert await desk.state(saved) == (S.UNKNOWN, "unknown")
    await silent(desk)
    assert await desk.state(saved) == (S.QUEUED, "ready")


async def test_what_lies_unread_in_the_inbox_is_no_silence(desk) -> None:
    await desk.policy(UnknownPolicy.FAIL)
    saved = await desk.unknown()
    await desk.pass_time(SECOND)
    await desk.hear()
    await desk.pass_time(T)

    assert await desk.give_up(heard_until=utc_now() - 2 * SECOND) == 0
    assert await desk.state(saved) == (S.UNKNOWN, "unknown")
    await desk.pass_time(2 * SECOND)  # It is looked at again after a moment.
    assert await desk.give_up(heard_until=utc_now()) == 1


async def test_what_waited_in_a_restored_backup_fails_after_a_day_and_is_not_sent_again(
    desk,
) -> None:
    """By the statements of docs/operations.md, whatever the channel does with unknown outcomes."""
    await desk.policy(UnknownPolicy.CATEGORY)
    leased, _ = await desk.marked()
    waiting = [await desk.saved() for _ in range(2)]
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")
    restoring = page.partition("\n## Restoring\n")[2].partition("\n## ")[0]
    (restore,) = re.findall(r"^```sql\n(BEGIN;.*?)^```", restoring, re.MULTILINE | re.DOTALL)

    await desk.superuser.execute(restore)

    assert not await desk.claim()
    assert {await desk.state(one) for one in (*waiting, leased)} == {(S.UNKNOWN, "unknown")}
    await desk.pass_time(timedelta(days=1))
    assert await silent(desk) == 3
    assert {await desk.state(one) for one in (*waiting, leased)} == {(S.FAILED, None)}


ORDER_UPDATE = MessageContent.template("order_update", "en_US")
OTHER = MessageContent.template("other", "en_US")


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("utility", (S.QUEUED, "ready")),
        ("marketing", (S.FAILED, None)),
        ("authentication", (S.FAILED, None)),
        (None, (S.FAILED, None)),
    ],
)
async def test_by_category_a_template_is_sent_once_more_if_it_was_a_utility(
    desk, category, expected
) -> None:
    if category:  # Of two reports the latest counts.
        other = "marketing" if category == "utility" else "utility"
        await desk.hear(content=ORDER_UPDATE, pricing={"category": other})
        await desk.hear(content=ORDER_UPDATE, pricing={"category": category})
    # What another template costs says nothing.
    await desk.hear(content=OTHER, pricing={"category": "utility"})
    saved = await desk.unknown(content=ORDER_UPDATE)

    assert await silent(desk) == 1
    assert await desk.state(saved) == expected


async def test_by_category_what_is_free_form_is_sent_once_more(desk) -> None:
    saved = await desk.unknown()

    assert await silent(desk) == 1
    assert await desk.state(saved) == (S.QUEUED, "ready")


@pytest.mark.parametrize("policy", [UnknownPolicy.RESEND, UnknownPolicy.CATEGORY])
async def test_it_is_sent_once_more_and_not_twice(desk, policy) -> None:
    await desk.policy(policy)
    saved = await desk.unknown()

    assert await silent(desk) == 1
    (entry,) = await desk.claim()
    assert (entry.message_id, entry.attempt) == (saved.id, 2)
    await desk.queue.mark([entry], lease=60 * SECOND)
    await desk.record(entry, S.UNKNOWN, due_at=utc_now() + T)
    assert await silent(desk) == 1

    assert await desk.state(saved) == (S.FAILED, None)


async def test_once_more_is_until_its_time_runs_out(desk) -> None:
    saved = await desk.unknown(expires_at=utc_now() + 60 * T)

    assert await silent(desk) == 1
    entry = "SELECT state, expires_at FROM whatsapp_send_queue WHERE id = $1"
    assert tuple(await desk.superuser.fetchrow(entry, saved.id)) == ("ready", saved.expires_at)


async def test_what_has_expired_meanwhile_is_not_sent_again(desk) -> None:
    await desk.policy(UnknownPolicy.RESEND)
    saved = await desk.unknown(expires_at=utc_now() + timedelta(hours=1))
    await desk.superuser.execute(
        "UPDATE whatsapp_outbound_messages SET expires_at = now() WHERE id = $1", saved.id
    )

    assert await silent(desk) == 1
    assert await desk.state(saved) == (S.FAILED, None)


async def test_it_is_left_to_a_person_where_the_channel_wants_that(desk, sessions) -> None:
    await desk.policy(UnknownPolicy.HOLD)
    saved, retry = await desk.unknown(), RetryMessage(begin=work_in(sessions))

    with pytest.raises(InvalidTransition):
        await retry(saved.tenant_id, saved.id)
    assert await silent(desk) == 1
    assert await desk.state(saved) == (S.UNKNOWN, None)
    assert (await retry(saved.tenant_id, saved.id)).status is S.QUEUED
    assert await desk.state(saved) == (S.QUEUED, "ready")


async def test_a_report_still_settles_what_was_left_to_a_person(desk) -> None:
    await desk.policy(UnknownPolicy.HOLD)
    saved = await desk.unknown()
    await silent(desk)

    await desk.report(saved, S.SENT)

    assert await desk.state(saved) == (S.SENT, None)


async def test_an_echo_before_the_resend_has_left_takes_it_back(desk) -> None:
    await desk.policy(UnknownPolicy.RESEND)
    saved = await desk.unknown()
    await silent(desk)
    (entry,) = await desk.claim()

    await desk.report(saved, S.SENT)

    assert await desk.queue.mark([entry], lease=60 * SECOND) == frozenset()
    assert await desk.state(saved) == (S.SENT, None)


@pytest.mark.parametrize("echo_first", [True, False])
async def test_an_echo_after_the_resend_is_recorded_as_a_duplicate(desk, echo_first) -> None:
    await desk.policy(UnknownPolicy.RESEND)
    saved = await desk.unknown()
    await silent(desk)
    (entry,) = await desk.claim()
    await desk.queue.mark([entry], lease=60 * SECOND)

    async def echo() -> None:
        for status in (S.SENT, S.DELIVERED):
            await desk.report(saved, status, attempt=1, wamid="wamid.1")

    async def answer() -> None:
        await desk.record(entry, S.SENT, wamid="wamid.2")
        for status in (S.SENT, S.DELIVERED):
            await desk.report(saved, status, attempt=2, wamid="wamid.2")

    for step in (echo, answer) if echo_first else (answer, echo):
        await step()

    assert await desk.state(saved) == (S.DELIVERED, None)
    stored = await desk.run("get_outbound_by_id", saved.id)
    (other,) = await desk.duplicates(saved)
    assert {stored.wamid, other[1]} == {"wamid.1", "wamid.2"}
    assert other == ((2, "wamid.2") if echo_first else (1, "wamid.1"))


async def test_a_retry_by_hand_after_a_failure_is_no_duplicate(desk, sessions) -> None:
    await desk.policy(UnknownPolicy.CATEGORY)
    saved, entry = await desk.marked()
    await desk.record(entry, S.SENT, wamid="wamid.1")
    await desk.report(saved, S.FAILED)
    await RetryMessage(begin=work_in(sessions))(saved.tenant_id, saved.id)

    await desk.report(saved, S.SENT)  # Late, and about the attempt that failed.
    assert await desk.state(saved) == (S.QUEUED, "ready")
    (entry,) = await desk.claim()
    await desk.queue.mark([entry], lease=60 * SECOND)
    await desk.record(entry, S.SENT, wamid="wamid.2")
    await desk.report(saved, S.SENT, attempt=2, wamid="wamid.2")

    assert (await desk.run("get_outbound_by_id", saved.id)).wamid == "wamid.2"
    assert await desk.duplicates(saved) == []


async def abandoned(desk):
    saved, entry = await desk.marked()
    await desk.pass_time(61 * SECOND)
    return saved, entry


async def hold_abandoned(desk) -> int:
    return await desk.run(
        "settle_abandoned", desk.customer.channel.id, unknown_for=T, overhang=55 * SECOND
    )


async def test_what_a_dead_worker_had_marked_is_unknown_with_the_reason(desk) -> None:
    saved, _ = await abandoned(desk)

    assert await hold_abandoned(desk) == 1
    assert await hold_abandoned(desk) == 0

    assert await desk.state(saved) == (S.UNKNOWN, "unknown")
    stored = await desk.run("get_outbound_by_id", saved.id)
    assert (stored.attempts, "died" in stored.failure.details) == (1, True)


async def test_what_meta_reported_before_the_lease_ended_leaves_the_queue(desk) -> None:
    saved, _ = await desk.marked()
    await desk.report(saved, S.SENT)
    assert await desk.state(saved) == (S.SENT, "dispatching")
    await desk.pass_time(61 * SECOND)

    assert await hold_abandoned(desk) == 1
    assert await desk.state(saved) == (S.SENT, None)


@pytest.mark.parametrize(
    ("status", "left"),
    [
        (S.SENT, None),
        (S.FAILED, None),
        (S.EXPIRED, None),
        (S.RETRYING, "retrying"),
        (S.QUEUED, "ready"),
    ],
)
async def test_the_answer_itself_settles_it_however_late_it_is_recorded(desk, status, left) -> None:
    saved, entry = await abandoned(desk)
    await hold_abandoned(desk)

    held = await desk.record(entry, status, wamid="wamid.1" if status is S.SENT else None)

    assert held == {saved.id}
    assert await desk.state(saved) == (status, left)


async def test_a_mark_is_taken_back_also_from_what_was_held_as_unknown(desk) -> None:
    saved, entry = await abandoned(desk)
    await hold_abandoned(desk)

    recorded = await desk.run("record_attempts", [taken_back(entry, utc_now())])

    (again,) = await desk.claim()
    assert (recorded.held, again.message_id) == ({saved.id}, saved.id)


@pytest.mark.parametrize("was_marked", [True, False])
async def test_taking_a_mark_back_leaves_no_trace_whether_it_was_there_or_not(
    desk, was_marked
) -> None:
    saved = await desk.saved()
    (entry,) = await desk.claim()
    if was_marked:
        await desk.queue.mark([entry], lease=60 * SECOND)

    await desk.run("record_attempts", [taken_back(entry, utc_now())])

    (again,) = await desk.claim()
    assert (again.message_id, again.attempt) == (saved.id, 1)
    assert (await desk.run("get_outbound_by_id", saved.id)).attempts == 0


@pytest.mark.parametrize(
    ("outcome", "ahead"),
    # Trouble of the channel puts it back to its place; what has not left is due at once.
    [("rejected", None), ("not_sent", timedelta()), ("not_sent", timedelta(minutes=5))],
    ids=["refused", "taken back", "taken back by a clock that is ahead"],
)
async def test_what_goes_back_after_all_goes_before_later_ones_to_its_recipient(
    desk, outcome, ahead
) -> None:
    ana = PhoneNumber("+4915100077")
    saved, entry = await desk.marked(recipient=ana)
    await desk.pass_time(61 * SECOND)
    await desk.saved(recipient=ana)
    assert await hold_abandoned(desk) == 1

    number = entry.attempt if ahead is None else 0
    due_at = None if ahead is None else utc_now() + ahead
    await desk.record(entry, S.QUEUED, number=number, outcome=outcome, due_at=due_at)

    assert [one.message_id for one in await desk.claim()] == [saved.id]


async def test_a_stale_answer_changes_nothing_once_somebody_else_has_the_message(desk) -> None:
    await desk.policy(UnknownPolicy.RESEND)
    saved, stale = await abandoned(desk)
    await hold_abandoned(desk)
    await silent(desk)
    (current,) = await desk.claim()
    await desk.queue.mark([current], lease=60 * SECOND)

    for status in (S.FAILED, S.RETRYING, S.QUEUED, S.UNKNOWN):
        assert await desk.record(stale, status, due_at=utc_now()) == frozenset()

    assert await desk.state(saved) == (S.SENDING, "dispatching")
    assert await desk.record(current, S.SENT, wamid="wamid.2") == {saved.id}
