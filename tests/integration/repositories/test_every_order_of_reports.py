"""Every order of what Meta reports of a message, repetitions, and the answer at every place in it.

One message per case, and the n-th events of all cases together: thousands of histories in a few
transactions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations, permutations
from typing import Any
from uuid import UUID

import pytest

from shared.kernel.clock import utc_now
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.repositories import AttemptResult, StatusReport
from whatsapp.domain.send_queue import ClaimedEntry
from whatsapp.domain.value_objects import MessageStatus

pytestmark = pytest.mark.postgres

START = datetime(2026, 11, 23, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
REASON = FailureReason(131026, "Undeliverable", "Not on WhatsApp")
S = MessageStatus
REPORTED = (S.SENT, S.DELIVERED, S.READ, S.FAILED)
BY_RANK = (S.SENT, S.FAILED, S.DELIVERED, S.READ)
"""Whatever comes first, the last of these that has come is where the message stands."""
TOGETHER = 1000


def handfuls(many: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (many[first : first + TOGETHER] for first in range(0, len(many), TOGETHER))


@dataclass(frozen=True, slots=True)
class History:
    """What is reported of a message, in this order, and after how many reports its answer comes."""

    reports: Sequence[MessageStatus]
    answered_after: int


def histories() -> Iterator[History]:
    """Each choice of reports in each order, with none or any one of them told twice."""
    for size in range(1, len(REPORTED) + 1):
        for chosen in combinations(REPORTED, size):
            for told in (chosen, *((*chosen, one) for one in chosen)):
                for order in sorted(set(permutations(told))):
                    yield from (History(order, place) for place in range(len(order) + 1))


HISTORIES = tuple(histories())


def test_all_of_them_are_played():
    orders = {history.reports for history in HISTORIES}
    # 4 + 12 + 24 + 24 without a repetition; with one of the n told twice n times (n + 1)! / 2.
    assert len(orders) == 64 + 4 + 6 * 2 * 3 + 4 * 3 * 12 + 4 * 60
    assert len(HISTORIES) == sum(len(order) + 1 for order in orders)


@dataclass(slots=True)
class Case:
    """A history, the message that it happens to, and how much of it has happened."""

    history: History
    entry: ClaimedEntry
    is_echoed: bool
    next: int = 0
    is_answered: bool = False

    def take(self, *, at_once: bool) -> Sequence[StatusReport]:
        """The next report, or all until the answer; nothing where it is the answer's turn."""
        history, first = self.history, self.next
        last = len(history.reports) if self.is_answered else history.answered_after
        self.next = last if at_once else min(first + 1, last)
        return [self.report(one) for one in history.reports[first : self.next]]

    def report(self, status: MessageStatus) -> StatusReport:
        is_failure = status is S.FAILED
        return StatusReport(
            wamid=self.wamid,
            status=status,
            # Meta gives whole seconds: several reports often have the same.
            occurred_at=START + SECOND * (status.rank // 2),
            message_id=self.entry.message_id if self.is_echoed else None,
            attempt=self.entry.attempt if self.is_echoed else None,
            failure=REASON if is_failure else None,
            errors=[{"code": REASON.code, "title": REASON.title, "details": REASON.details}]
            if is_failure
            else [],
        )

    def answer(self) -> AttemptResult:
        self.is_answered = True
        return AttemptResult(
            message_id=self.entry.message_id,
            lease_token=self.entry.lease_token,
            number=self.entry.attempt,
            status=S.SENT,
            outcome="accepted",
            started_at=START,
            finished_at=utc_now(),
            wamid=self.wamid,
        )

    @property
    def wamid(self) -> str:
        return f"wamid.{self.entry.message_id}"

    def expected(self) -> tuple[str, str | None, int | None]:
        """Status, wamid and the code of its failure, by the rule of ranks.

        A report that does not tell its message counts once the wamid is known.
        """
        told = self.history.reports[: self.next] if self.is_echoed or self.is_answered else ()
        known = [*told, *([S.SENT] if self.is_answered else [])]
        if not known:
            return S.QUEUED, None, None
        status = max(known, key=BY_RANK.index)
        return status, self.wamid, REASON.code if status is S.FAILED else None

    def kept(self) -> list[str]:
        """The reports that have come, each once."""
        return sorted(set(self.history.reports[: self.next]))


class Stage:
    """Plays to many messages at once and looks at what is stored of them."""

    def __init__(self, desk: Any, customer: Any, superuser: Any) -> None:
        self.desk, self.customer, self.superuser = desk, customer, superuser

    async def report(self, reports: Sequence[StatusReport]) -> int:
        """Gives how many were new."""
        kept = 0
        for some in handfuls(reports):
            async with self.desk(self.customer) as desk:
                stray = [one.wamid for one in some if one.message_id is None]
                await desk.messages.expect_answers(self.customer.channel.id, stray)
                recorded = await desk.messages.record_statuses(self.customer.channel.id, some)
                kept += recorded.kept
        return kept

    async def answer(self, results: Sequence[AttemptResult]) -> None:
        for some in handfuls(results):
            async with self.desk(self.customer) as desk:
                recorded = await desk.messages.record_attempts(some)
                assert recorded.held == {one.message_id for one in some}

    async def stored(self) -> dict[UUID, tuple[str, str | None, int | None]]:
        rows = await self.superuser.fetch(
            "SELECT id, status, wamid, failure_code FROM whatsapp_outbound_messages"
            " WHERE channel_id = $1",
            self.customer.channel.id,
        )
        return {row["id"]: tuple(row)[1:] for row in rows}

    async def queued(self) -> int:
        query = "SELECT count(*) FROM whatsapp_send_queue WHERE channel_id = $1"
        return await self.superuser.fetchval(query, self.customer.channel.id)

    async def reports(self) -> dict[str, list[str]]:
        """What is kept of each wamid, and that it is known whose it is."""
        rows = await self.superuser.fetch(
            "SELECT wamid, array_agg(status ORDER BY status) AS statuses,"
            " bool_and('wamid.' || message_id = wamid) AS is_matched"
            " FROM whatsapp_status_events WHERE channel_id = $1 GROUP BY wamid",
            self.customer.channel.id,
        )
        assert all(row["is_matched"] for row in rows)
        return {row["wamid"]: row["statuses"] for row in rows}


@pytest.fixture
async def entries(at, ana, message, claim, send_queue):
    """For each history a message whose request is under way."""
    for some in handfuls(HISTORIES):
        async with at(ana) as desk:
            await desk.messages.save_outbound_many([message(ana) for _ in some])
    found = list[ClaimedEntry]()
    while claimed := await claim(ana, limit=TOGETHER, lease=HOUR):
        assert len(await send_queue.mark(claimed, lease=HOUR)) == len(claimed)
        found += claimed
    return found


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize("is_echoed", [True, False], ids=["echoed", "by wamid"])
async def test_every_order_ends_by_rank_and_keeps_each_report_once(
    at, ana, superuser, entries, is_echoed, at_once
) -> None:
    stage = Stage(at, ana, superuser)
    cases = [Case(*pair, is_echoed) for pair in zip(HISTORIES, entries, strict=True)]
    while True:
        due = [
            one for one in cases if not one.is_answered and one.next == one.history.answered_after
        ]
        before = sum(len(one.kept()) for one in cases)
        told = [report for one in cases for report in one.take(at_once=at_once)]
        if not told and not due:
            break
        assert await stage.report(told) == sum(len(one.kept()) for one in cases) - before
        await stage.answer([one.answer() for one in due])

        stored = await stage.stored()
        for one in cases:
            assert stored[one.entry.message_id] == one.expected(), one
    assert await stage.queued() == 0
    kept = await stage.reports()
    for one in cases:
        assert kept[one.wamid] == one.kept() == sorted(set(one.history.reports)), one
