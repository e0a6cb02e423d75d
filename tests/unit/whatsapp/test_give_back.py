"""What is given back is settled once and uncounted once, whatever is refused at one moment."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.clock import utc_now
from shared.kernel.errors import Unavailable
from shared.kernel.ids import new_id
from whatsapp.application.going import GiveBack, Going
from whatsapp.domain.rate_limit import PairTurn
from whatsapp.domain.send_queue import ClaimedEntry


@dataclass
class Limiter:
    """Takes some steps of the loop, and fails where it is told to."""

    steps: list
    fails: list
    given: list = field(default_factory=list)

    async def give_back_pairs(self, turns) -> None:
        self.given.append(list(turns))
        for _ in range(self.steps.pop() if self.steps else 0):
            await asyncio.sleep(0)
        match self.fails.pop() if self.fails else None:
            case "gone":
                raise Unavailable
            case "odd":
                raise ValueError("no answer that anybody knows")


def going(number: int) -> Going:
    entry = ClaimedEntry(
        tenant_id=new_id(),
        channel_id=new_id(),
        message_id=new_id(),
        lease_token=new_id(),
        attempt=1,
    )
    # Every fourth is without a turn, as where the limit had not been asked yet.
    turn = PairTurn(timedelta(), f"p{number % 3}", number) if number % 4 else None
    return Going(entry=entry, message=None, turn=turn)


@given(
    st.lists(st.lists(st.sampled_from(["refused", "stopped", "claimed", "unmarked"]), max_size=6)),
    st.lists(st.integers(0, 5)),
    st.lists(st.sampled_from([None, "gone", "odd"])),
)
def test_each_is_settled_once_and_its_turn_given_back_once(moments, steps, fails) -> None:
    settled: list = []
    limiter = Limiter(list(steps), list(fails))
    give_back = GiveBack(limiter=limiter, settle=settled.append, now=utc_now)
    made: list[Going] = []
    ready: deque[Going] = deque()

    def another() -> Going:
        made.append(going(len(made)))
        return made[-1]

    async def all_of_it() -> None:
        async with asyncio.TaskGroup() as tasks:
            for moment in moments:
                for what in moment:
                    match what:
                        case "refused":
                            tasks.create_task(give_back.together(another(), deque()))
                        case "stopped":
                            tasks.create_task(give_back.together(another(), ready))
                        case "claimed":
                            ready.append(another())
                        case "unmarked":
                            tasks.create_task(give_back([another(), another()]))
                await asyncio.sleep(0)
        await give_back(ready)

    asyncio.run(all_of_it())

    assert Counter(one.message_id for one in settled) == Counter(
        one.entry.message_id for one in made
    )
    turns = [turn for call in limiter.given for turn in call]
    assert sorted(turns) == sorted(one.turn for one in made if one.turn)


async def test_what_is_refused_at_one_moment_goes_back_in_one_call_with_what_is_behind() -> None:
    limiter = Limiter([], [])
    give_back = GiveBack(limiter=limiter, settle=lambda _: None, now=utc_now)
    ones = [going(number) for number in (1, 2, 3, 5, 6, 7)]
    ready = deque(ones[4:])

    await asyncio.gather(*(give_back.together(one, ready) for one in ones[:4]))

    assert limiter.given == [[one.turn for one in ones]]
    assert not ready
