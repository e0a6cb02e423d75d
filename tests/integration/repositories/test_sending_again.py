"""Sending again what had ended: dead letters on demand, passing failures by themselves."""

from datetime import timedelta

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, FailedAttempt, Revival, StatusReport
from whatsapp.domain.value_objects import MessageStatus

pytestmark = pytest.mark.postgres

S = MessageStatus
MINUTE = timedelta(minutes=1)
PASSING = FailureReason(131000, "Something went wrong", "")


@pytest.fixture
def stored(at, ana, message, superuser):
    """A message in some status, without a queue entry or with one in some state."""

    async def stored(status, *, attempts=1, state=None, lease=MINUTE, **values):
        async with at(ana) as desk:
            saved = await desk.messages.save_outbound(message(ana, **values))
        await superuser.execute(
            "UPDATE whatsapp_outbound_messages SET status = $2, attempts = $3,"
            " failure_code = 131000, failure_title = 'x', failure_details = '' WHERE id = $1",
            saved.id,
            status.value,
            attempts,
        )
        if state is None:
            await superuser.execute("DELETE FROM whatsapp_send_queue WHERE id = $1", saved.id)
        else:
            await superuser.execute(
                "UPDATE whatsapp_send_queue SET state = $2, lease_until = $3, lease_token = $4,"
                " attempt = $5 WHERE id = $1",
                saved.id,
                state,
                utc_now() + lease,
                new_id(),
                attempts,
            )
        async with at(ana) as desk:
            return await desk.messages.get_outbound_by_id(saved.id)

    return stored


@pytest.fixture
def again(at, ana):
    async def again(message, **values):
        async with at(ana) as desk:
            revival = Revival(message=message, **values)
            done = await desk.messages.send_again([revival], at=utc_now())
            return done == {message.id}, await desk.messages.get_outbound_by_id(message.id)

    return again


@pytest.fixture
def entry(superuser):
    async def entry(message):
        return await superuser.fetchrow(
            "SELECT state, lane, attempt, due_at, lease_token FROM whatsapp_send_queue"
            " WHERE id = $1",
            message.id,
        )

    return entry


@pytest.mark.parametrize("status", MessageStatus)
async def test_only_what_has_ended_is_sent_again(stored, again, entry, status) -> None:
    message = await stored(status)

    done, found = await again(message)

    assert done is (status in {S.FAILED, S.EXPIRED, S.UNKNOWN})
    assert found.status is (S.QUEUED if done else status)
    assert (await entry(message) is not None) is done
    if done:
        assert found.failure is None
        assert (await entry(message))["state"] == "ready"
        assert (await entry(message))["attempt"] == 1


async def test_an_expiry_that_has_passed_is_dropped_and_another_kept(
    stored, again, superuser
) -> None:
    now = utc_now()
    past = await stored(S.EXPIRED, expires_at=now + MINUTE)
    await superuser.execute(
        "UPDATE whatsapp_outbound_messages SET expires_at = $2 WHERE id = $1", past.id, now - MINUTE
    )
    future = await stored(S.FAILED, expires_at=now + MINUTE)

    assert (await again(past))[1].expires_at is None
    assert (await again(future))[1].expires_at == now + MINUTE


@pytest.mark.parametrize(
    ("state", "lease", "done"),
    [
        ("dispatching", MINUTE, False),
        ("leased", MINUTE, False),
        ("dispatching", -MINUTE, True),
    ],
)
async def test_what_a_worker_holds_is_left_to_it(stored, again, state, lease, done) -> None:
    message = await stored(S.FAILED, state=state, lease=lease)

    assert (await again(message))[0] is done


async def test_an_unknown_one_is_left_to_its_deadline(stored, again) -> None:
    message = await stored(S.UNKNOWN, state="unknown")

    assert (await again(message))[0] is False


async def test_two_that_ask_at_once_queue_it_once(stored, again) -> None:
    message = await stored(S.FAILED)

    assert [(await again(message))[0] for _ in range(2)] == [True, False]


async def test_a_failure_that_passes_waits_for_its_time_with_its_reason(
    stored, again, entry
) -> None:
    message = await stored(S.FAILED)
    now = utc_now()

    done, found = await again(message, attempt=1, failed_at=now, due_at=now + MINUTE)

    assert done
    assert (found.status, found.next_attempt_at) == (S.RETRYING, now + MINUTE)
    assert found.failure.code == 131000
    waiting = await entry(message)
    assert (waiting["state"], waiting["lane"], waiting["due_at"]) == ("retrying", 11, now + MINUTE)
    assert waiting["attempt"] == 1


async def test_a_failure_of_the_channel_puts_it_back_to_its_old_place(
    stored, again, entry, superuser
) -> None:
    message = await stored(S.FAILED, created_at=utc_now() - MINUTE)
    now = utc_now()

    done, found = await again(message, attempt=1, failed_at=now)

    assert done
    assert (found.status, found.next_attempt_at) == (S.QUEUED, None)
    assert found.failure.code == 131000
    queued = await entry(message)
    assert (queued["state"], queued["lane"], queued["due_at"]) == ("ready", 1, message.created_at)
    assert queued["attempt"] == 1
    attempt = await superuser.fetchrow(
        "SELECT number, outcome, code, retry_at FROM whatsapp_message_attempts"
        " WHERE message_id = $1",
        message.id,
    )
    assert tuple(attempt) == (1, "failed_later", 131000, None)


