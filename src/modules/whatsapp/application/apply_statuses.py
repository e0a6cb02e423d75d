"""What became of messages: reports kept, messages moved on, sent again where that helps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.applied import StatusApplied
from whatsapp.application.know_contact import know_people
from whatsapp.application.person import phone_of, user_of
from whatsapp.application.ports import Work
from whatsapp.application.try_again import Judge, TryAgain
from whatsapp.domain.conversation import Reached
from whatsapp.domain.repositories import LateFailure, RecordedReport, StatusReport
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.webhook import StatusReported
from whatsapp.domain.webhook_inbox import Route

MAX_ATTEMPT: Final = 2**15 - 1
"""No attempt of ours has a higher number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyStatuses:
    """Stores what Meta reports about messages of one channel; gives the reports that were new."""

    judge: Judge
    now: Clock = utc_now
    rng: Random = field(default_factory=Random)

    async def __call__(
        self,
        work: Work,
        route: Route,
        reported: Sequence[StatusReported],
        *,
        all_new: bool = False,
    ) -> Sequence[StatusApplied]:
        """Those that tell their message in one statement, and what follows from them in a few more.

        The others after them: who waits for answers should hold no message that others wait for.
        Raises AlreadyReported where they were said to be `all_new` and one is not.
        """
        told, untold = _split(reported)
        applied = [
            *await self._record(work, route.channel_id, told, all_new=all_new),
            *await self._record_untold(work, route.channel_id, untold, all_new=all_new),
        ]
        # By our own words also what has moved nothing: what had been given up may go again.
        failed = [*_echoed(told), *(one.failed for one in applied if one.failed)]
        if failed:
            again = TryAgain(judge=self.judge, now=self.now, rng=self.rng)
            await again(work, route.channel_id, failed)
        if reached := _reached(told):
            people = await work.conversations.record_reached(route.channel_id, reached)
            if met := await know_people(work, route.channel_id, people):
                await work.conversations.recall_sent(met)
        return applied

    async def _record(
        self, work: Work, channel_id: UUID, reported: Sequence[StatusReported], *, all_new: bool
    ) -> Sequence[StatusApplied]:
        if not reported:
            return ()
        reports = [_report(one) for one in reported]
        recorded = await work.messages.record_statuses(channel_id, reports, all_new=all_new)
        adopted: dict[UUID | None, LateFailure] = {one.message_id: one for one in recorded.failed}
        return [
            StatusApplied(
                reported=reported[one.position],
                message_id=one.message_id,
                moved=one.moved,
                overtaken=one.overtaken,
                failed=_failure(one, reported[one.position]) or adopted.get(one.message_id),
            )
            for one in recorded.reports
        ]

    async def _record_untold(
        self, work: Work, channel_id: UUID, reported: Sequence[StatusReported], *, all_new: bool
    ) -> Sequence[StatusApplied]:
        """As `_record`, once every answer that may tell whose these are is stored or will see them.

        Otherwise a report and the answer that tells its wamid, stored at one instant, miss
        each other.
        """
        if reported:
            await work.messages.expect_answers(channel_id, [one.wamid for one in reported])
        return await self._record(work, channel_id, reported, all_new=all_new)


def _split(
    reported: Sequence[StatusReported],
) -> tuple[Sequence[StatusReported], Sequence[StatusReported]]:
    """The reports whose message is told, by an echo of theirs or of their wamid, and the others."""
    known = {one.wamid for one in reported if one.echo}
    return (
        [one for one in reported if one.wamid in known],
        [one for one in reported if one.wamid not in known],
    )


def _echoed(reported: Sequence[StatusReported]) -> Sequence[LateFailure]:
    """The failures among them that our own words tell the attempt of."""
    return [
        LateFailure(one.echo.message_id, one.echo.attempt, one.occurred_at, one.errors)
        for one in reported
        if one.status is MessageStatus.FAILED and one.echo and one.echo.attempt <= MAX_ATTEMPT
    ]


def _failure(recorded: RecordedReport, reported: StatusReported) -> LateFailure | None:
    """The failure that the message has by this very report."""
    message_id = recorded.message_id
    if not recorded.moved or message_id is None or reported.status is not MessageStatus.FAILED:
        return None
    return LateFailure(message_id, recorded.attempt, reported.occurred_at, reported.errors)


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
            at=one.at,
        )
        for one in reported
        if one.status is MessageStatus.SENT and one.echo
    ]
