"""The answer to a commit is lost, and outcomes are recorded again: what was found is not forgotten.

Real PostgreSQL; what is lost is what it says to `COMMIT`, before or after it has done it.
"""

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from shared.infrastructure.database.driver_errors import DatabaseUnavailable
from shared.kernel.clock import utc_now
from whatsapp.application import record_results
from whatsapp.application.attempt import not_sent
from whatsapp.application.late_failures import LateFailures
from whatsapp.application.record_results import RecordResults
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_status_errors
from whatsapp.infrastructure.persistence.work import work_in

pytestmark = pytest.mark.postgres

S = MessageStatus
BEA, EVE = "+4915100000001", "+4915100000002"
LEASE = timedelta(minutes=1)


@dataclass
class Losing:
    """Transactions whose next commits are not answered: `True` for each that is done."""

    begin: object
    losses: list = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, *given):
        async with self.begin(*given) as work:
            if not self.losses:
                yield work
                return
            is_done = self.losses.pop(0)
            yield _Unanswered(work, is_done)


class _Unanswered:
    def __init__(self, work, is_done) -> None:
        self._work, self._is_done = work, is_done

    def __getattr__(self, name):
        return getattr(self._work, name)

    async def commit(self) -> None:
        if self._is_done:
            await self._work.commit()
        raise DatabaseUnavailable


@pytest.fixture
def recorder(office, sessions, monkeypatch):
    """`await recorder(channel, results, losses)`; gives what was observed, in order."""
    monkeypatch.setattr(record_results, "RECORD_RETRY_SECONDS", 0.001)

    async def record(channel, results, losses):
        seen = []
        begin = work_in(sessions)
        recording = RecordResults(
            tenant_id=office.tenant,
            begin=Losing(begin, list(losses)),
            observe=lambda _result, held: seen.append(held),
            late=LateFailures.judged(outcome_of_status_errors, begin=begin, limiter=office.limiter),
        )
        outcomes = recording.of(channel.id, stored=lambda _: None)
        for one in results:
            outcomes.put(one)
        await outcomes.all_stored()
        return seen

    return record


@pytest.fixture
def claimed(office):
    """`await claimed(channel, BEA, EVE)`: entries that a worker is sending, marked."""

    async def claimed(channel, *recipients):
        await office.store(channel, *recipients)
        entries = await office.queue.claim(
            tenant_id=office.tenant, channel_id=channel.id, limit=10, lease=LEASE
        )
        assert len(await office.queue.mark(entries, lease=LEASE)) == len(recipients)
        return entries

    return claimed


def answer(entry, wamid):
    now = utc_now()
    return AttemptResult(
        message_id=entry.message_id,
        lease_token=entry.lease_token,
        number=1,
        status=S.SENT,
        outcome="accepted",
        started_at=now,
        finished_at=now,
        wamid=wamid,
    )


def late_warnings(caplog):
    return [one for one in caplog.records if "after their lease was lost" in one.getMessage()]


LOSSES = [[], [True], [False], [True, True], [False, True], [True, False], [False, False, True]]


@pytest.mark.parametrize("losses", LOSSES, ids=str)
async def test_outcomes_count_as_late_where_their_lease_was_lost_and_nowhere_else(
    office, claimed, recorder, superuser, told, caplog, losses
) -> None:
    channel = await office.channel()
    entries = await claimed(channel, BEA, EVE)
    await superuser.execute(
        "UPDATE whatsapp_send_queue SET lease_token = gen_random_uuid() WHERE id = $1",
        entries[1].message_id,
    )
    results = [answer(one, f"wamid.{place}") for place, one in enumerate(entries)]

    with caplog.at_level(logging.WARNING):
        assert await recorder(channel, results, losses) == [True, False]

    assert [one.getMessage()[:2] for one in late_warnings(caplog)] == ["1 "]
    assert await told() == [("message.sent", None)]


@pytest.mark.parametrize("losses", LOSSES, ids=str)
async def test_what_was_not_sent_is_no_late_outcome(
    office, claimed, recorder, caplog, losses
) -> None:
    channel = await office.channel()
    (entry,) = await claimed(channel, BEA)

    with caplog.at_level(logging.WARNING):
        await recorder(channel, [not_sent(entry, S.EXPIRED, utc_now(), "Too late")], losses)

    assert not late_warnings(caplog)


@pytest.mark.parametrize("losses", LOSSES, ids=str)
async def test_what_a_parked_failure_is_about_is_heeded(
    office, webhooks, claimed, recorder, losses
) -> None:
    """Meta reported the failure before the answer told whose it was: trouble of the channel."""
    channel = await office.channel()
    entries = await claimed(channel, BEA, EVE)
    parked = [(entries[0].message_id, 1, "wamid.parked", BEA)]
    await webhooks.fail(channel, 131042, accepted=parked, echoed=False)
    assert (await office.state_of(channel)).is_active

    await recorder(
        channel, [answer(entries[0], "wamid.parked"), answer(entries[1], "wamid.fine")], losses
    )

    stored = await office.state_of(channel)
    assert (stored.is_active, stored.pause_reason) == (False, "No (code 131042)")
