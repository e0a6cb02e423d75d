"""Every change of a message's status is told once, in its order, whoever makes it.

PostgreSQL itself notes the changes here, by a trigger that only these tests have.
"""

import importlib
import pkgutil
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.sql import ClauseElement

from shared.infrastructure.database import create_engine
from shared.kernel.clock import utc_now
from webhook_bodies import body, number_of, status_of
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.attempt import not_sent
from whatsapp.application.change_message import CancelMessage, RetryMessage
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.record_events import RecordEvents
from whatsapp.application.record_results import RecordResults
from whatsapp.application.tend_channel import ExpireUnsent, RetryFailed, SettleUnknown
from whatsapp.domain.entities import UnknownPolicy
from whatsapp.domain.events import TOLD_STATUSES
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.send_queue import Lease
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.callback import callback_data
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook
from whatsapp.infrastructure.persistence import repositories
from whatsapp.infrastructure.persistence.repositories import SQLAlchemySendQueue
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue

pytestmark = pytest.mark.postgres

S = MessageStatus
LEASE = timedelta(minutes=1)
ROOT = Path(__file__).parents[3]
NOTE_CHANGES = """
    CREATE TABLE noted_changes (
        place bigserial, message_id uuid, status text, transaction xid8);
    CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO noted_changes (message_id, status, transaction)
        VALUES (new.id, new.status, pg_current_xact_id());
        RETURN new;
    END $$;
    CREATE TRIGGER note_change AFTER UPDATE ON whatsapp_outbound_messages FOR EACH ROW
    WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION note_change();
"""
# Where a message stood after each transaction: what it was within one, nobody has seen.
STANDING = """
    SELECT message_id, status FROM (
        SELECT DISTINCT ON (transaction, message_id) * FROM noted_changes
        ORDER BY transaction, message_id, place DESC
    ) last ORDER BY place
"""
CHANGES = re.compile(r"UPDATE\s+whatsapp_outbound_messages\b")


@dataclass(slots=True)
class Life:
    """What can happen to one message of Ana's."""

    begin: Any
    ana: Any
    queue: SQLAlchemySendQueue
    inbox: SQLAlchemyWebhookQueue
    superuser: Any
    store: Any
    message: Any = None

    async def accept(self, **given: Any) -> None:
        self.message = await self.store(self.ana, **given)

    async def claim(self, *, mark: bool = True) -> Any:
        (entry,) = await self.queue.claim(
            tenant_id=self.ana.tenant_id, channel_id=self.ana.channel.id, limit=10, lease=LEASE
        )
        if mark:
            assert await self.queue.mark([entry], lease=LEASE)
        return entry

    async def record(self, *results: AttemptResult) -> None:
        recorder = RecordResults(
            tenant_id=self.ana.tenant_id,
            begin=self.begin,
            # Nothing here fails in a way that concerns a number.
            late=LateFailures.judged(outcome_of_status_errors, begin=self.begin, limiter=None),
        )
        outcomes = recorder.of(self.ana.channel.id, stored=lambda _: None)
        for result in results:
            outcomes.put(result)
        await outcomes.all_stored()

    async def answer(self, status: MessageStatus, **given: Any) -> None:
        entry, now = await self.claim(), utc_now()
        result = AttemptResult(
            message_id=entry.message_id,
            lease_token=entry.lease_token,
            number=entry.attempt,
            status=status,
            outcome="accepted" if status is S.SENT else status.value,
            started_at=now,
            finished_at=now,
            failure=FailureReason(131026, "Undeliverable", "") if status is S.FAILED else None,
            **given,
        )
        await self.record(result, result)

    async def drop(self, status: MessageStatus) -> None:
        """A worker finds that the message is not to be sent at all."""
        entry = await self.claim(mark=False)
        await self.record(not_sent(entry, status, utc_now(), "Not any more"))

    async def report(
        self, *statuses: str, echo: bool = True, at: int = 1795420800, **values: Any
    ) -> None:
        attempt = await self.superuser.fetchval(
            "SELECT attempts FROM whatsapp_outbound_messages WHERE id = $1", self.message.id
        )
        said = {
            "biz_opaque_callback_data": callback_data(
                message_id=self.message.id, attempt=attempt or 1
            )
        }
        values |= said if echo else {}
        apply = ApplyWebhook(
            begin=self.begin,
            statuses=ApplyStatuses(judge=outcome_of_status_errors),
            inbound=ApplyInbound(),
            changes=ApplyChanges(),
            followers=[RecordEvents()],
        )
        changes = [
            status_of(self.ana, "wamid.1", status, at=at + place, **values)
            for place, status in enumerate(statuses)
        ]
        elements = parse_webhook(body(*changes)).elements
        placed = [Placed(self.message.id, element) for element in elements]
        await apply(Route(self.ana.tenant_id, self.ana.channel.id), placed)

    async def cancel(self) -> None:
        await CancelMessage(begin=self.begin)(self.ana.tenant_id, self.message.id)

    async def send_again(self) -> None:
        await RetryMessage(begin=self.begin)(self.ana.tenant_id, self.message.id)

    @property
    def settle(self) -> SettleUnknown:
        return SettleUnknown(
            begin=self.begin,
            queue=self.queue,
            inbox=self.inbox,
            unknown_for=LEASE,
            lease=Lease(LEASE),
        )

    async def fall_silent(self) -> None:
        """Meta reports about a later message only, and the deadline passes."""
        mine = self.message
        await self.accept()
        await self.answer(S.SENT, wamid="wamid.1")
        await self.report("sent")
        self.message = mine
        await self.superuser.execute(
            "UPDATE whatsapp_send_queue SET due_at = now() - interval '1s',"
            " lease_until = now() - interval '1h' WHERE id = $1",
            mine.id,
        )
        assert await self.settle.give_up(self.ana.tenant_id, self.ana.channel.id) == 1


