"""Rooms, stops and looks of a send worker while drivers or tending take their time."""

import asyncio

import pytest

from send_installation import Expiring, Installation, Tending, until, working
from shared.kernel.ids import new_id


@pytest.fixture
def installation():
    return Installation([(new_id(), new_id()) for _ in range(5)])


async def test_no_more_are_served_than_there_is_room_for_however_long_drivers_think() -> None:
    installation = Installation([(new_id(), new_id()) for _ in range(60)])
    async with working(installation, max_channels=16) as worker:
        await until(lambda: len(installation.serving) == 16 and worker._waiting)
        installation.may_answer.clear()
        for one in installation.served[:4]:
            one.ended.set()
        await until(lambda: len(installation.wanted) >= 4)
        looks = len(installation.looks)
        await until(lambda: len(installation.looks) > looks)
        installation.may_answer.set()
        asked = installation.asked
        await until(lambda: installation.asked > asked + 6)
        assert len(installation.serving) == 16


async def test_a_stop_while_drivers_think_begins_nothing_and_leaves_everything(
    installation,
) -> None:
    stopping = asyncio.Event()
    async with working(installation, stopping, max_channels=4) as worker:
        await until(lambda: len(installation.serving) == 4 and worker._waiting)
        installation.may_answer.clear()
        installation.channels.remove(installation.served[0].key)
        installation.served[0].ended.set()
        (wanted,) = set(installation.channels) - {one.key for one in installation.served}
        await until(lambda: wanted[1] in installation.wanted)
        stopping.set()
        await until(lambda: not installation.serving)
        installation.may_answer.set()

    assert len(installation.served) == 4
    assert set(installation.left) >= {channel for _, channel in installation.channels}


async def test_a_stop_waits_for_no_channel_that_is_tended(installation) -> None:
    installation.is_tended = True
    tending, stopping = Tending(None), asyncio.Event()
    tending.may_end.clear()
    kept = {"retry": tending, "settle": tending, "expire": Expiring(tending)}
    async with working(installation, stopping, **kept):
        await until(lambda: len(installation.serving) == 5 and tending.done["expire"])
        stopping.set()
        await until(lambda: not installation.serving)
        tending.may_end.set()

    assert set(installation.left) == {channel for _, channel in installation.channels}


async def test_channels_that_only_have_to_be_tended_are_seen_while_hundreds_wait() -> None:
    installation = Installation([(new_id(), new_id()) for _ in range(300)])
    tending = Tending(None)
    kept = {"retry": tending, "settle": tending, "expire": Expiring(tending)}
    async with working(installation, max_channels=16, **kept) as worker:
        await until(lambda: len(installation.looks) >= 3)
        installation.only_tended = set(installation.channels[:3])
        tenants = {tenant for tenant, _ in installation.only_tended}
        for what in ("expire", "retry", "give up"):
            await until(lambda what=what: tending.done[what] == tenants)
        assert worker._waiting[0] > max(installation.only_tended)
