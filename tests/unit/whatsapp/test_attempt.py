"""What is recorded about an attempt, by what became of its request."""

from datetime import timedelta
from random import Random

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from whatsapp.application.attempt import Attempt, not_sent, result_of, taken_back
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import (
    Accepted,
    Deferred,
    FailureReason,
    RejectAction,
    Rejected,
    Throttled,
    ThrottleScope,
    Unknown,
    Unreachable,
)
from whatsapp.domain.retry import RetryPolicy
from whatsapp.domain.send_queue import ClaimedEntry
from whatsapp.domain.value_objects import MessageContent, MessageStatus, PhoneNumber

S = MessageStatus
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
UNKNOWN_FOR = timedelta(minutes=2)
STARTED = utc_now() + timedelta(days=1)  # However long the tests take, no expiry is past.
FINISHED = STARTED + SECOND
WHY = FailureReason(131016, "Service unavailable", "")
# Nothing is left to chance: a retry comes a minute later.
ONCE = RetryPolicy(base=timedelta(), cap=timedelta(), retries=1, floor=MINUTE)
THROTTLED = Throttled(WHY, ThrottleScope.PAIR, ONCE)
DEFERRED = Deferred(WHY, ONCE)
PAUSING = Rejected(WHY, RejectAction.PAUSE_CHANNEL)


def result(outcome, *, attempt=1, expires_at=None):
    message = OutboundMessage(
        tenant_id=new_id(),
        channel_id=new_id(),
        recipient=PhoneNumber("+4915112345678"),
        content=MessageContent.text("Hello"),
        expires_at=expires_at,
    )
    entry = ClaimedEntry(message.tenant_id, message.channel_id, message.id, new_id(), attempt)
    made = Attempt(entry=entry, started_at=STARTED, finished_at=FINISHED)
    got = result_of(outcome, made, message, unknown_for=UNKNOWN_FOR, rng=Random(1))
    assert (got.message_id, got.lease_token, got.number) == (
        entry.message_id,
        entry.lease_token,
        attempt,
    )
    assert (got.started_at, got.finished_at) == (STARTED, FINISHED)
    assert got.recipient == message.recipient
    return got


@pytest.mark.parametrize(
    ("outcome", "status", "name", "code", "due_in"),
    [
        (Accepted("wamid.1"), S.SENT, "accepted", None, None),
        (THROTTLED, S.RETRYING, "throttled", 131016, MINUTE),
        (DEFERRED, S.RETRYING, "deferred", 131016, MINUTE),
        (Rejected(WHY, RejectAction.FAIL), S.FAILED, "rejected", 131016, None),
        (Rejected(WHY, RejectAction.FAIL_RECIPIENT), S.FAILED, "rejected", 131016, None),
        (Rejected(WHY, RejectAction.FAIL_TEMPLATE), S.FAILED, "rejected", 131016, None),
        (PAUSING, S.QUEUED, "rejected", 131016, None),
        (Unknown("timeout"), S.UNKNOWN, "unknown", None, UNKNOWN_FOR),
    ],
)
def test_each_outcome_leads_to_its_status(outcome, status, name, code, due_in) -> None:
    got = result(outcome)

    assert (got.status, got.outcome) == (status, name)
    assert got.wamid == ("wamid.1" if status is S.SENT else None)
    assert (got.failure is None) is (status is S.SENT)
    assert got.failure is None or got.failure.code == code
    assert got.due_at == (None if due_in is None else FINISHED + due_in)


@pytest.mark.parametrize(
    ("outcome", "details"),
    [(Unknown("timeout"), "timeout"), (Unreachable("refused"), "refused")],
)
def test_what_happened_to_a_request_without_an_answer_is_kept(outcome, details) -> None:
    assert result(outcome).failure.details == details


def test_what_never_reached_meta_is_tried_again_however_often_it_was() -> None:
    got = result(Unreachable("refused"), attempt=1000)

    assert got.status is S.RETRYING
    assert FINISHED <= got.due_at <= FINISHED + timedelta(minutes=5)


@pytest.mark.parametrize("outcome", [THROTTLED, DEFERRED])
def test_what_was_tried_often_enough_fails(outcome) -> None:
    got = result(outcome, attempt=2)

    assert (got.status, got.failure, got.due_at) == (S.FAILED, WHY, None)


@pytest.mark.parametrize("outcome", [THROTTLED, DEFERRED])
@pytest.mark.parametrize(
    ("expires_in", "status"),
    [
        (MINUTE - SECOND, S.EXPIRED),
        (MINUTE, S.EXPIRED),
        (MINUTE + SECOND, S.RETRYING),
    ],
)
def test_a_retry_that_would_come_too_late_expires_it_with_its_reason(
    outcome, expires_in, status
) -> None:
    got = result(outcome, expires_at=FINISHED + expires_in)

    assert (got.status, got.failure) == (status, WHY)
    assert got.due_at == (FINISHED + MINUTE if status is S.RETRYING else None)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Accepted("wamid.1"), S.SENT),
        (Unknown("timeout"), S.UNKNOWN),
        (PAUSING, S.QUEUED),
        (Rejected(WHY, RejectAction.FAIL), S.FAILED),
    ],
)
def test_only_a_retry_expires_a_message(outcome, status) -> None:
    """What was sent, or may have been, was in time; the queue expires what waits there."""
    assert result(outcome, expires_at=FINISHED).status is status


@pytest.mark.parametrize("status", [S.EXPIRED, S.FAILED, S.DELIVERED])
def test_what_is_not_sent_makes_no_attempt(status) -> None:
    entry = ClaimedEntry(new_id(), new_id(), new_id(), new_id(), 3)
    dropped, back = not_sent(entry, status, STARTED, "Not any more"), taken_back(entry, STARTED)

    assert (dropped.number, dropped.status, dropped.due_at) == (0, status, None)
    assert dropped.failure == FailureReason(None, "Not any more", "")
    assert (back.number, back.status, back.due_at) == (0, S.QUEUED, STARTED)
