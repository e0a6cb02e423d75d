"""Reports of Meta in any order, cut and repeated at will, and results of attempts under a lease."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise, permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.infrastructure.database import InvalidValue
from shared.kernel.clock import utc_now
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.value_objects import MessageStatus, PhoneNumber

pytestmark = pytest.mark.postgres

START = datetime(2026, 11, 23, tzinfo=UTC)
SECOND = timedelta(seconds=1)
REASON = FailureReason(131026, "Undeliverable", "Not on WhatsApp")
S = MessageStatus


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


def report(saved, status, *, attempt=None, wamid="wamid.1", echoed=True):
    return StatusReport(
        wamid=wamid,
        status=status,
        # Meta gives whole seconds: several reports often have the same.
        occurred_at=START + SECOND * (status.rank // 2),
        message_id=saved.id if echoed else None,
        attempt=attempt,
        failure=REASON if status is S.FAILED else None,
    )


async def counts(desk, customer, reports):
    """How many reports were new, messages moved and messages doubled."""
    recorded = await desk.messages.record_statuses(customer.channel.id, reports)
    return recorded.kept, recorded.moved, recorded.doubled


async def shape(superuser, saved):
    """What is stored about a message, its reports and its queue entry."""
    message = await superuser.fetchrow(
        "SELECT status, status_at, wamid, failure_code, failure_title, next_attempt_at"
        " FROM whatsapp_outbound_messages WHERE id = $1",
        saved.id,
    )
    events = await superuser.fetch(
        "SELECT wamid, status, attempt, occurred_at FROM whatsapp_status_events"
        " WHERE message_id = $1 ORDER BY status, attempt, wamid",
        saved.id,
    )
    queued = await superuser.fetchval(
        "SELECT state FROM whatsapp_send_queue WHERE id = $1", saved.id
    )
    return dict(message), [dict(event) for event in events], queued


REPORTS = [(S.SENT, 1), (S.SENT, 2), (S.FAILED, 1), (S.FAILED, 2), (S.DELIVERED, 2), (S.READ, 2)]


@st.composite
def deliveries(draw):
    """Some reports, and a way to deliver them: in any order, some again, cut into batches."""
    chosen = draw(st.lists(st.sampled_from(REPORTS), min_size=1, unique=True))
    repeated = draw(st.lists(st.sampled_from(chosen), max_size=4))
    order = draw(st.permutations(chosen + repeated))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=3)))
    bounds = [0, *cuts, len(order)]
    return chosen, [order[a:b] for a, b in pairwise(bounds) if a < b]


@pytest.mark.parametrize("stored", [S.QUEUED, S.UNKNOWN, S.SENT, S.RETRYING])
async def test_reports_end_the_same_in_any_order_repeated_or_cut(
    at, ana, message, superuser, stored
):
    async def deliver(batches):
        async with at(ana) as desk:
            saved = await desk.messages.save_outbound(message(ana))
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = $1, status_at = $2, attempts = 2"
            " WHERE id = $3",
            stored.value,
            START - SECOND,
            saved.id,
        )
        for batch in batches:
            async with at(ana) as desk:
                await desk.messages.record_statuses(
                    ana.channel.id,
                    [
                        report(saved, status, attempt=attempt, wamid=f"{attempt}.{saved.id}")
                        for status, attempt in batch
                    ],
                )
        message_, events, queued = await shape(superuser, saved)
        for row in (message_, *events):
            row.pop("wamid")
        return message_, events, queued

    loop = asyncio.get_running_loop()

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), database=None)
    @given(deliveries())
    def law(delivery):
        chosen, batches = delivery
        ordered = [[one] for one in sorted(chosen, key=lambda pair: (pair[0].rank, pair[1] or 0))]

        def run(work):
            return asyncio.run_coroutine_threadsafe(work, loop).result(30)

        assert run(deliver(batches)) == run(deliver(ordered))

    await asyncio.to_thread(law)


async def test_every_report_is_kept_once_and_moves_its_message(at, ana, message, superuser):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        one, two = report(saved, S.SENT), report(saved, S.DELIVERED)
        assert await counts(desk, ana, [one, two, one]) == (2, 1, 0)
        assert await counts(desk, ana, [two, one]) == (0, 0, 0)
        assert await counts(desk, ana, []) == (0, 0, 0)

    stored, events, _ = await shape(superuser, saved)
    assert stored["status"] == "delivered"
    assert stored["wamid"] == "wamid.1"
    assert len(events) == 2


async def test_a_report_is_matched_by_wamid_where_our_id_was_not_echoed(at, ana, message):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana, wamid="wamid.1"))
        told = report(saved, S.READ, echoed=False)
        assert await counts(desk, ana, [told]) == (1, 1, 0)


async def test_a_report_about_a_message_of_somebody_else_is_kept_and_moves_nothing(
    at, ana, message, superuser
):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        told = report(saved, S.READ, wamid="wamid.of.another.system", echoed=False)
        assert await counts(desk, ana, [told]) == (1, 0, 0)

    assert await superuser.fetchval(
        "SELECT count(*) FROM whatsapp_status_events WHERE wamid = 'wamid.of.another.system'"
        " AND message_id IS NULL"
    )


async def test_a_report_that_came_before_its_wamid_was_known_counts_once_it_is(
    at, ana, message, claim, send_queue
):
    """The answer to our own request may be recorded later than Meta's report about it."""
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        early = report(saved, S.DELIVERED, echoed=False)
        assert await counts(desk, ana, [early]) == (1, 0, 0)
    (entry,) = await send_queue_mark(send_queue, await claim(ana))
    async with at(ana) as desk:
        await desk.messages.record_attempts([result(entry, S.SENT, wamid="wamid.1")])
        assert (await desk.messages.get_outbound_by_id(saved.id)).status == "delivered"


