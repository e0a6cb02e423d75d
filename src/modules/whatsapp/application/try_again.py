"""Sending again what Meta took and then failed for a reason that passes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.attempt import kind_of
from whatsapp.application.ports import Work
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import (
    FailureReason,
    Refusal,
    RejectAction,
    Rejected,
    wait_before_retry,
)
from whatsapp.domain.repositories import FailedAttempt, LateFailure, Revival

NO_WAIT: Final = timedelta()

Judge: TypeAlias = Callable[[Sequence[FailureReason]], Refusal]
"""What the errors of a `failed` status mean."""
_Attempt: TypeAlias = tuple[UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """`await try_again(work, channel_id, failed)`, in the transaction that stored the failures."""

    judge: Judge
    now: Clock = utc_now
    rng: Random = field(default_factory=Random)

    async def __call__(self, work: Work, channel_id: UUID, failed: Sequence[LateFailure]) -> None:
        """Queue what Meta took and then failed for a reason that passes, by the same table.

        `failed` says that it was not delivered, so that a new attempt doubles nothing. Trouble of
        the channel is not the message's: it goes back to its place, and waits with the channel.
        What nobody knows the attempt of stays as it is.
        """
        judged = {
            (one.message_id, one.attempt): (one.failed_at, self.judge(one.errors))
            for one in failed
            if one.attempt
        }
        tries = await _tries(work, judged)
        waits = {
            attempt: (failed_at, wait)
            for attempt, (failed_at, outcome) in judged.items()
            if (wait := self._wait_after(outcome, tries.get(attempt, 1))) is not None
        }
        if not waits:
            return
        messages = await work.messages.load_for_sending([message_id for message_id, _ in waits])
        by_id = {
            one.id: one
            for one in messages
            if isinstance(one, OutboundMessage) and one.channel_id == channel_id
        }
        at = self.now()
        revivals = [
            Revival(
                message=by_id[message_id],
                attempt=number,
                failed_at=failed_at,
                due_at=at + wait if wait else None,
            )
            for (message_id, number), (failed_at, wait) in waits.items()
            if message_id in by_id
        ]
        await work.messages.send_again([one for one in revivals if _in_time(one, at)], at=at)

    def _wait_after(self, outcome: Refusal, tries: int) -> timedelta | None:
        """How long to wait before the next attempt, if at all; None where there is none."""
        if isinstance(outcome, Rejected) and outcome.action is RejectAction.PAUSE_CHANNEL:
            return NO_WAIT
        return wait_before_retry(outcome, attempt=tries, rng=self.rng)


async def _tries(
    work: Work, judged: Mapping[_Attempt, tuple[datetime, Refusal]]
) -> Mapping[_Attempt, int]:
    """How many attempts failed like these, themselves among them; first attempts are left out."""
    later = [
        FailedAttempt(message_id, number, kind_of(outcome), outcome.code)
        for (message_id, number), (_, outcome) in judged.items()
        if number > 1
    ]
    alike = await work.messages.count_alike(later)
    return {
        (one.message_id, one.number): before + 1 for one, before in zip(later, alike, strict=True)
    }


def _in_time(revival: Revival, at: datetime) -> bool:
    """Whether the message would not have expired by then."""
    expires_at = revival.message.expires_at
    return expires_at is None or (revival.due_at or at) < expires_at
