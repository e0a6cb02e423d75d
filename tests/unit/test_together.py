"""Calls of one turn of the loop: one run for all, and to each what concerns it."""

import asyncio
import gc
import weakref

import pytest

from shared.kernel.together import Together, TogetherBy

MOST = 3


class Runs:
    """Answers twice what is asked; what is negative is answered by an error, and 0 is fatal."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.has_begun = asyncio.Semaphore(0)
        self.together = Together(self.run, most=MOST)

    async def run(self, asked):
        self.asked.append(list(asked))
        self.has_begun.release()
        await self.goes_on.wait()
        if 0 in asked:
            raise LookupError
        return [ValueError(one) if one < 0 else 2 * one for one in asked]

    async def ask(self, *numbers):
        return await asyncio.gather(*map(self.together, numbers), return_exceptions=True)


@pytest.fixture
async def runs() -> Runs:
    return Runs()


async def test_those_who_ask_in_one_turn_are_answered_by_one_run(runs) -> None:
    assert await runs.ask(1, 2, 3) == [2, 4, 6]
    assert await runs.together(4) == 8
    assert runs.asked == [[1, 2, 3], [4]]


async def test_one_who_is_woken_in_the_same_turn_asks_with_the_others(runs) -> None:
    news = asyncio.Event()

    async def woken() -> int:
        await news.wait()
        return await runs.together(2)

    waiting = asyncio.create_task(woken())
    await asyncio.sleep(0)
    news.set()
    assert await runs.together(1) == 2
    assert await waiting == 4
    assert runs.asked == [[1, 2]]


async def test_no_run_has_more_to_answer_than_it_may(runs) -> None:
    assert await runs.ask(*range(1, 8)) == [2, 4, 6, 8, 10, 12, 14]
    assert runs.asked == [[1, 2, 3], [4, 5, 6], [7]]


async def test_nobody_waits_for_a_run_that_others_began(runs) -> None:
    runs.goes_on.clear()
    first = asyncio.create_task(runs.together(1))
    await runs.has_begun.acquire()
    second = asyncio.create_task(runs.together(2))
    await runs.has_begun.acquire()
    runs.goes_on.set()
    assert await asyncio.gather(first, second) == [2, 4]


async def test_an_error_that_answers_one_concerns_nobody_else(runs) -> None:
    first, second, third = await runs.ask(1, -2, 3)
    assert (first, third) == (2, 6)
    assert isinstance(second, ValueError)


async def test_an_error_of_the_run_is_everybodys(runs) -> None:
    assert [type(one) for one in await runs.ask(1, 0)] == [LookupError, LookupError]
    assert await runs.together(1) == 2


async def test_who_gives_up_leaves_the_others_their_answers(runs) -> None:
    runs.goes_on.clear()
    one, other = [asyncio.create_task(runs.together(number)) for number in (1, 2)]
    await runs.has_begun.acquire()
    one.cancel()
    runs.goes_on.set()
    assert await other == 4
    assert one.cancelled()


async def test_when_the_loop_ends_nobody_waits_for_ever(runs) -> None:
    runs.goes_on.clear()
    waiting = asyncio.create_task(runs.together(1))
    await runs.has_begun.acquire()
    (running,) = asyncio.all_tasks() - {asyncio.current_task(), waiting}
    running.cancel()
    done, _ = await asyncio.wait([waiting], timeout=5)
    assert done
    assert waiting.cancelled()


class Key:
    """A key that shows whether somebody keeps it."""

    def __init__(self, number: int) -> None:
        self.number = number


async def test_each_key_has_runs_of_its_own_and_is_forgotten_when_it_is_idle() -> None:
    asked = []

    async def run(key, numbers):
        asked.append((key.number, list(numbers)))
        return [key.number + number for number in numbers]

    by_key, tens, twenties = TogetherBy(run, most=MOST), Key(10), Key(20)
    assert await asyncio.gather(by_key(tens, 1), by_key(twenties, 1), by_key(tens, 2)) == [
        11,
        21,
        12,
    ]
    assert asked == [(10, [1, 2]), (20, [1])]
    kept = [weakref.ref(tens), weakref.ref(twenties)]
    del tens, twenties
    gc.collect()
    assert [one() for one in kept] == [None, None]