async def test_a_report_for_another_channel_of_the_tenant_moves_nothing(at, ana, message, bea):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        with pytest.raises(ChannelNotFound):
            await desk.messages.record_statuses(bea.channel.id, [report(saved, S.READ)])
        await desk.uow.rollback()


async def test_numbers_nobody_can_store_do_not_fail_the_neighbours(at, ana, message):
    async with at(ana) as desk:
        one = await desk.messages.save_outbound(message(ana))
        two = await desk.messages.save_outbound(message(ana))
        odd = StatusReport(
            wamid="wamid.\0",
            status=S.FAILED,
            occurred_at=START,
            message_id=one.id,
            attempt=10**9,
            failure=FailureReason(10**12, "\0", "\ud800"),
            errors=[{"title": "\0"}],
            pricing={"\0": "\udfff"},
        )
        told = [odd, report(two, S.READ, wamid="wamid.2")]
        assert await counts(desk, ana, told) == (2, 2, 0)


async def test_when_it_happened_is_kept_to_the_microsecond(at, ana, message, superuser):
    first = datetime(2009, 1, 1, tzinfo=timezone(timedelta(hours=-3)))
    apart = timedelta(days=29, microseconds=1_004_003)
    moments = {f"wamid.{n}": first + n * apart for n in range(1000)}
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        told = [
            replace(report(saved, S.SENT, wamid=wamid), occurred_at=moment)
            for wamid, moment in moments.items()
        ]
        assert (await counts(desk, ana, told))[0] == len(moments)
    (_, kept, _) = await shape(superuser, saved)
    assert {one["wamid"]: one["occurred_at"] for one in kept} == moments


@pytest.mark.parametrize("moment", [datetime(2026, 11, 29), "2026-11-29T00:00:00Z", None])  # noqa: DTZ001  # refused
async def test_a_time_that_is_none_is_refused_before_anything_is_sent(at, ana, message, moment):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
        with pytest.raises(InvalidValue) as refused:
            await counts(desk, ana, [replace(report(saved, S.SENT), occurred_at=moment)])
        assert refused.value.field == "occurred_at"
        assert await counts(desk, ana, [report(saved, S.SENT)]) == (1, 1, 0)


async def test_reports_of_two_transactions_at_once_end_at_the_furthest(at, ana, message):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound_many([message(ana) for _ in range(20)])

    async def tell(status, *, backwards):
        told = [report(one, status, wamid=f"w.{one.id}") for one in saved]
        async with at(ana) as desk:
            await desk.messages.record_statuses(ana.channel.id, told[::-1] if backwards else told)

    order = [S.READ, S.SENT, S.DELIVERED, S.SENT, S.READ, S.DELIVERED]
    await asyncio.gather(*(tell(s, backwards=n % 2) for n, s in enumerate(order)))

    async with at(ana) as desk:
        found = await desk.messages.load_for_sending([one.id for one in saved])
    assert {one.status for one in found} == {"read"}


# --- Attempts ------------------------------------------------------------------------------------


def result(entry, status, **values):
    now = utc_now()
    given = {
        "message_id": entry.message_id,
        "lease_token": entry.lease_token,
        "number": entry.attempt,
        "status": status,
        "outcome": "accepted",
        "started_at": now,
        "finished_at": now,
    }
    return AttemptResult(**given | values)


async def send_queue_mark(send_queue, entries):
    marked = await send_queue.mark(entries, lease=SECOND * 60)
    assert marked == {entry.message_id for entry in entries}
    return entries


@pytest.mark.parametrize(
    ("status", "queued"),
    [
        (S.SENT, None),
        (S.FAILED, None),
        (S.EXPIRED, None),
        (S.RETRYING, "retrying"),
        (S.UNKNOWN, "unknown"),
        (S.QUEUED, "ready"),
    ],
)
async def test_a_result_under_its_lease_settles_message_and_queue_together(
    at, ana, message, claim, send_queue, superuser, status, queued
):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
    (entry,) = await send_queue_mark(send_queue, await claim(ana))
    due = utc_now() + SECOND * 60
    async with at(ana) as desk:
        held = (await desk.messages.record_attempts([result(entry, status, due_at=due)])).held

    stored, _, entry_state = await shape(superuser, saved)
    assert held == {saved.id}
    assert stored["status"] == status
    assert entry_state == queued


