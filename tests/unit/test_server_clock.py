from hypothesis import given
from hypothesis import strategies as st

from shared.infrastructure.redis.server_clock import ServerClock

DELAY = st.integers(0, 50_000_000)  # Nanoseconds.
REPLIES = st.lists(st.tuples(st.integers(0, 10**10), DELAY, DELAY), min_size=1, max_size=30)


def replies(timings, *, ahead_ns, start_ns=0):
    """(server's micros, sent, received) of requests one after the other; the server is ahead."""
    now = start_ns
    for pause, there, back in timings:
        now += pause
        sent, read, now = now, now + there, now + there + back
        yield (read + ahead_ns) // 1000, sent, now


@given(timings=REPLIES, ahead_ns=st.integers(-(10**18), 10**18))
def test_the_bounds_hold_the_truth_and_never_widen_beyond_a_round_trip(timings, ahead_ns):
    clock = None
    for micros, sent, received in replies(timings, ahead_ns=ahead_ns):
        if clock is None:
            first = received
            clock = ServerClock(micros, sent_ns=sent, received_ns=received)
        else:
            clock.observe(micros, sent_ns=sent, received_ns=received)

        assert clock.low_ns <= ahead_ns <= clock.high_ns
        assert clock.high_ns - clock.low_ns <= received - sent + 1_000
        assert clock.steady_since_ns == first


@given(
    before=REPLIES,
    after=REPLIES,
    moved_ns=st.integers(200_000_000, 10**12),
    forward=st.booleans(),
)
def test_a_clock_that_was_moved_is_noticed_at_the_next_reply(before, after, moved_ns, forward):
    clock, now = None, 0
    for micros, sent, received in replies(before, ahead_ns=0):
        clock = clock or ServerClock(micros, sent_ns=sent, received_ns=received)
        clock.observe(micros, sent_ns=sent, received_ns=received)
        now = received
    ahead = moved_ns if forward else -moved_ns
    # However long the silence was, clocks that merely drift stay within 500 millionths of it.
    after = [(min(pause, 10**9), there, back) for pause, there, back in after]
    micros, sent, received = next(replies(after, ahead_ns=ahead, start_ns=now))
    clock.observe(micros, sent_ns=sent, received_ns=received)

    assert clock.steady_since_ns == received
    assert clock.low_ns <= ahead <= clock.high_ns


def test_a_slow_reply_does_not_blur_what_a_quick_one_told():
    clock = ServerClock(1_000_000, sent_ns=0, received_ns=200_000)
    width = clock.high_ns - clock.low_ns
    clock.observe(1_040_000, sent_ns=1_000_000, received_ns=80_000_000)

    assert clock.high_ns - clock.low_ns < width + 100_000
