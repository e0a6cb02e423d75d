"""A process has only so many requests under way, and no channel keeps the others from theirs."""

from hypothesis import given
from hypothesis import strategies as st

from whatsapp.application.in_flight import InFlight

CHANNELS = 4
STEPS = st.lists(st.tuples(st.integers(0, CHANNELS - 1), st.integers(-20, 50)), max_size=60)


@given(STEPS)
def test_there_are_never_more_than_may_be(steps) -> None:
    in_flight, own = InFlight(most=100), [0] * CHANNELS
    for channel, wanted in steps:
        number = max(-own[channel], min(wanted, in_flight.room(own[channel])))
        in_flight.expect(number)
        own[channel] += number

        assert in_flight.number == sum(own)
        assert in_flight.number <= in_flight.most


def test_those_that_take_all_they_get_leave_as_much_to_the_next() -> None:
    in_flight = InFlight(most=100)
    for others in range(1, 20):
        taken = [0] * others
        for channel in [*range(others)] * 100:
            if in_flight.room(taken[channel]) > 0:
                in_flight.expect(1)
                taken[channel] += 1

        assert max(taken) - min(taken) <= 1
        assert in_flight.most - in_flight.number >= max(taken)
        in_flight.expect(-sum(taken))


def test_each_request_that_ends_tells_who_waits_longest() -> None:
    in_flight, told = InFlight(most=2), list[str]()
    in_flight.expect(2)
    for name in ("first", "second", "third"):
        in_flight.wait(name, lambda name=name: told.append(name))
    in_flight.wait("first", lambda: told.append("twice"))
    in_flight.leave("second")

    in_flight.expect(-1)
    assert told == ["first"]
    in_flight.expect(1)
    in_flight.expect(-2)
    assert told == ["first", "third"]


def test_whoever_is_told_may_wait_anew() -> None:
    in_flight, told = InFlight(most=2), list[int]()

    def again() -> None:
        told.append(1)
        in_flight.wait("it", again)

    in_flight.expect(2)
    in_flight.wait("it", again)
    in_flight.expect(-1)
    in_flight.expect(-1)

    assert told == [1, 1]