async def test_a_result_after_the_lease_was_lost_is_kept_as_evidence_and_changes_nothing(
    at, ana, message, claim, send_queue, superuser
):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
    (late,) = await claim(ana, lease=-SECOND)
    (current,) = await send_queue_mark(send_queue, await claim(ana))
    before = await shape(superuser, saved)
    async with at(ana) as desk:
        for status in (S.SENT, S.FAILED, S.RETRYING, S.UNKNOWN, S.QUEUED):
            late_result = result(late, status, wamid="wamid.late", due_at=utc_now())
            assert (await desk.messages.record_attempts([late_result])).held == frozenset()
    assert await shape(superuser, saved) == before
    assert (
        await superuser.fetchval(
            "SELECT count(*) FROM whatsapp_message_attempts WHERE message_id = $1", saved.id
        )
        == 5
    )

    async with at(ana) as desk:
        told = result(current, S.SENT, wamid="wamid.1")
        assert (await desk.messages.record_attempts([told])).held == {saved.id}
        assert (await desk.messages.record_attempts([told])).held == {saved.id}
        told_again = result(current, S.SENT, wamid="wamid.1")
        assert (await desk.messages.record_attempts([told_again])).held == frozenset()


@pytest.mark.parametrize("status", [S.RETRYING, S.UNKNOWN, S.QUEUED, S.FAILED])
async def test_an_answer_that_a_report_has_overtaken_neither_undoes_it_nor_sends_again(
    at, ana, message, claim, send_queue, superuser, status
):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
    (entry,) = await send_queue_mark(send_queue, await claim(ana))
    async with at(ana) as desk:
        await desk.messages.record_statuses(ana.channel.id, [report(saved, S.DELIVERED)])
        late = result(entry, status, failure=REASON, due_at=utc_now() - SECOND)
        assert (await desk.messages.record_attempts([late])).held == {saved.id}
        assert await desk.messages.get_failed_for_retry() == []

    stored, _, queued = await shape(superuser, saved)
    assert (stored["status"], stored["failure_code"], queued) == ("delivered", None, None)


async def test_a_result_of_a_message_that_is_gone_does_not_fail_its_neighbours(
    at, ana, message, claim, send_queue
):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound_many([message(ana), message(ana)])
    entries = await send_queue_mark(send_queue, await claim(ana))
    async with at(ana) as desk:
        await desk.messages.delete(saved[0].id)
    async with at(ana) as desk:
        held = (await desk.messages.record_attempts([result(e, S.SENT) for e in entries])).held

    assert held == {saved[1].id}


async def test_proof_that_it_was_sent_settles_an_unknown_outcome_without_the_lease(
    at, ana, message, claim, send_queue, superuser
):
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
    (entry,) = await send_queue_mark(send_queue, await claim(ana, lease=SECOND * 60))
    await superuser.execute("UPDATE whatsapp_send_queue SET lease_until = now() - interval '1 s'")
    async with at(ana) as desk:
        assert await desk.messages.settle_abandoned(ana.channel.id, unknown_for=SECOND * 60) == 1
        assert (await desk.messages.get_outbound_by_id(saved.id)).status == "unknown"
        told = result(entry, S.SENT, wamid="wamid.1")
        assert (await desk.messages.record_attempts([told])).held == {saved.id}

    stored, _, queued = await shape(superuser, saved)
    assert (stored["status"], stored["wamid"], queued) == ("sent", "wamid.1", None)


@pytest.mark.parametrize(
    ("outcome", "echoed"), [("accepted", True), ("accepted", False), ("unknown", True)]
)
async def test_answer_and_reports_end_the_same_whatever_comes_first(
    at, ana, message, claim, send_queue, superuser, outcome, echoed
) -> None:
    """Every order of Meta's answer (or of its absence) and of what Meta reports."""
    ended = []
    for number, order in enumerate(permutations(["answer", S.SENT, S.DELIVERED, S.READ])):
        async with at(ana) as desk:
            recipient = PhoneNumber(f"+49153{number:08}")
            saved = await desk.messages.save_outbound(message(ana, recipient=recipient))
        (entry,) = await claim(ana)
        await send_queue.mark([entry], lease=timedelta(minutes=1))
        wamid = f"{number}.{saved.id}"
        answer = AttemptResult(
            message_id=saved.id,
            lease_token=entry.lease_token,
            number=1,
            status=S.SENT if outcome == "accepted" else S.UNKNOWN,
            outcome=outcome,
            started_at=START,
            finished_at=START,
            wamid=wamid if outcome == "accepted" else None,
            due_at=None if outcome == "accepted" else utc_now() + timedelta(hours=1),
        )
        for event in order:
            async with at(ana) as desk:
                if event == "answer":
                    await desk.messages.record_attempts([answer])
                else:
                    told = report(saved, event, attempt=1, wamid=wamid, echoed=echoed)
                    await desk.messages.record_statuses(ana.channel.id, [told])
        stored, events, queued = await shape(superuser, saved)
        assert stored.pop("wamid") == wamid, order
        assert {one.pop("wamid") for one in events} == {wamid}, order
        ended.append((order, stored, events, queued))

    _, *first = ended[0]
    assert first[0]["status"] == "read"
    assert first[2] is None
    for order, *other in ended:
        assert other == first, order
