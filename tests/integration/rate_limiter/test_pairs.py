"""The script of the limit per pair in a real Redis, at times of the test's own."""

from contextlib import closing
from math import ceil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whatsapp.domain.rate_limit import PAIR_BURST, PAIR_INTERVAL
from whatsapp.infrastructure.persistence.repositories.scripts import script

pytestmark = [pytest.mark.redis, pytest.mark.xdist_group("rate_limiter")]

SECOND = 1_000_000
INTERVAL = PAIR_INTERVAL.total_seconds() * SECOND
AT_ONCE = PAIR_BURST - 1
CLOCK = 1_795_000_000 * SECOND
STEPS_BACK = st.sampled_from([-300 * SECOND, -3600 * SECOND, -50_000])


class Person:
    """One person's key, real time, and the times of what was taken and not given back."""

    def __init__(self, client) -> None:
        text = script("pair_limiter.lua")[0]
        assert text.count("redis.call('TIME')") == 1
        text = text.replace("redis.call('TIME')", "{ 0, ARGV[#ARGV] }")
        self.client, self.script = client, client.register_script(text)
        self.now, self.clock, self.free_at, self.free_by = 0, CLOCK, 0, 0
        self.held_for, self.has_stepped = 0, False
        self.turns = {}  # What was taken: its mark and when.
        client.delete("pair")

    def call(self, operation, *args, keys=1):
        given = [operation, int(INTERVAL), AT_ONCE, *args, self.now + self.clock]
        if self.has_stepped:  # How long ago the key was written nobody knows any more.
            self.free_by, self.has_stepped = max(self.free_by, self.now + self.held_for), False
        return self.script(keys=["pair"] * keys, args=given)

    def take(self, number) -> list[int]:
        """Take for so many messages at once; gives how long each has to wait."""
        reply = self.call("take", keys=number)
        waits, marks = reply[::2], reply[1::2]
        taken = [mark for wait, mark in zip(waits, marks, strict=True) if not wait]
        self.turns |= dict.fromkeys(taken, self.now)
        return waits

    def give_back(self, number) -> list[int]:
        """Give back so many of the last, the last one first."""
        last = list(self.turns)[::-1][:number]
        given = self.call("give", *last, keys=len(last)) if last else []
        for mark, was_given in zip(last, given, strict=True):
            if was_given:
                del self.turns[mark]
        return given

    def hold(self, seconds) -> None:
        self.call("hold", seconds * SECOND)
        self.free_at = max(self.free_at, self.now + seconds * SECOND)
        self.free_by = max(self.free_by, self.free_at)
        self.held_for = max(self.held_for, seconds * SECOND)

    def step_back(self, amount) -> None:
        self.clock += amount
        self.has_stepped = True


HAPPENINGS = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 60)),
    st.tuples(st.just("give back"), st.integers(1, 60)),
    st.tuples(st.just("wait"), st.integers(0, 400 * SECOND)),
    st.tuples(st.just("wait"), st.integers(0, 13 * SECOND)),
    st.tuples(st.just("hold"), st.integers(1, 30)),
    st.tuples(st.just("step back"), STEPS_BACK),
)


def happen(person, kind, amount) -> None:
    if kind == "take":
        held = person.free_at > person.now
        waits = [wait for wait in person.take(amount) if wait]
        left = max(0, person.free_by - person.now)
        # A small step back of the clock is waited out; each may put it off by as much.
        assert all(wait <= left + INTERVAL + SECOND for wait in waits)
        assert not held or len(waits) == amount
    elif kind == "give back":
        person.give_back(amount)
    elif kind == "wait":
        person.now += amount
    elif kind == "hold":
        person.hold(amount)
    else:
        person.step_back(amount)


def test_never_more_than_the_limit_and_no_wait_longer_than_it_says(server) -> None:
    """Whatever is given back, held, or moved about the server's clock."""
    with closing(server.client()) as client:

        @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
        @given(st.lists(HAPPENINGS, max_size=20))
        def law(happenings) -> None:
            person = Person(client)
            for kind, amount in happenings:
                happen(person, kind, amount)
            times = sorted(person.turns.values())
            for first, since in enumerate(times):
                for last, until in enumerate(times[first:], 1):
                    assert last <= AT_ONCE + ceil((until - since) / INTERVAL)

        law()


@pytest.mark.parametrize("at_once", [1, 10, AT_ONCE])
def test_what_was_given_back_has_left_no_trace(server, at_once) -> None:
    with closing(server.client()) as client:
        person = Person(client)
        for _ in range(3):
            assert not any(person.take(at_once))
            assert all(person.give_back(at_once))

        waits = person.take(AT_ONCE + 1)

    assert [bool(wait) for wait in waits] == [False] * AT_ONCE + [True]


def test_what_was_held_meanwhile_stays_held_and_later_turns_stay_counted(server) -> None:
    with closing(server.client()) as client:
        person = Person(client)
        person.take(2)
        first, second = person.turns
        assert person.call("give", first) == [0]
        assert person.call("give", second) == [1]
        person.take(1)
        person.hold(60)

        assert person.give_back(1) == [0]
        assert person.take(1) == [60 * SECOND]


def test_a_short_hold_behind_a_burst_is_not_given_back_with_its_last_turn(server) -> None:
    with closing(server.client()) as client:
        person = Person(client)
        person.take(AT_ONCE)
        person.hold(1)

        assert person.give_back(1) == [0]
        assert person.take(1) != [0]


def test_a_clock_that_steps_back_rests_nobody_for_as_long(server) -> None:
    with closing(server.client()) as client:
        person = Person(client)
        person.take(1)
        person.step_back(-3600 * SECOND)

        assert person.take(1) == [0]


def test_a_hold_ends_although_the_clock_has_stepped_back_behind_it(server) -> None:
    with closing(server.client()) as client:
        person = Person(client)
        person.hold(30)
        person.step_back(-3600 * SECOND)
        assert person.take(1) == [30 * SECOND]
        person.now += 20 * SECOND
        assert person.take(1) == [10 * SECOND]
        person.now += 10 * SECOND

        assert person.take(1) == [0]
