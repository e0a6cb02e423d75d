"""When it makes sense to claim again, with a queue of the test's own behind its port."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from shared.kernel.ids import new_id
from whatsapp.application.claim_due import ClaimDue
from whatsapp.application.lane_turns import LaneTurns
from whatsapp.domain.send_queue import Claim, ClaimedEntry

ENTRY = ClaimedEntry(new_id(), new_id(), new_id(), new_id(), 1)


class Queue:
    """Gives what it is told to, one claim after the other; `moves` is what can step aside."""

    def __init__(self, *claims: Claim, moves: int = 0) -> None:
        self.claims, self.moves = list(claims), moves
        self.asked, self.during = 0, lambda: None

    async def claim(self, **_asked) -> Claim:
        self.asked += 1
        self.during()
        return self.claims.pop(0)

    async def step_aside(self, _channel_id) -> int:
        moved, self.moves = self.moves, 0
        return moved


def claiming(queue) -> ClaimDue:
    return ClaimDue(
        tenant_id=new_id(),
        channel_id=new_id(),
        queue=queue,
        lease=timedelta(minutes=1),
        turns=LaneTurns(),
    )


@pytest.fixture
def channel():
    return SimpleNamespace(messages_per_second=80, keeps_order=True)


async def test_after_a_claim_that_left_nothing_there_is_none_until_something_is_seen(channel):
    queue = Queue(Claim([ENTRY, ENTRY]), Claim([ENTRY]))
    claims = claiming(queue)
    assert claims.may_find_more
    assert len(await claims(channel, queue)) == 2
    assert not claims.may_find_more

    claims.wake()
    assert claims.may_find_more
    assert len(await claims(channel, queue)) == 1
    assert (claims.claimed, claims.may_find_more) == (3, False)


async def test_after_a_claim_that_left_something_there_is_another(channel):
    queue = Queue(Claim([ENTRY], leaves_due=True))
    claims = claiming(queue)
    await claims(channel, queue)

    assert claims.may_find_more


async def test_what_is_seen_while_a_claim_is_under_way_is_not_forgotten(channel):
    queue = Queue(Claim([ENTRY]))
    claims = claiming(queue)
    queue.during = claims.wake
    await claims(channel, queue)

    assert claims.may_find_more


async def test_what_stepped_aside_may_come_forward_without_anybodys_word(channel):
    queue = Queue(Claim(leaves_due=True), Claim([ENTRY]), moves=3)
    claims = claiming(queue)

    assert len(await claims(channel, queue)) == 1
    assert queue.asked == 2
    assert claims.may_find_more


async def test_a_lane_that_is_hidden_is_cleared_although_other_lanes_gave_something(channel):
    queue = Queue(Claim([ENTRY], hides_due=True), moves=3)

    assert len(await claiming(queue)(channel, queue)) == 1
    assert (queue.asked, queue.moves) == (1, 0)


@pytest.mark.parametrize("keeps_order", [True, False])
async def test_where_nothing_can_step_aside_it_is_not_asked_for_ever(channel, keeps_order):
    channel.keeps_order = keeps_order
    queue = Queue(Claim(leaves_due=True), moves=0 if keeps_order else 3)

    assert not await claiming(queue)(channel, queue)
    assert queue.asked == 1
