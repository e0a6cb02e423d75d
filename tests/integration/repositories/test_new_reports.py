"""Reports that are said to be new: all of them stored, or nothing and an error that says so."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from whatsapp.domain.repositories import AlreadyReported, StatusReport
from whatsapp.domain.value_objects import MessageStatus

pytestmark = pytest.mark.postgres

S = MessageStatus
START = datetime(2026, 11, 23, tzinfo=UTC)
KEPT = "SELECT wamid, status FROM whatsapp_status_events WHERE tenant_id = $1 ORDER BY 1, 2"


def report(saved, status):
    at = START + timedelta(seconds=status.rank)
    return StatusReport(
        wamid=f"wamid.{saved.id}", status=status, occurred_at=at, message_id=saved.id, attempt=1
    )


@pytest.fixture
async def saved(at, ana, message):
    async with at(ana) as desk:
        return await desk.messages.save_outbound_many([message(ana) for _ in range(20)])


@pytest.fixture
def tell(at, ana):
    """Record reports as new, in a transaction of their own."""

    async def tell(*reports):
        async with at(ana) as desk:
            return await desk.messages.record_statuses(ana.channel.id, reports, all_new=True)

    return tell


@pytest.fixture
def standing(at, ana, saved, superuser):
    """`await standing()`: where the messages stand, and what is kept of them."""

    async def standing():
        async with at(ana) as desk:
            found = await desk.messages.load_for_sending([one.id for one in saved])
        kept = await superuser.fetch(KEPT, ana.tenant_id)
        return {one.id: one.status for one in found}, [tuple(row) for row in kept]

    return standing


async def test_new_ones_move_their_messages_and_are_kept(saved, tell, standing) -> None:
    recorded = await tell(*(report(one, S.SENT) for one in saved), report(saved[0], S.READ))

    assert (recorded.kept, recorded.moved, recorded.doubled) == (21, 20, 0)
    statuses, kept = await standing()
    assert statuses == dict.fromkeys((one.id for one in saved), S.SENT) | {saved[0].id: S.READ}
    assert len(kept) == 21


@pytest.mark.parametrize("stored_before", [True, False])
async def test_one_that_is_not_new_is_an_error_and_nothing_is_stored(
    saved, tell, standing, stored_before
) -> None:
    known = report(saved[0], S.SENT)
    if stored_before:
        await tell(known)
    before = await standing()

    with pytest.raises(AlreadyReported):
        await tell(report(saved[1], S.READ), known, report(saved[2], S.READ), known)

    assert await standing() == before


async def test_of_many_that_say_the_same_at_once_one_stores_it(saved, tell, standing) -> None:
    told = [report(one, status) for one in saved for status in (S.SENT, S.DELIVERED)]

    outcomes = await asyncio.gather(
        *(tell(*(told[::-1] if turn % 2 else told)) for turn in range(8)), return_exceptions=True
    )

    raised = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in raised] == [AlreadyReported] * 7
    statuses, kept = await standing()
    assert set(statuses.values()) == {S.DELIVERED}
    assert len(kept) == len(told)
