"""Two that change the same at one instant wait for, and not on, each other: none tries again.

Each test stops one transaction between two of its statements, lets the other run into it, and then
lets the first go on. Where they took their locks in different orders, PostgreSQL would end one.
"""

import asyncio
from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.application.applied import Placed
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.know_contact import MarketingWish, heed_marketing_wishes
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.record_results import RecordResults
from whatsapp.domain.account import TemplateReported
from whatsapp.domain.entities import InvalidTransition
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.send_queue import RETRY_LANES
from whatsapp.domain.value_objects import MessageStatus, PhoneNumber
from whatsapp.domain.webhook import FieldChanged
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

S = MessageStatus
HOUR = timedelta(hours=1)


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


@pytest.fixture
def begin(sessions):
    return work_in(sessions)


@pytest.fixture
def retrying(at, message, superuser):
    """`await retrying(ana)`: a message that waits for its retry, which is due."""

    async def retrying(customer):
        async with at(customer) as desk:
            saved = await desk.messages.save_outbound(message(customer))
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = 'retrying', attempts = 1 WHERE id = $1",
            saved.id,
        )
        await superuser.execute(
            "UPDATE whatsapp_send_queue SET state = 'retrying', attempt = 1, lane = lane + $2"
            " WHERE id = $1",
            saved.id,
            RETRY_LANES,
        )
        return saved

    return retrying


async def told_of(work, customer, saved):
    """As a report that Meta has delivered the message after all, up to its entry."""
    report = StatusReport(
        wamid=f"wamid.{saved.id}",
        status=S.DELIVERED,
        occurred_at=utc_now(),
        message_id=saved.id,
        attempt=1,
    )
    await work.messages.record_statuses(customer.channel.id, [report])


@pytest.fixture
def stopped_before(begin, ana):
    """Reports of a message, whose transaction stops before its statement with these words."""

    async def run(saved, words, reached, go):
        async with begin(ana.tenant_id) as work:
            fetch = work.messages._fetch

            async def stopping(statement, *args):
                if words in str(statement):
                    reached.set()
                    await go.wait()
                return await fetch(statement, *args)

            work.messages._fetch = stopping
            await told_of(work, ana, saved)
            await work.commit()

    return run


SETTLES = "DELETE FROM whatsapp_send_queue q USING entry e"


async def test_who_takes_back_what_is_being_reported_learns_that_it_is_too_late(
    begin, ana, retrying, stopped_before, is_waiting, superuser
) -> None:
    saved = await retrying(ana)
    reached, go = asyncio.Event(), asyncio.Event()

    async def cancel():
        async with begin(ana.tenant_id) as work:
            await work.messages.cancel_outbound(saved.id, utc_now())
            await work.commit()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(stopped_before(saved, SETTLES, reached, go))
        await reached.wait()
        cancelling = tasks.create_task(_caught(cancel()))
        await is_waiting(cancelling)
        go.set()

    assert isinstance(cancelling.result(), InvalidTransition)
    assert await _status(superuser, saved) == "delivered"
    assert await _entry(superuser, saved) is None


async def test_who_puts_back_what_is_due_leaves_alone_what_is_being_reported(
    begin, ana, retrying, stopped_before, is_waiting, superuser
) -> None:
    """The embedder's way: `get_failed_for_retry`, and then `update_outbound` for each."""
    reported, other = await retrying(ana), await retrying(ana)
    reached, go = asyncio.Event(), asyncio.Event()

    async def put_back():
        async with begin(ana.tenant_id) as work:
            due = await work.messages.get_failed_for_retry()
            for message in due:
                message.requeue(utc_now())
                await work.messages.update_outbound(message)
            await work.commit()
            return [message.id for message in due]

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(stopped_before(reported, SETTLES, reached, go))
        await reached.wait()
        putting_back = tasks.create_task(put_back())
        await is_waiting(putting_back)
        go.set()

    assert putting_back.result() == [other.id]
    assert await _status(superuser, reported) == "delivered"
    assert await _entry(superuser, reported) is None
    assert await _entry(superuser, other) == "ready"


def approved(*names):
    """A change of these templates, in the order in which Meta wrote it."""
    return FieldChanged(
        waba_id="account",
        phone_number_id=None,
        field="message_template_status_update",
        reported_at=utc_now(),
        facts=tuple(TemplateReported(name=n, language="de", status="APPROVED") for n in names),
        raw={},
    )


async def test_reports_of_the_same_templates_in_other_orders_wait_for_each_other(
    begin, ana, is_waiting, superuser
) -> None:
    route = Route(ana.tenant_id, ana.channel.id)
    reached, go = asyncio.Event(), asyncio.Event()

    async def tell(*changes, stops=False):
        async with begin(ana.tenant_id) as work:
            record = work.accounts.record_template

            async def stopping(*args):
                await record(*args)
                reached.set()
                await go.wait()

            if stops:
                work.accounts.record_template = stopping
            await ApplyChanges()(work, route, [Placed(new_id(), one) for one in changes])
            await work.commit()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(tell(approved("aa", "bb"), stops=True))
        await reached.wait()
        other = tasks.create_task(tell(approved("bb"), approved("aa")))
        await is_waiting(other)
        go.set()

    assert (
        await superuser.fetchval(
            "SELECT count(*) FROM whatsapp_templates WHERE tenant_id = $1", ana.tenant_id
        )
        == 2
    )


async def test_refusals_that_tell_wishes_wait_for_whoever_learns_who_is_who(
    begin, ana, retrying, is_waiting, superuser
) -> None:
    first, second = PhoneNumber("+4915130000001"), PhoneNumber("+4915130000002")
    refused = [await retrying(ana), await retrying(ana)]

    def wish(phone, *, stopped=False):
        return MarketingWish(phone=phone, user_id=None, stopped=stopped, at=utc_now() - HOUR)

    def result(saved, phone):
        return AttemptResult(
            message_id=saved.id,
            lease_token=new_id(),
            number=1,
            status=S.FAILED,
            outcome="rejected",
            started_at=utc_now(),
            finished_at=utc_now(),
            failure=FailureReason(131050, "Stopped", ""),
            recipient=phone,
        )

    results = RecordResults(
        tenant_id=ana.tenant_id,
        begin=begin,
        late=LateFailures.judged(outcome_of_status_errors, begin=begin, limiter=None),
    )
    outcomes = results.of(ana.channel.id, stored=lambda _: None)
    outcomes.expect(2)  # So that both are stored together.
    async with begin(ana.tenant_id) as work:
        await heed_marketing_wishes(work, ana.channel.id, [wish(first), wish(second)])
        await work.commit()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, begin(ana.tenant_id) as work:
        await work.conversations.lock_people(ana.channel.id)
        await heed_marketing_wishes(work, ana.channel.id, [wish(second)])
        for one in zip(refused, (first, second), strict=True):
            outcomes.put(result(*one))
        recording = tasks.create_task(outcomes.all_stored())
        await is_waiting(recording)
        await heed_marketing_wishes(work, ana.channel.id, [wish(first)])
        await work.commit()

    assert (
        await superuser.fetchval(
            "SELECT count(*) FROM whatsapp_conversations"
            " WHERE tenant_id = $1 AND marketing_stopped",
            ana.tenant_id,
        )
        == 2
    )


async def _caught(doing):
    try:
        await doing
    except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
        return error
    return None


async def _status(superuser, saved):
    return await superuser.fetchval(
        "SELECT status FROM whatsapp_outbound_messages WHERE id = $1", saved.id
    )


async def _entry(superuser, saved):
    return await superuser.fetchval("SELECT state FROM whatsapp_send_queue WHERE id = $1", saved.id)
