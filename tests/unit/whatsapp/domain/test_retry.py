from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from whatsapp.domain.retry import Jitter, RetryPolicy, retry_delay

SECOND = timedelta(seconds=1)
waits = st.timedeltas(min_value=timedelta(), max_value=timedelta(days=30))
policies = st.builds(
    RetryPolicy,
    base=waits,
    cap=waits,
    retries=st.none() | st.integers(0, 2**70),
    factor=st.integers(1, 10),
    floor=waits,
    jitter=st.sampled_from(Jitter),
)


class _Always(Random):
    """Chance that always falls the same way."""

    def __init__(self, value):
        super().__init__(0)
        self.value = value

    def random(self):
        return self.value


@given(policies, st.integers(-(2**70), 2**70), st.none() | waits, st.integers())
def test_a_delay_is_within_its_bounds_for_any_attempt(policy, attempt, at_least, seed):
    delay = retry_delay(policy, attempt=attempt, rng=Random(seed), at_least=at_least)

    if delay is None:
        assert policy.retries is not None
        assert attempt > policy.retries
    else:
        least = max(policy.floor, at_least or timedelta())
        assert least <= delay <= least + policy.cap * 1.25 + SECOND


def test_the_window_doubles_up_to_the_cap():
    policy = RetryPolicy(base=SECOND, cap=timedelta(seconds=10), retries=None)

    windows = [policy.window(n).total_seconds() for n in (1, 2, 3, 4, 5, 6, 10_000)]

    assert windows == [1, 2, 4, 8, 10, 10, 10]


def test_full_jitter_spreads_over_the_whole_window():
    policy = RetryPolicy(base=timedelta(seconds=8), cap=timedelta(hours=1), retries=3)

    assert retry_delay(policy, attempt=1, rng=_Always(0.0)) == timedelta()
    assert retry_delay(policy, attempt=1, rng=_Always(0.5)) == timedelta(seconds=4)
    assert retry_delay(policy, attempt=2, rng=_Always(0.5)) == timedelta(seconds=8)


def test_added_jitter_never_comes_early():
    policy = RetryPolicy(
        base=timedelta(seconds=8), cap=timedelta(hours=1), retries=3, jitter=Jitter.ADDED
    )

    assert retry_delay(policy, attempt=1, rng=_Always(0.0)) == timedelta(seconds=8)
    assert retry_delay(policy, attempt=1, rng=_Always(1.0)) == timedelta(seconds=10)


def test_a_wait_that_was_asked_for_is_kept_and_still_spread():
    policy = RetryPolicy(base=timedelta(seconds=8), cap=timedelta(hours=1), retries=3)
    asked = timedelta(seconds=30)

    delays = {retry_delay(policy, attempt=1, rng=_Always(x), at_least=asked) for x in (0.0, 0.5)}

    assert delays == {asked, asked + timedelta(seconds=4)}


def test_a_policy_is_exhausted_after_its_retries_and_an_endless_one_never():
    three = RetryPolicy(base=SECOND, cap=SECOND, retries=3)
    endless = RetryPolicy(base=SECOND, cap=SECOND, retries=None)

    assert retry_delay(three, attempt=3, rng=Random(0)) is not None
    assert retry_delay(three, attempt=4, rng=Random(0)) is None
    assert retry_delay(endless, attempt=10**9, rng=Random(0)) is not None
