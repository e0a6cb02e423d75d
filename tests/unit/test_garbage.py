"""Garbage is looked for by the clock: seldom enough not to be felt, often enough not to pile up."""

import gc

import pytest

from tellwire.garbage import FULL_EVERY, MOST_NEW, WORTH_SEARCHING, Search, settle_down


@pytest.fixture(autouse=True)
def _settled(searches) -> None:
    settle_down()
    searches.clear()


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