async def answers(life: Life) -> None:
    await life.accept()
    await life.answer(S.SENT, wamid="wamid.1")
    await life.accept()
    await life.answer(S.FAILED)
    await life.send_again()
    await life.answer(S.FAILED)
    await life.accept()
    await life.answer(S.UNKNOWN, due_at=utc_now())


async def decisions_of_a_worker(life: Life) -> None:
    await life.accept()
    await life.drop(S.EXPIRED)
    await life.send_again()
    await life.drop(S.FAILED)
    await life.send_again()
    await life.drop(S.FAILED)
    await life.send_again()
    await life.answer(S.SENT, wamid="wamid.1")
    await life.accept()
    await life.answer(S.FAILED)
    await life.send_again()
    await life.drop(S.EXPIRED)


async def answers_that_were_reported_before(life: Life) -> None:
    await life.accept()
    await life.report("sent", "delivered", echo=False)
    await life.answer(S.SENT, wamid="wamid.1")
    await life.report("read")


async def reports(life: Life) -> None:
    await life.accept()
    await life.claim()
    await life.report("sent")
    await life.report("delivered")
    await life.report("read", at=1795420900)
    await life.report("delivered", at=1795420800)


async def reports_that_were_parked(life: Life) -> None:
    await life.accept()
    await life.claim()
    await life.report("delivered", echo=False, at=1795420900)
    await life.report("sent", at=1795420800)


async def reports_about_what_was_taken_back(life: Life) -> None:
    await life.accept()
    await life.cancel()
    await life.report("delivered")


async def cancellations(life: Life) -> None:
    await life.accept()
    await life.cancel()
    await life.cancel()
    await life.accept()
    await life.answer(S.FAILED)
    await life.send_again()
    await life.cancel()


async def policy(life: Life) -> None:
    async with life.begin(life.ana.tenant_id) as work:
        await work.channels.update(replace(life.ana.channel, on_unknown=UnknownPolicy.FAIL))
        await work.commit()
    await life.accept()
    await life.answer(S.UNKNOWN, due_at=utc_now() + LEASE)
    await life.fall_silent()
    await life.report("failed", errors=[{"code": 131026, "title": "Undeliverable"}], at=1795421000)


async def dead_workers(life: Life) -> None:
    await life.accept()
    await life.claim()
    await life.superuser.execute(
        "UPDATE whatsapp_send_queue SET lease_until = now() - interval '1s'"
    )
    assert await life.settle.hold_abandoned(life.ana.tenant_id, life.ana.channel.id) == 1
    await life.report("sent")


async def waiting_too_long(life: Life) -> None:
    await life.accept(expires_at=utc_now() + LEASE)
    await life.superuser.execute(
        "UPDATE whatsapp_send_queue SET expires_at = now() WHERE id = $1", life.message.id
    )
    expire = ExpireUnsent(begin=life.begin)
    assert await expire(life.ana.tenant_id, life.ana.channel.id) == 1
    await life.send_again()
    await life.answer(S.SENT, wamid="wamid.1")


async def due_retries(life: Life) -> None:
    await life.accept()
    await life.answer(S.RETRYING, due_at=utc_now())
    assert await RetryFailed(begin=life.begin)(life.ana.tenant_id) == 1
    await life.answer(S.SENT, wamid="wamid.1")


async def due_retries_of_an_application(life: Life) -> None:
    await life.accept()
    await life.answer(S.RETRYING, due_at=utc_now())
    async with life.begin(life.ana.tenant_id) as work:
        (due,) = await work.messages.get_failed_for_retry()
        due.requeue(utc_now())
        await work.messages.update_outbound(due)
        await work.commit()
    await life.answer(S.SENT, wamid="wamid.1")


