"""How soon another rate counts, whenever it comes and however many workers have to learn of it."""

import runpy
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.application.fresh_channel import MAX_AGE_SECONDS
from whatsapp.application.lateness import GROUP_SECONDS
from whatsapp.application.take_slots import LOOKAHEAD

m = runpy.run_path(str(Path(__file__).parents[1] / "rate_limit_model.py"))
SECOND = m["SECOND"]
LONGEST_SLEEP = 250_000
RATES = st.sampled_from([1, 2, 20, 80, 1000])


class Dispatcher:
    """Takes slots as a dispatcher does, and reads the rate no more often than it does."""

    def __init__(self, worker, truth):
        self.worker, self.truth = worker, truth
        self.rate = self.read_at = None

    def ask(self, now):
        """Take slots and send on them; gives when it asks again."""
        if self.read_at is None or now - self.read_at > MAX_AGE_SECONDS * SECOND:
            self.rate, self.read_at = self.truth(now), now
        reservation = self.worker.send(
            "reserve",
            0,
            count=max(1, round(self.rate * GROUP_SECONDS)),
            rate=self.rate,
            horizon=LOOKAHEAD,
            learned_at=self.worker.ago(now - self.read_at),
        )
        if not reservation:
            return now + min(reservation.retry_after // timedelta(microseconds=1), LONGEST_SLEEP)
        last = (reservation.slots[-1].at * 1e9 - self.worker.offset_ns) / 1000
        ahead = (LOOKAHEAD.total_seconds() - GROUP_SECONDS) * SECOND
        return max(now + 300, round(last - ahead))


def sent_through_a_change(before, after, at, begins):
    """Send with work waiting; gives the times of all sends."""
    world = m["World"](m["Model"]())
    dispatchers = [
        Dispatcher(worker, lambda now: before if now < at else after)
        for worker in world.workers[: len(begins)]
    ]
    due = dict(zip(dispatchers, begins, strict=True))
    while (now := min(due.values())) < at + 3 * SECOND:
        world.now = now
        one = min(due, key=due.get)
        due[one] = one.ask(now)
    return sorted(time for time, _ in world.sent)


BEGINS = st.lists(st.integers(0, 600_000), min_size=1, max_size=3)
CHANGE_AT = st.integers(5_000_000, 6_500_000)
many = settings(max_examples=150, derandomize=True, deadline=None)


@many
@given(before=RATES, after=RATES, at=CHANGE_AT, begins=BEGINS)
def test_a_second_after_a_change_the_new_rate_is_used_and_never_exceeded(before, after, at, begins):
    sent = sent_through_a_change(before, after, at, begins)

    counted = [time for time in sent if time > at + SECOND]
    assert m["most_in_a_second"](counted) <= after
    if after >= before:  # A lower rate begins with a second without any.
        assert len([time for time in counted if time <= at + 2 * SECOND]) >= int(0.99 * after)
    assert m["most_in_a_second"](sent) <= max(before, after)
