import runpy
from pathlib import Path

from hypothesis import HealthCheck, given, settings

m = runpy.run_path(str(Path(__file__).parents[1] / "rate_limit_model.py"))

many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@many
@given(rate=m["RATE"], events=m["days"](*m["CALLS"], *m["ACCIDENTS"], *m["ACCIDENTS"]))
def test_no_second_holds_more_than_the_rate_whatever_happens(rate, events):
    world = m["World"](m["Model"]())

    m["play"](world, rate, events)

    assert m["most_in_a_second"](time for time, _ in world.sent) <= rate


@many
@given(
    rate=m["RATE"],
    events=m["days"](*m["CALLS"], *m["ACCIDENTS"], m["SLOW"], m["RAISE_OR_LOWER"]),
)
def test_no_second_holds_more_than_the_highest_rate_in_force_in_it(rate, events):
    world = m["World"](m["Model"]())

    m["play"](world, rate, events)

    assert m["overfull_seconds"](world.sent) == []


@many
@given(
    rate=m["RATE"],
    events=m["days"](*m["CALLS"], m["NEW_WORKER"], *[m["RAISE_OR_LOWER"]] * 6),
)
def test_no_second_with_a_slot_of_a_lowered_rate_holds_one_of_the_rate_before(rate, events):
    world = m["World"](m["Model"]())

    m["play"](world, rate, events)

    assert m["mixed_seconds"](world.sent) == []
