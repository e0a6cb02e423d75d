"""The gate: who leaves on which slot, and who does not."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.application.departures import Departures
from whatsapp.application.gates import Gates
from whatsapp.application.lateness import ON_THE_WAY_SECONDS, Lateness
from whatsapp.application.ports import NotLeaving
from whatsapp.application.slot_use import SlotUse
from whatsapp.domain.rate_limit import Slot

FOREVER = float("inf")
PATIENT = 60.0
"""Slots of tests wait for a busy machine."""


def slot(*, after: float) -> Slot:
    at = time.monotonic() + after
    return Slot(at, at + PATIENT)


def distant() -> Slot:
    return slot(after=PATIENT)


def missed() -> Slot:
    at = time.monotonic() - 2 * PATIENT
    return Slot(at, at + PATIENT)


class Gate(Departures):
    """A gate that keeps who left in which order, and when."""

    def __init__(self, **given):
        self.asked_for_slots = asyncio.Event()
        self.left: list[tuple[str, float]] = []
        super().__init__(use=SlotUse(), changed=self.asked_for_slots.set, **given)

    async def take(self, name: str, *, until: float = FOREVER) -> None:
        await self.leave(lambda: self.left.append((name, time.monotonic())), until=until)


@pytest.fixture
async def gate() -> Gate:
    return Gate()


async def test_each_leaves_on_a_slot_of_its_own_in_the_order_in_which_they_came(gate) -> None:
    slots = [slot(after=0.02 + 0.02 * number) for number in range(3)]
    gate.add(slots)

    await asyncio.gather(*(gate.take(name) for name in "abc"))

    assert [name for name, _ in gate.left] == ["a", "b", "c"]
    assert all(one.at <= at for one, (_, at) in zip(slots, gate.left, strict=True))
    assert gate.use.used == 3


async def test_a_request_that_comes_behind_its_slot_takes_the_next_one(gate) -> None:
    gate.add([missed(), slot(after=0.01)])

    await gate.take("late")

    assert (gate.use.used, gate.use.forfeited) == (1, 1)


async def test_a_slot_waits_for_a_request_as_long_as_it_may_be_used(gate) -> None:
    gate.add([slot(after=0)])
    await asyncio.sleep(0.01)

    await asyncio.wait_for(gate.take("a"), 5)

    assert gate.use.used == 1


async def test_the_last_moments_of_a_slot_are_left_to_the_way_to_meta() -> None:
    gate = Gate()
    at, last = time.monotonic() - PATIENT, time.monotonic() + ON_THE_WAY_SECONDS
    gate.add([Slot(at, last - 0.001), Slot(at, last + PATIENT)])

    assert gate.use.forfeited == 1


async def test_how_late_each_slot_was_reached_is_noted() -> None:
    late = []

    class Noted(Lateness):
        def reached(self, seconds, **_):
            late.append(seconds)

    gate = Gate(gates=Gates(lateness=Noted()))
    now = time.monotonic()
    gate.add([Slot(now - 2, now - 1), Slot(now - 0.5, now + PATIENT)])
    await gate.take("a")

    assert late == [pytest.approx(2, abs=0.4), pytest.approx(0.5, abs=0.4)]


async def test_who_waits_without_a_slot_asks_for_one(gate) -> None:
    waiting = asyncio.create_task(gate.take("a"))

    await asyncio.wait_for(gate.asked_for_slots.wait(), 5)

    assert gate.lacking == 1
    gate.add([slot(after=0)])
    await waiting
    assert gate.lacking == 0


async def test_whose_lease_ends_too_soon_does_not_leave(gate) -> None:
    gate.add([slot(after=0.01)])

    with pytest.raises(NotLeaving):
        await gate.take("a", until=time.monotonic())

    assert gate.left == []


async def test_nobody_waits_for_a_slot_beyond_the_end_of_their_lease(gate) -> None:
    waiting = asyncio.create_task(gate.take("a", until=time.monotonic() + 0.01))
    await gate.asked_for_slots.wait()
    await asyncio.sleep(0.02)

    gate.add([slot(after=PATIENT)])

    with pytest.raises(NotLeaving):
        await waiting


async def test_once_closed_those_leave_for_whom_there_is_a_slot(gate) -> None:
    gate.add([slot(after=0.02)])
    tasks = [asyncio.create_task(gate.take(name)) for name in "ab"]
    await gate.asked_for_slots.wait()

    gate.close()
    ends = await asyncio.gather(*tasks, gate.take("c"), return_exceptions=True)

    assert [type(end) for end in ends] == [type(None), NotLeaving, NotLeaving]
    assert [name for name, _ in gate.left] == ["a"]


async def test_who_gave_up_takes_no_slot_from_those_behind(gate) -> None:
    first, second = (asyncio.create_task(gate.take(name)) for name in "ab")
    await gate.asked_for_slots.wait()
    first.cancel()

    gate.add([slot(after=0.01)])
    await second

    assert [name for name, _ in gate.left] == ["b"]


async def test_a_stall_longer_than_all_slots_holds_nobody_back_for_ever(gate) -> None:
    waiting = asyncio.create_task(gate.take("a"))
    gate.add([slot(after=0.001 * number)._replace(latest=0) for number in range(10)])
    time.sleep(0.1)  # noqa: ASYNC251  # the loop itself stands still
    gate.asked_for_slots.clear()

    await asyncio.wait_for(gate.asked_for_slots.wait(), 5)
    gate.add([slot(after=0)])
    await waiting

    assert gate.use.used == 1


async def test_a_busy_loop_that_looks_in_between_lets_others_leave_in_time() -> None:
    gates = Gates()
    one, other = Gate(gates=gates), Gate(gates=gates)
    going = [asyncio.create_task(gate.take(name)) for gate, name in ((one, "a"), (other, "b"))]
    await asyncio.sleep(0)
    one.add([slot(after=0.01)])
    other.add([slot(after=0.02), slot(after=PATIENT)])

    # Nothing else runs in this while, no timer either.
    while not (one.left and other.left):
        gates.look()

    assert [one.left[0][0], other.left[0][0]] == ["a", "b"]
    await asyncio.gather(*going)
    assert gates.due == {other}  # It has a slot left, and nobody waits for it.
    other.close()


async def test_looking_touches_no_gate_before_its_slot() -> None:
    gates = Gates()
    gate = Gate(gates=gates)
    gate.add([slot(after=PATIENT)])
    going = asyncio.create_task(gate.take("a"))
    await asyncio.sleep(0)
    timer = gate._timer

    gates.look()

    assert gate._timer is timer
    assert not gate.left
    going.cancel()


async def test_all_gates_know_how_many_wait_without_a_slot() -> None:
    gates = Gates()
    one, other = Gate(gates=gates), Gate(gates=gates)
    waiting = [asyncio.create_task(gate.take("a")) for gate in (one, one, other)]
    await asyncio.sleep(0)
    assert gates.lacking == 3

    one.add([slot(after=0)])
    assert gates.lacking == 2
    one.add([slot(after=PATIENT)])  # It waits, and lacks nothing.
    assert gates.lacking == 1
    other.close()
    assert gates.lacking == 0

    one.close()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


STEPS = ["come", "give up", "close", "missed", "now", "later"]
"""The last three are slots that come to a gate."""


async def walk(steps) -> None:
    """Take steps at two gates, and look each time whether both together are known rightly."""
    gates = Gates()
    each = [Gate(gates=gates), Gate(gates=gates)]
    waiting: list[list[asyncio.Task[None]]] = [[], []]
    for step, at in steps:
        if step == "come":
            waiting[at].append(asyncio.create_task(each[at].take("a")))
        elif step == "give up":
            for task in waiting[at][-1:]:
                task.cancel()
        elif step == "close":
            each[at].close()
        else:
            given = {"missed": missed, "now": lambda: slot(after=0), "later": distant}
            each[at].add([given[step]()])
        await asyncio.sleep(0)
        each[at].look()
        assert gates.lacking == sum(gate.lacking for gate in each)
    for gate, tasks in zip(each, waiting, strict=True):
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        gate.close()
    assert gates.lacking == 0


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1)), max_size=40))
def test_whatever_happens_all_gates_know_how_many_wait_without_a_slot(steps) -> None:
    asyncio.run(walk(steps))
