"""Many time limits under one timer: each ends its own block, at its own time."""

import asyncio

import pytest

from shared.infrastructure.http.deadlines import Deadlines


async def forever():
    await asyncio.Event().wait()


async def test_a_block_that_waits_for_too_long_ends() -> None:
    deadlines = Deadlines()
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(TimeoutError), deadlines.within(0.02):
        await forever()

    assert loop.time() - began >= 0.02
    await asyncio.sleep(0)  # Nothing of the cancellation is left.


async def test_a_block_that_is_done_in_time_is_left_alone_for_good() -> None:
    deadlines = Deadlines()
    with deadlines.within(0.01):
        pass

    await asyncio.sleep(0.03)

    with pytest.raises(TimeoutError), deadlines.within(0.01):
        await forever()


async def test_each_ends_at_its_own_time_whichever_began_first() -> None:
    deadlines, ended = Deadlines(), list[float]()

    async def wait(seconds):
        with pytest.raises(TimeoutError), deadlines.within(seconds):
            await forever()
        ended.append(seconds)

    await asyncio.gather(*map(wait, (0.06, 0.02, 0.04)))

    assert ended == [0.02, 0.04, 0.06]


async def test_whoever_else_cancels_is_heard() -> None:
    deadlines = Deadlines()

    async def wait():
        with deadlines.within(60):
            await forever()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_error_of_the_block_passes() -> None:
    with pytest.raises(ZeroDivisionError), Deadlines().within(60):
        raise ZeroDivisionError