@pytest.mark.parametrize(("attempts", "done"), [(0, True), (1, True), (2, False)])
async def test_the_failure_of_an_attempt_that_another_followed_is_old_news(
    stored, again, attempts, done
) -> None:
    message = await stored(S.FAILED, attempts=attempts)
    now = utc_now()

    assert (await again(message, attempt=1, failed_at=now, due_at=now))[0] is done


async def test_a_failure_reported_before_the_answer_was_recorded_fences_the_worker(
    at, ana, message, claim, send_queue, entry
) -> None:
    async with at(ana) as desk:
        saved = await desk.messages.save_outbound(message(ana))
    claimed = await claim(ana)
    await send_queue.mark(claimed, lease=MINUTE)
    now = utc_now()
    async with at(ana) as desk:
        report = StatusReport(
            wamid="wamid.1",
            status=S.FAILED,
            occurred_at=now,
            message_id=saved.id,
            attempt=1,
            failure=PASSING,
        )
        await desk.messages.record_statuses(ana.channel.id, [report])
        revival = Revival(message=saved, attempt=1, failed_at=now, due_at=now + MINUTE)
        assert await desk.messages.send_again([revival], at=now) == {saved.id}
    async with at(ana) as desk:
        result = AttemptResult(
            message_id=saved.id,
            lease_token=claimed[0].lease_token,
            number=1,
            status=S.SENT,
            outcome="accepted",
            started_at=now,
            finished_at=now,
            wamid="wamid.1",
        )
        await desk.messages.record_attempts([result])
        found = await desk.messages.get_outbound_by_id(saved.id)

    assert found.status is S.RETRYING
    assert (await entry(saved))["state"] == "retrying"


async def test_a_late_sent_of_the_failed_attempt_does_not_stop_the_next(
    stored, at, ana, entry
) -> None:
    message = await stored(S.SENT)
    now = utc_now()

    def report(status, **values):
        return StatusReport(
            wamid="wamid.1", status=status, message_id=message.id, attempt=1, **values
        )

    async with at(ana) as desk:
        failed = report(S.FAILED, occurred_at=now, failure=PASSING)
        await desk.messages.record_statuses(ana.channel.id, [failed])
        revival = Revival(message=message, attempt=1, failed_at=now, due_at=now + MINUTE)
        await desk.messages.send_again([revival], at=now)
        late = report(S.SENT, occurred_at=now - MINUTE)
        await desk.messages.record_statuses(ana.channel.id, [late])
        found = await desk.messages.get_outbound_by_id(message.id)

    assert found.status is S.RETRYING
    assert await entry(message) is not None


THROTTLED, OUTAGE, AGAIN = 131056, 131016, True


@pytest.mark.parametrize(
    ("earlier", "code", "kind", "alike"),
    [
        ([], OUTAGE, "deferred", 0),
        ([("deferred", OUTAGE, AGAIN)] * 2, OUTAGE, "deferred", 2),
        ([("throttled", THROTTLED, AGAIN), ("deferred", OUTAGE, AGAIN)], OUTAGE, "deferred", 1),
        # Without a code it is the kind that is alike.
        ([("unreachable", None, AGAIN), ("deferred", None, AGAIN)], None, "unreachable", 1),
        ([("unreachable", None, AGAIN), ("deferred", OUTAGE, AGAIN)], None, "deferred", 0),
        # What Meta took and failed later is alike, and one attempt.
        ([("accepted", None, not AGAIN, "failed_later", OUTAGE)], OUTAGE, "deferred", 1),
        # It had ended, and somebody sent it again.
        ([("deferred", OUTAGE, AGAIN), ("deferred", OUTAGE, not AGAIN)], OUTAGE, "deferred", 0),
        ([("deferred", OUTAGE, not AGAIN), ("deferred", OUTAGE, AGAIN)], OUTAGE, "deferred", 1),
    ],
)
async def test_only_what_failed_alike_since_it_last_ended_counts(
    stored, at, ana, superuser, earlier, code, kind, alike
) -> None:
    message = await stored(S.FAILED)

    async def keep(number, outcome, code, is_retried):
        await superuser.execute(
            "INSERT INTO whatsapp_message_attempts (tenant_id, id, message_id, number, started_at,"
            " finished_at, outcome, code, retry_at) VALUES ($1, uuidv7(), $2, $3, now(), now(), $4,"
            " $5, CASE WHEN $6 THEN now() END)",
            ana.tenant_id,
            message.id,
            number,
            outcome,
            code,
            is_retried,
        )

    for number, (outcome, its_code, is_retried, *later) in enumerate(earlier, start=1):
        await keep(number, outcome, its_code, is_retried)
        if later:
            await keep(number, *later, AGAIN)
    async with at(ana) as desk:
        failed = FailedAttempt(message.id, len(earlier) + 1, kind, code)
        other = FailedAttempt(new_id(), 9, kind, code)
        counted = await desk.messages.count_alike([other, failed])

    assert counted == [0, alike]
