"""What became of messages: reports kept, messages moved on, sent again where that helps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.applied import StatusApplied
from whatsapp.application.attempt import kind_of
from whatsapp.application.know_contact import know_people
from whatsapp.application.person import phone_of, user_of
from whatsapp.application.ports import Work
from whatsapp.domain.conversation import Reached
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.outcome import (
    FailureReason,
    Refusal,
    RejectAction,
    Rejected,
    wait_before_retry,
)
from whatsapp.domain.repositories import FailedAttempt, Revival, StatusReport
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.webhook import Echo, StatusReported
from whatsapp.domain.webhook_inbox import Route

MAX_ATTEMPT: Final = 2**15 - 1
"""No attempt of ours has a higher number."""
NO_WAIT: Final = timedelta()

Judge: TypeAlias = Callable[[Sequence[FailureReason]], Refusal]
"""What the errors of a `failed` status mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyStatuses:
    """Stores what Meta reports about messages of one channel; gives the reports that were new."""

    judge: Judge
    now: Clock = utc_now
    rng: Random = field(default_factory=Random)

    async def __call__(
        self, work: Work, route: Route, reported: Sequence[StatusReported]
    ) -> Sequence[StatusApplied]:
        """Those that tell their message in one statement, and what follows from them in a few more.

        The others after them: who waits for answers should hold no message that others wait for.
        """
        told, untold = _split(reported)
        applied = [
            *await self._record(work, route.channel_id, told),
            *await self._record_untold(work, route.channel_id, untold),
        ]
        await self._try_again(work, route.channel_id, told)
        if reached := _reached(told):
            people = await work.conversations.record_reached(route.channel_id, reached)
            await know_people(work, route.channel_id, people)
        return applied

    async def _record(
        self, work: Work, channel_id: UUID, reported: Sequence[StatusReported]
    ) -> Sequence[StatusApplied]:
        if not reported:
            return ()
        reports = [_report(one) for one in reported]
        recorded = await work.messages.record_statuses(channel_id, reports)
        return [
            StatusApplied(
                reported=reported[one.position],
                message_id=one.message_id,
                moved=one.moved,
                overtaken=one.overtaken,
            )
            for one in recorded.reports
        ]

    async def _record_untold(
        self, work: Work, channel_id: UUID, reported: Sequence[StatusReported]
    ) -> Sequence[StatusApplied]:
        """As `_record`, once every answer that may tell whose these are is stored or will see them.

        Otherwise a report and the answer that tells its wamid, stored at one instant, miss
        each other.
        """
        if reported:
            await work.messages.expect_answers(channel_id, [one.wamid for one in reported])
        return await self._record(work, channel_id, reported)

    async def _try_again(
        self, work: Work, channel_id: UUID, reported: Sequence[StatusReported]
    ) -> None:
        """Queue what Meta took and then failed for a reason that passes, by the same table.

        `failed` says that it was not delivered, so that a new attempt doubles nothing. Trouble of
        the channel is not the message's: it goes back to its place, and waits with the channel.
        """
        failed = [
            (one, one.echo, self.judge(one.errors))
            for one in reported
            if one.status is MessageStatus.FAILED and one.echo and one.echo.attempt <= MAX_ATTEMPT
        ]
        tries = await _tries(work, failed)
        waits = {
            echo: (one, wait)
            for one, echo, outcome in failed
            if (wait := self._wait_after(outcome, tries.get(echo, 1))) is not None
        }
        if not waits:
            return
        messages = await work.messages.load_for_sending([echo.message_id for echo in waits])
        by_id = {
            one.id: one
            for one in messages
            if isinstance(one, OutboundMessage) and one.channel_id == channel_id
        }
        at = self.now()
        revivals = [
            Revival(
                message=by_id[echo.message_id],
                attempt=echo.attempt,
                failed_at=one.occurred_at,
                due_at=at + wait if wait else None,
            )
            for echo, (one, wait) in waits.items()
            if echo.message_id in by_id
        ]
        await work.messages.send_again([one for one in revivals if _in_time(one, at)], at=at)

    def _wait_after(self, outcome: Refusal, tries: int) -> timedelta | None:
        """How long to wait before the next attempt, if at all; None where there is none."""
        if isinstance(outcome, Rejected) and outcome.action is RejectAction.PAUSE_CHANNEL:
            return NO_WAIT
        return wait_before_retry(outcome, attempt=tries, rng=self.rng)


async def _tries(
    work: Work, failed: Sequence[tuple[StatusReported, Echo, Refusal]]
) -> Mapping[Echo, int]:
    """How many attempts failed like these, themselves among them; first attempts are left out."""
    later = [(echo, outcome) for _, echo, outcome in failed if echo.attempt > 1]
    alike = await work.messages.count_alike(
        [
            FailedAttempt(echo.message_id, echo.attempt, kind_of(outcome), outcome.code)
            for echo, outcome in later
        ]
    )
    return {echo: before + 1 for (echo, _), before in zip(later, alike, strict=True)}


def _split(
    reported: Sequence[StatusReported],
) -> tuple[Sequence[StatusReported], Sequence[StatusReported]]:
    """The reports whose message is told, by an echo of theirs or of their wamid, and the others."""
    known = {one.wamid for one in reported if one.echo}
    return (
        [one for one in reported if one.wamid in known],
        [one for one in reported if one.wamid not in known],
    )


def _in_time(revival: Revival, at: datetime) -> bool:
    """Whether the message would not have expired by then."""
    expires_at = revival.message.expires_at
    return expires_at is None or (revival.due_at or at) < expires_at


def _report(reported: StatusReported) -> StatusReport:
    errors = [
        {"code": error.code, "title": error.title, "details": error.details}
        for error in reported.errors
    ]
    return StatusReport(
        wamid=reported.wamid,
        status=reported.status,
        occurred_at=reported.occurred_at,
        message_id=reported.echo.message_id if reported.echo else None,
        attempt=reported.echo.attempt if reported.echo else None,
        failure=reported.errors[0] if reported.errors else None,
        errors=errors,
        pricing=reported.pricing,
    )


def _reached(reported: Sequence[StatusReported]) -> Sequence[Reached]:
    """Under which number or id Meta knows the recipients of messages that went out."""
    return [
        Reached(
            message_id=one.echo.message_id,
            phone=phone_of(one.wa_id),
            user_id=user_of(one.user_id),
            at=one.occurred_at,
        )
        for one in reported
        if one.status is MessageStatus.SENT and one.echo
    ]
