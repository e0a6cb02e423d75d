"""How a process learns for how long its slots have to last."""

from datetime import timedelta

import pytest

from whatsapp.application.lateness import GROUP_SECONDS, LATE_GROUP_SECONDS, Lateness
from whatsapp.domain.rate_limit import LATENESS, MAX_LATENESS


def taught(*late: float, seconds: float = 2.0) -> Lateness:
    """A hundred slots a second, reached as late as that in turn."""
    lateness = Lateness()
    for number in range(int(seconds * 100)):
        lateness.reached(late[number % len(late)], at=number / 100)
    return lateness


def test_whoever_is_in_time_takes_slots_as_short_as_they_come() -> None:
    lateness = taught(0.001, 0.004)

    assert (lateness.wanted, lateness.given_up) == (LATENESS, 0)
    assert lateness.group_seconds == GROUP_SECONDS


def test_whoever_is_always_late_takes_slots_that_last_so_long_and_little_longer() -> None:
    lateness = taught(0.020)

    assert lateness.seconds == 0.024
    assert lateness.given_up == pytest.approx(0.016, abs=0.001)


def test_what_is_late_now_and_then_is_not_worth_the_price() -> None:
    assert taught(*[0.001] * 49, 0.2).wanted == LATENESS


def test_nothing_lasts_longer_than_the_limiter_gives() -> None:
    assert taught(0.2, 5.0).wanted <= MAX_LATENESS


def test_few_slots_teach_nothing() -> None:
    assert taught(0.1, seconds=0.09).wanted == LATENESS


def test_whoever_is_in_time_again_learns_it_within_seconds() -> None:
    lateness = taught(0.1)
    assert lateness.group_seconds == LATE_GROUP_SECONDS

    for number in range(200, 500):
        lateness.reached(0.0, at=number / 100)
    assert lateness.group_seconds == GROUP_SECONDS


def test_where_many_wait_slots_last_until_all_others_have_left() -> None:
    lateness = Lateness()

    lateness.crowded(60)
    assert (lateness.wanted, lateness.given_up) == (LATENESS, 0)

    lateness.crowded(300)
    lateness.crowded(100)
    assert lateness.wanted == timedelta(milliseconds=30)
    assert lateness.given_up == pytest.approx(1 - 1.008 / 1.03)

    lateness.crowded(10**6)
    assert lateness.wanted == MAX_LATENESS


def test_slots_become_short_again_half_a_second_after_the_crowd_at_the_latest() -> None:
    lateness, asked = Lateness(), []
    lateness.crowded(300)

    for number in range(60):
        lateness.reached(0.0, at=number / 100)
        asked.append(lateness.wanted)

    assert set(asked[:49]) == {timedelta(milliseconds=30)}
    assert asked[51] == LATENESS
