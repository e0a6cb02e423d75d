import runpy
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

m = runpy.run_path(str(Path(__file__).parents[1] / "rate_limit_model.py"))

many = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


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


# Somebody sends alone for a while, as late as they may be, and then somebody else does.
PHASE = st.tuples(
    m["WORKER"],
    st.sampled_from([8_000, 250_000]),
    st.sampled_from([0, m["LAST_MOMENT"]]),
    st.sampled_from([60_000, 1_200_000]),
    st.sampled_from(["nothing", "lose", "lower"]),
)


@settings(many, max_examples=400)
@given(rate=st.sampled_from([1, 3, 80]), phases=st.lists(PHASE, min_size=2, max_size=4))
def test_whoever_may_be_later_hands_over_to_whoever_may_not(rate, phases):
    world = m["World"](m["Model"]())
    m["play"](world, rate, [])
    rates = [rate] * len(world.workers)

    for worker, tolerance, behind, micros, then in phases:
        end = world.now + micros
        while world.now < end:
            m["call"](world, rates, "reserve", worker, 100, behind, (100, 100), tolerance)
            world.pass_time(30_000)
        if then == "lose":
            world.lose_key()
        elif then == "lower":
            rates = [max(1, rates[0] // 4)] * len(rates)

    assert m["overfull_seconds"](world.sent) == []
    if all(then != "lose" for *_, then in phases):
        assert m["mixed_seconds"](world.sent) == []