async def failures_that_pass(life: Life) -> None:
    await life.accept()
    await life.answer(S.SENT, wamid="wamid.1")
    await life.report("failed", errors=[{"code": 131000, "title": "Something went wrong"}])


async def failures_of_the_channel(life: Life) -> None:
    await life.accept()
    await life.answer(S.SENT, wamid="wamid.1")
    await life.report("failed", errors=[{"code": 131042, "title": "Payment"}])
    await life.answer(S.SENT, wamid="wamid.2")
    await life.report("failed", errors=[{"code": 131026, "title": "Undeliverable"}], at=1795421000)


# Each statement that can change a status, and the lives in which it does.
LIVES = {
    "message_statements.RECORD_ATTEMPTS": [
        answers,
        decisions_of_a_worker,
        answers_that_were_reported_before,
    ],
    "report_statements.RECORD_STATUSES": [
        reports,
        reports_that_were_parked,
        reports_about_what_was_taken_back,
    ],
    "report_statements.RECORD_NEW_STATUSES": [reports],
    "message_statements.CANCEL_OUTBOUND": [cancellations],
    "message_statements.GIVE_UP_UNKNOWN": [policy],
    "message_statements.SETTLE_ABANDONED": [dead_workers],
    "message_statements.EXPIRE_UNSENT": [waiting_too_long],
    "message_statements.UPDATE_OUTBOUND": [due_retries_of_an_application],
    "retry_statements.REQUEUE_DUE": [due_retries],
    "retry_statements.SEND_AGAIN": [
        failures_that_pass,
        failures_of_the_channel,
        cancellations,
    ],
}


@pytest.fixture
async def life(database, begin, ana, sent, superuser):
    dispatch = create_engine(database.url("tellwire_dispatch"))
    process = create_engine(database.url("tellwire_process"))
    await superuser.execute(NOTE_CHANGES)
    # The window is not what this is about.
    await superuser.execute("UPDATE whatsapp_channels SET window_policy = 'allow'")
    async with begin(ana.tenant_id) as work:
        await work.events.open()
        await work.commit()
    queue, inbox = SQLAlchemySendQueue(dispatch), SQLAlchemyWebhookQueue(process)
    assert number_of(ana)
    yield Life(begin, ana, queue, inbox, superuser, sent)
    await dispatch.dispose()
    await process.dispose()


@pytest.mark.parametrize(
    "live", list(dict.fromkeys(one for lives in LIVES.values() for one in lives))
)
async def test_what_changes_is_told_once_and_in_its_order(life, live) -> None:
    await live(life)

    changed = await life.superuser.fetch(STANDING)
    async with life.begin(life.ana.tenant_id) as work:
        events = await work.events.list_after(0, limit=1000)
    told = [(one.subject_id, S(one.type.value.removeprefix("message."))) for one in events]
    wanted = [(one["message_id"], S(one["status"])) for one in changed]
    assert wanted
    assert [one for one in told if one not in steps(told, wanted)] == [
        one for one in wanted if one[1] in TOLD_STATUSES
    ]


def steps(told, wanted):
    """What was told on the way to a status, where the message went there at once."""
    kinds = [(one, {S.SENT, S.DELIVERED}) for one, _ in wanted]
    possible = {(one, status) for one, statuses in kinds for status in statuses} - set(wanted)
    assert all(told.count(one) <= 1 for one in possible)
    return {
        (one, status)
        for one, status in possible & set(told)
        if any(
            later[0] == one and later[1].rank > status.rank
            for later in told[told.index((one, status)) :]
        )
    }


def test_every_statement_that_changes_a_status_has_its_lives() -> None:
    """A new one is found here and has to show that it is told."""
    found = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in _modules()
        for name, value in vars(module).items()
        if module.__name__.endswith("_statements")
        and isinstance(value, ClauseElement)
        and _moves(str(value))
    }
    assert found == set(LIVES)


def test_no_statement_about_messages_hides_elsewhere() -> None:
    """Not in another module, not in a function of the database, and not by way of the ORM."""
    places = [
        path.relative_to(ROOT).as_posix()
        for top in ("src", "migrations")
        for path in sorted((ROOT / top).rglob("*.py"))
        if CHANGES.search(text := path.read_text())
        or re.search(r"update\((OutboundMessageModel|_MESSAGES)\b", text)
    ]
    home = "src/modules/whatsapp/infrastructure/persistence/repositories"
    assert places == [f"{home}/{name}_statements.py" for name in ("message", "report", "retry")]


def _modules() -> list[Any]:
    prefix = f"{repositories.__name__}."
    return [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(repositories.__path__, prefix)
    ]


def _moves(statement: str) -> bool:
    return (
        CHANGES.search(statement) is not None and re.search(r"\bstatus\s*=", statement) is not None
    )
