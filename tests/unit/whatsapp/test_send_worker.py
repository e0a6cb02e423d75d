"""Which channels a worker serves, with a queue, drivers and dispatchers of the test's own."""

import asyncio
from datetime import timedelta

import pytest

from send_installation import Expiring, Installation, Tending, until, working
from shared.kernel.ids import new_id
from whatsapp.domain.driving import Stance
from whatsapp.entrypoints.workers.send_worker import (
    ALONE_SECONDS,
    ANYWAY_SECONDS,
    ENOUGH_WAITING,
    HANDFUL,
    SWEEP_CHANNELS,
)


@pytest.fixture
def installation():
    return Installation([(new_id(), new_id()) for _ in range(5)])


async def test_it_serves_what_it_is_given_and_leaves_the_rest_to_others(installation) -> None:
    (_, others), *mine = installation.channels
    installation.given_away = {others}
    async with working(installation):
        await until(lambda: len(installation.served) == 4)
        assert installation.serving == {channel for _, channel in mine}


async def test_it_stops_with_what_somebody_else_serves_and_takes_it_back(installation) -> None:
    taken = installation.channels[0][1]
    async with working(installation):
        await until(lambda: len(installation.serving) == 5)
        installation.given_away = {taken}
        await until(lambda: taken not in installation.serving)
        installation.given_away = set()
        await until(lambda: taken in installation.serving)


async def test_it_says_how_it_keeps_up(installation) -> None:
    async with working(installation):
        await until(lambda: len(installation.serving) == 5)
        installation.served[0].stance = Stance.RELIEVE
        channel = installation.served[0].key[1]
        await until(lambda: installation.stances[channel] is Stance.RELIEVE)


async def test_where_nobody_says_who_serves_it_serves_everything(installation) -> None:
    installation.is_gone = True
    async with working(installation):
        await until(lambda: len(installation.serving) == 5)
        asked = installation.asked
        await until(lambda: installation.asked > asked + 3)
        assert len(installation.serving) == 5


async def test_it_leaves_a_channel_when_nothing_is_due_and_all_when_it_ends(installation) -> None:
    async with working(installation):
        await until(lambda: len(installation.serving) == 5)
        done = installation.served[0]
        installation.channels.remove(done.key)
        done.ended.set()
        await until(lambda: installation.left)
        assert installation.left == [done.key[1]]
        installation.channels.append(done.key)
        await until(lambda: len(installation.serving) == 5)

    assert installation.serving == set()
    assert set(installation.left[1:]) == {channel for _, channel in installation.channels}


async def test_where_there_is_no_room_for_all_they_take_turns(installation) -> None:
    async with working(installation, max_channels=2) as worker:
        worker.monotonic = lambda: 10 * asyncio.get_running_loop().time()
        await until(lambda: len({one.key for one in installation.served}) == 5)
        assert len(installation.serving) <= 2


async def test_a_channel_on_which_nothing_has_left_yet_keeps_its_place(installation) -> None:
    async with working(installation, max_channels=2) as worker:
        await until(lambda: len(installation.serving) == 2)
        for one in installation.served:
            one.has_sent = False
        now = worker.monotonic()
        worker.monotonic = lambda: now + 5
        asked = installation.asked
        await until(lambda: installation.asked > asked + 6)
        assert len(installation.served) == 2
        installation.served[0].has_sent = True
        await until(lambda: len(installation.served) > 2)


async def test_no_room_is_made_for_what_others_serve(installation) -> None:
    installation.given_away = {channel for _, channel in installation.channels[2:]}
    async with working(installation, max_channels=2) as worker:
        worker.monotonic = lambda: 100 * asyncio.get_running_loop().time()
        await until(lambda: len(installation.serving) == 2)
        asked = installation.asked
        await until(lambda: installation.asked > asked + 6)
        assert not any(one.was_stopped or one.was_retired for one in installation.served)


async def test_what_waits_for_an_answer_only_takes_the_place_of_nobody(installation) -> None:
    async with working(installation, max_channels=2) as worker:
        worker.monotonic = lambda: 10 * asyncio.get_running_loop().time()
        await until(lambda: len(installation.served) == 2)
        for one in installation.served[:2]:
            one.is_sending = False
        await until(lambda: len({one.key for one in installation.served}) == 5)
        assert all(one.was_retired and one.was_stopped for one in installation.served[:2])


@pytest.mark.parametrize(("rate", "served"), [(80, 50), (10, 60)])
async def test_so_many_are_served_at_once_as_could_send_more_than_a_worker_can(
    rate, served
) -> None:
    installation = Installation([(new_id(), new_id()) for _ in range(60)], rate=rate)
    async with working(installation):
        await until(lambda: len(installation.serving) >= served)
        asked = installation.asked
        await until(lambda: installation.asked > asked + 6)
        assert len(installation.serving) == served
        for one in installation.served:
            one.is_sending = False
        await until(lambda: len(installation.serving) == 60)


async def test_a_few_are_served_at_once_however_much_they_send() -> None:
    few = [(new_id(), new_id()) for _ in range(48)]
    installation = Installation(list(few), rate=1000)
    async with working(installation):
        await until(lambda: len(installation.serving) == 48)
        installation.channels += [(new_id(), new_id()) for _ in range(5)]
        asked = installation.asked
        await until(lambda: installation.asked > asked + 6)
        assert len(installation.serving) == 48
        installation.served[0].is_sending = False
        await until(lambda: len(installation.serving) == 49)


