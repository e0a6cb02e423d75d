"""Reports that do not say whose they are, and the answers that tell: they never miss each other."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.kernel.clock import utc_now
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.webhook import StatusReported
from whatsapp.domain.webhook_inbox import Route
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

START = datetime(2026, 11, 23, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
S = MessageStatus


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


def told(status, wamid, saved=None):
    """A report, with our id if `saved` is given."""
    return StatusReport(
        wamid=wamid,
        status=status,
        occurred_at=START + SECOND * status.rank,
        message_id=saved and saved.id,
        attempt=1 if saved else None,
        failure=FailureReason(131026, "Undeliverable", "x") if status is S.FAILED else None,
        errors=[{"code": 131026, "title": "Undeliverable", "details": "x"}]
        if status is S.FAILED
        else [],
    )


def reported_of(customer, status, wamid):
    """The same without our id, as it comes out of a webhook."""
    return StatusReported(
        waba_id=None,
        phone_number_id=customer.channel.phone_number_id,
        wamid=wamid,
        status=status,
        occurred_at=START + SECOND * status.rank,
        wa_id=None,
        user_id=None,
        echo=None,
        errors=(),
        pricing=None,
        raw={},
    )


def answer(entry, wamid):
    now = utc_now()
    return AttemptResult(
        message_id=entry.message_id,
        lease_token=entry.lease_token,
        number=entry.attempt,
        status=S.SENT,
        outcome="accepted",
        started_at=now,
        finished_at=now,
        wamid=wamid,
    )


@pytest.fixture
def leave(at, message, claim, send_queue):
    """Store a message and mark it: its request is under way."""

    async def leave(customer):
        async with at(customer) as desk:
            saved = await desk.messages.save_outbound(message(customer))
        (entry,) = await claim(customer)
        await send_queue.mark([entry], lease=MINUTE)
        return saved, entry

    return leave


async def record_stray(desk, customer, *reports):
    await desk.messages.expect_answers(customer.channel.id, [one.wamid for one in reports])
    await desk.messages.record_statuses(customer.channel.id, reports)


async def stored(at, customer, saved):
    async with at(customer) as desk:
        return await desk.messages.get_outbound_by_id(saved.id)


async def is_waiting(superuser):
    """Until somebody waits for one of our locks."""
    async with asyncio.timeout(10):
        while not await superuser.fetchval(  # noqa: ASYNC110  # PostgreSQL tells nobody
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ):
            await asyncio.sleep(0.005)


async def test_a_report_waits_for_the_answer_that_is_being_recorded(at, ana, leave, superuser):
    saved, entry = await leave(ana)

    async def report():
        async with at(ana) as desk:
            await record_stray(desk, ana, told(S.DELIVERED, "wamid.race.1"))

    async with at(ana) as desk:
        await desk.messages.record_attempts([answer(entry, "wamid.race.1")])
        reporting = asyncio.create_task(report())
        await is_waiting(superuser)
    await reporting

    assert (await stored(at, ana, saved)).status == "delivered"


async def test_whoever_applies_reports_waits_for_answers(at, ana, leave, superuser, sessions):
    saved, entry = await leave(ana)
    route = Route(ana.tenant_id, ana.channel.id)

    async def apply():
        async with work_in(sessions)(ana.tenant_id) as work:
            reported = [reported_of(ana, S.DELIVERED, "wamid.race.3")]
            applied = await ApplyStatuses(judge=outcome_of_status_errors)(work, route, reported)
            await work.commit()
            return applied

    async with at(ana) as desk:
        await desk.messages.record_attempts([answer(entry, "wamid.race.3")])
        applying = asyncio.create_task(apply())
        await is_waiting(superuser)
    (applied,) = await applying

    assert (applied.message_id, applied.moved) == (saved.id, True)
    assert (await stored(at, ana, saved)).status == "delivered"


async def test_an_answer_waits_for_the_report_that_is_being_kept(at, ana, leave, superuser):
    saved, entry = await leave(ana)

    async def record():
        async with at(ana) as desk:
            await desk.messages.record_attempts([answer(entry, "wamid.race.2")])

    async with at(ana) as desk:
        await record_stray(desk, ana, told(S.READ, "wamid.race.2"))
        recording = asyncio.create_task(record())
        await is_waiting(superuser)
    await recording

    assert (await stored(at, ana, saved)).status == "read"


async def test_a_failure_that_was_parked_is_told_with_its_reason(at, ana, leave):
    saved, entry = await leave(ana)
    async with at(ana) as desk:
        await record_stray(desk, ana, told(S.FAILED, "wamid.failed"))
        await desk.messages.record_attempts([answer(entry, "wamid.failed")])

    found = await stored(at, ana, saved)
    assert (found.status, found.failure) == ("failed", FailureReason(131026, "Undeliverable", "x"))


async def test_what_another_report_tells_of_a_wamid_holds_for_those_that_were_parked(
    at, ana, leave
):
    saved, _ = await leave(ana)
    async with at(ana) as desk:
        await record_stray(desk, ana, told(S.READ, "wamid.told"))
    async with at(ana) as desk:
        await desk.messages.record_statuses(ana.channel.id, [told(S.SENT, "wamid.told", saved)])

    assert (await stored(at, ana, saved)).status == "read"


async def test_reports_about_another_systems_messages_stay_apart(at, ana, leave, superuser):
    saved, entry = await leave(ana)
    async with at(ana) as desk:
        await desk.messages.record_attempts([answer(entry, "wamid.ours")])
        await record_stray(desk, ana, told(S.READ, "wamid.not.ours"))

    assert (await stored(at, ana, saved)).status == "sent"
    assert await superuser.fetchval(
        "SELECT message_id IS NULL FROM whatsapp_status_events WHERE wamid = 'wamid.not.ours'"
    )


EVENTS = [S.SENT, S.DELIVERED, S.READ, S.FAILED]


@st.composite
def histories(draw):
    """Reports with and without our id, in any order and repeated, and the answer among them."""
    chosen = draw(st.lists(st.sampled_from(EVENTS), min_size=1, unique=True))
    reports = [(status, draw(st.booleans())) for status in chosen]
    repeated = draw(st.lists(st.sampled_from(reports), max_size=2))
    order = draw(st.permutations([*reports, *repeated, "answer"]))
    return sorted(chosen, key=lambda status: status.rank), order


async def test_answers_and_reports_end_the_same_however_they_are_interleaved(
    at, ana, leave, superuser
):
    async def play(order):
        saved, entry = await leave(ana)
        wamid = f"wamid.{saved.id}"
        for event in order:
            async with at(ana) as desk:
                if event == "answer":
                    await desk.messages.record_attempts([answer(entry, wamid)])
                elif event[1]:
                    await desk.messages.record_statuses(
                        ana.channel.id, [told(event[0], wamid, saved)]
                    )
                else:
                    await record_stray(desk, ana, told(event[0], wamid))
        found = await stored(at, ana, saved)
        events = await superuser.fetch(
            "SELECT status FROM whatsapp_status_events WHERE message_id = $1 ORDER BY 1", saved.id
        )
        left = await superuser.fetchval(
            "SELECT count(*) FROM whatsapp_send_queue WHERE id = $1", saved.id
        )
        return found.status, found.wamid == wamid, [event["status"] for event in events], left

    loop = asyncio.get_running_loop()

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(histories())
    def law(history):
        chosen, order = history

        def run(work):
            return asyncio.run_coroutine_threadsafe(work, loop).result(30)

        ordered = ["answer", *((status, True) for status in chosen)]
        assert run(play(order)) == run(play(ordered))

    await asyncio.to_thread(law)
