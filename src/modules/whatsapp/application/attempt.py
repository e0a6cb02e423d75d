"""From what Meta answered to what happens next: one pure function, the heart of the send path."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import assert_never

from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import (
    Accepted,
    Deferred,
    FailureReason,
    Outcome,
    RejectAction,
    Rejected,
    Throttled,
    Unknown,
    Unreachable,
    wait_before_retry,
)
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.send_queue import ClaimedEntry
from whatsapp.domain.value_objects import MessageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to Meta: for which claim, when it began and when its outcome was known."""

    entry: ClaimedEntry
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    status: MessageStatus
    wamid: str | None = None
    failure: FailureReason | None = None
    due_at: datetime | None = None


def result_of(
    outcome: Outcome,
    attempt: Attempt,
    message: OutboundMessage,
    *,
    unknown_for: timedelta,
    rng: Random,
    tries: int | None = None,
) -> AttemptResult:
    """What is to be recorded about `attempt`.

    `tries` is how many attempts failed like this one, itself among them; None means all so far.
    An unknown outcome is held for `unknown_for`; a retry that would come after the message's own
    expiry expires it instead; trouble of the channel puts the message back, it is not to blame.
    """
    tries = attempt.entry.attempt if tries is None else tries
    step = _step(outcome, attempt, tries, unknown_for=unknown_for, rng=rng)
    retries = step.status is MessageStatus.RETRYING
    if retries and step.due_at and message.expires_at and step.due_at >= message.expires_at:
        step = _Step(status=MessageStatus.EXPIRED, failure=step.failure)
    return AttemptResult(
        message_id=attempt.entry.message_id,
        lease_token=attempt.entry.lease_token,
        number=attempt.entry.attempt,
        status=step.status,
        outcome=kind_of(outcome),
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        wamid=step.wamid,
        failure=step.failure,
        due_at=step.due_at,
        recipient=message.recipient,
    )


def kind_of(outcome: Outcome) -> str:
    """By what name an attempt keeps its outcome."""
    return type(outcome).__name__.lower()


def not_sent(
    entry: ClaimedEntry, status: MessageStatus, now: datetime, reason: str
) -> AttemptResult:
    """A claimed message that is not sent at all, because it expired or has gone on already."""
    return AttemptResult(
        message_id=entry.message_id,
        lease_token=entry.lease_token,
        number=0,
        status=status,
        outcome="not_sent",
        started_at=now,
        finished_at=now,
        failure=FailureReason(None, reason, ""),
    )


def taken_back(entry: ClaimedEntry, now: datetime) -> AttemptResult:
    """A marked message of which nothing has left: back into the queue, as if never marked.

    It stands also if somebody has taken it for unknown meanwhile, since this is the proof.
    """
    return AttemptResult(
        message_id=entry.message_id,
        lease_token=entry.lease_token,
        number=0,
        status=MessageStatus.QUEUED,
        outcome="not_sent",
        started_at=now,
        finished_at=now,
        due_at=now,
    )


def _step(
    outcome: Outcome, attempt: Attempt, tries: int, *, unknown_for: timedelta, rng: Random
) -> _Step:
    match outcome:
        case Accepted():
            return _Step(status=MessageStatus.SENT, wamid=outcome.wamid)
        case Unknown():
            failure = FailureReason(None, "No answer says whether Meta took it", outcome.reason)
            due = attempt.finished_at + unknown_for
            return _Step(status=MessageStatus.UNKNOWN, failure=failure, due_at=due)
        case Rejected():
            if outcome.action is RejectAction.PAUSE_CHANNEL:
                return _Step(status=MessageStatus.QUEUED, failure=outcome.failure)
            return _Step(status=MessageStatus.FAILED, failure=outcome.failure)
        case Throttled() | Deferred():
            failure = outcome.failure
        case Unreachable():
            failure = FailureReason(None, "Meta could not be reached", outcome.reason)
        case _:
            assert_never(outcome)
    wait = wait_before_retry(outcome, attempt=tries, rng=rng)
    if wait is None:
        return _Step(status=MessageStatus.FAILED, failure=failure)
    return _Step(status=MessageStatus.RETRYING, failure=failure, due_at=attempt.finished_at + wait)
