"""Garbage is looked for by the clock: seldom enough not to be felt, often enough not to pile up."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from tellwire import garbage
from tellwire.garbage import FULL_EVERY, MOST_NEW, WORTH_SEARCHING, Search, settle_down


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
def searches() -> Iterator[list[int]]:
    """Which generations were searched up to."""
    found: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    settle_down()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


def circles(number: int) -> None:
    """Leave `number` objects behind that only a search finds."""
    for _ in range(number):
        one: list[object] = []
        one.append(one)


def test_many_new_objects_start_no_search_of_their_own(searches) -> None:
    kept = [[] for _ in range(MOST_NEW // 2)]

    assert not searches
    assert len(kept) == MOST_NEW // 2


def test_garbage_is_bounded_whatever_the_clock_says(searches) -> None:
    circles(MOST_NEW + 1000)

    assert searches


async def test_a_search_finds_what_only_refers_to_itself(searches) -> None:
    circles(2 * WORTH_SEARCHING)

    assert await Search()() == 0

    assert searches == [0]
    assert gc.get_count()[0] < WORTH_SEARCHING


async def test_little_is_not_worth_a_search(searches) -> None:
    circles(WORTH_SEARCHING // 2)

    await Search()()

    assert not searches


async def test_now_and_then_everything_is_looked_at(searches) -> None:
    search = Search()
    for _ in range(FULL_EVERY):
        circles(2 * WORTH_SEARCHING)
        await search()

    assert searches == [0] * (FULL_EVERY - 1) + [2]


async def test_a_process_searches_while_it_runs(searches, monkeypatch) -> None:
    monkeypatch.setattr(garbage, "SEARCH_SECONDS", 0.01)
    stopping = asyncio.Event()
    circles(2 * WORTH_SEARCHING)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(garbage.garbage_search().run(stopping))
        while not searches:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        stopping.set()

    assert searches[0] == 0
