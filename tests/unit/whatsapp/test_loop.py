"""A loop goes on at once while its turns are worth it, and lets things gather otherwise."""

import asyncio

import pytest

from whatsapp.entrypoints.workers.loop import Loop


@pytest.mark.parametrize(
    ("enough", "found", "turns"),
    [(1, [1, 3, 0], 3), (1, [0], 1), (5, [5, 7, 4], 3), (5, [4], 1)],
)
async def test_it_pauses_after_a_turn_that_found_less_than_enough(enough, found, turns) -> None:
    stopping, begun, made = asyncio.Event(), asyncio.Event(), list[int]()

    async def work() -> int:
        made.append(found[len(made)])
        begun.set()
        return made[-1]

    loop = Loop(name="test", work=work, pause_seconds=60, enough=enough)
    running = asyncio.create_task(loop.run(stopping))
    await begun.wait()
    for _ in range(20):  # Far more than it takes to go on where it does not pause.
        await asyncio.sleep(0)

    assert len(made) == turns
    stopping.set()
    await running