async def sweeps(installation: Installation, number: int = 3) -> None:
    """Wait until so many may have come and gone: whoever goes on driving asks as often."""
    asked = installation.asked
    await until(lambda: installation.asked >= asked + number)


async def test_while_enough_wait_nobody_looks_for_more_but_now_and_then() -> None:
    installation, now = Installation([(new_id(), new_id()) for _ in range(600)]), 100.0
    async with working(installation, max_channels=16, monotonic=lambda: now):
        await until(lambda: len(installation.serving) == 16)
        await sweeps(installation)
        assert len(installation.looks) == 1

        now += 1.1 * ANYWAY_SECONDS
        await until(lambda: len(installation.looks) == 3)  # Also for those to be tended.
        await sweeps(installation)
        assert len(installation.looks) == 3


async def test_when_few_are_left_waiting_others_are_looked_for_at_once() -> None:
    installation = Installation([(new_id(), new_id()) for _ in range(600)])
    async with working(installation, max_channels=HANDFUL, monotonic=lambda: 100.0):
        await until(lambda: len(installation.serving) == HANDFUL)
        waiting = SWEEP_CHANNELS - HANDFUL
        while waiting > ENOUGH_WAITING:
            assert len(installation.looks) == 1
            begun = len(installation.served)
            for one in installation.served[-HANDFUL:]:
                one.ended.set()
            await until(lambda begun=begun: len(installation.served) == begun + HANDFUL)
            waiting -= HANDFUL

        await until(lambda: len(installation.looks) >= 2)


async def test_a_place_that_becomes_free_is_filled_without_another_look() -> None:
    installation = Installation([(new_id(), new_id()) for _ in range(60)])
    async with working(installation, max_channels=16):
        await until(lambda: len(installation.serving) == 16)
        installation.may_look.clear()
        for number in range(16, 50):
            installation.served[number - 16].ended.set()
            await until(lambda number=number: len(installation.served) > number)
        order = sorted(installation.channels)[:50]
        assert [one.key for one in installation.served[:50]] == order
        installation.may_look.set()
        await until(lambda: len(installation.looks) >= 3)


async def test_places_are_given_to_a_handful_together_or_to_fewer_after_a_moment() -> None:
    channels, most = [(new_id(), new_id()) for _ in range(6 * HANDFUL)], 2 * HANDFUL
    installation, now = Installation(channels), 100.0

    def end(number: int) -> None:
        for one in [one for one in installation.served if not one.ended.is_set()][:number]:
            one.ended.set()

    async with working(installation, max_channels=most, monotonic=lambda: now):
        await until(lambda: len(installation.serving) == most)
        installation.may_look.clear()
        end(HANDFUL - 1)
        asked = installation.asked  # By those that go on, ten times a second.
        await until(lambda: installation.asked >= asked + 3)
        assert len(installation.served) == most

        now += 1.1 * ALONE_SECONDS
        await until(lambda: len(installation.served) > most)
        assert len(installation.served) == most + HANDFUL - 1
        end(HANDFUL)
        await until(lambda: len(installation.served) > most + HANDFUL - 1)
        assert len(installation.served) == most + 2 * HANDFUL - 1
        installation.may_look.set()


async def test_no_channel_is_begun_twice_by_a_look_and_a_place_that_becomes_free() -> None:
    installation = Installation([(new_id(), new_id()) for _ in range(40)])
    installation.seconds = 0.03
    most = 0
    async with working(installation, max_channels=16):
        while len(installation.served) < 300:
            await asyncio.sleep(0.005)
            live = [one.key for one in installation.served if not one.ended.is_set()]
            most = max(most, len(live) - len(set(live)))
            if live:
                next(one for one in installation.served if not one.ended.is_set()).ended.set()
    assert not most


async def test_a_channel_that_had_to_rest_asks_before_it_claims(installation) -> None:
    async with working(installation):
        await until(lambda: len(installation.serving) == 5)
        assert not any(one.asks_first for one in installation.served)
        rested = installation.served[0]
        rested.resting = timedelta(seconds=0.05)
        rested.ended.set()
        await until(lambda: len(installation.served) == 6)
        assert installation.served[5].key == rested.key
        assert installation.served[5].asks_first

        installation.served[5].ended.set()
        await until(lambda: len(installation.served) == 7)
        assert not installation.served[6].asks_first


async def test_many_workers_look_less_often_each(installation) -> None:
    async with working(installation) as worker:
        assert worker.stretch() == 1
        installation.workers = 2
        assert worker.stretch() == 1
        installation.workers = 16
        assert worker.stretch() == 4


async def test_one_tenants_trouble_keeps_no_other_from_being_tended(installation) -> None:
    installation.is_tended = True
    tenants = {tenant for tenant, _ in installation.channels}

    for broken in tenants:
        tending = Tending(broken)
        async with working(installation, retry=tending, settle=tending, expire=Expiring(tending)):
            done = tending.done
            await until(
                lambda done=done: len(done) == 4 and all(len(d) == 5 for d in done.values())
            )

        assert tending.done == dict.fromkeys(("expire", "retry", "give up", "hold"), tenants)
