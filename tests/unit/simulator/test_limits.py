from hypothesis import given
from hypothesis import strategies as st

from whatsapp_simulator.clock import MILLISECOND_NS, SECOND_NS
from whatsapp_simulator.limits import PAIR_BURST, PAIR_INTERVAL_NS, PairLimit, SlidingSecond
from whatsapp_simulator.recent import RecentMap

gaps = st.lists(st.integers(0, 300 * MILLISECOND_NS), min_size=1, max_size=200)


def _most_in_any_second(times):
    return max((sum(t - SECOND_NS < u <= t for u in times) for t in times), default=0)


def _arrivals(gaps_ns):
    now = 0
    for gap in gaps_ns:
        now += gap
        yield now


@given(gaps, st.integers(1, 20))
def test_no_sliding_second_ever_holds_more_than_the_limit(gaps_ns, limit):
    window = SlidingSecond()

    accepted = [now for now in _arrivals(gaps_ns) if window.try_add(now, limit)]

    assert _most_in_any_second(accepted) <= limit
    assert window.peak == _most_in_any_second(accepted)


@given(gaps, st.integers(1, 20))
def test_a_refusal_means_that_the_last_second_is_full(gaps_ns, limit):
    window, accepted = SlidingSecond(), []

    for now in _arrivals(gaps_ns):
        if window.try_add(now, limit):
            accepted.append(now)
        else:
            assert sum(now - SECOND_NS < t <= now for t in accepted) == limit


def test_the_eighty_first_message_is_accepted_one_second_after_the_first_and_not_before():
    window = SlidingSecond()
    assert all(window.try_add(7 + i, 80) for i in range(80))

    assert not window.try_add(7 + SECOND_NS - 1, 80)
    assert window.try_add(7 + SECOND_NS, 80)


def test_a_lower_rate_holds_from_the_next_message_on():
    window = SlidingSecond()
    assert all(window.try_add(0, 1000) for _ in range(500))

    assert not window.try_add(SECOND_NS - 1, 20)
    assert window.try_add(SECOND_NS, 20)


def _send_until_refused(pairs, user, now):
    sent = 0
    while pairs.allows(user, now):
        pairs.consume(user, now)
        sent += 1
    return sent


def test_a_user_gets_forty_five_messages_at_once_and_then_one_in_six_seconds():
    pairs = PairLimit()

    assert _send_until_refused(pairs, "a", 0) == PAIR_BURST
    assert _send_until_refused(pairs, "a", PAIR_INTERVAL_NS - 1) == 0
    assert _send_until_refused(pairs, "a", PAIR_INTERVAL_NS) == 1
    assert _send_until_refused(pairs, "b", PAIR_INTERVAL_NS) == PAIR_BURST


def test_after_twenty_at_once_the_burst_is_whole_again_in_two_minutes():
    pairs = PairLimit()
    for _ in range(20):
        pairs.consume("a", 0)

    assert _send_until_refused(pairs, "a", 20 * PAIR_INTERVAL_NS) == PAIR_BURST


@given(st.lists(st.integers(0, 400), min_size=1, max_size=300))
def test_forgetting_pairs_never_lets_more_through_than_the_quota(seconds):
    pairs, sent, now = PairLimit(), [], 0
    for gap in seconds:
        now += gap * SECOND_NS
        if pairs.allows("a", now):
            pairs.consume("a", now)
            sent.append(now)

    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            quota = PAIR_BURST + (sent[last] - start) / PAIR_INTERVAL_NS
            assert last - first + 1 <= quota


def test_a_recent_map_keeps_at_least_its_capacity_and_forgets_in_the_end():
    recent = RecentMap(10)
    for key in range(1000):
        recent.put(key, key)
        assert all(k in recent for k in range(max(0, key - 9), key + 1))

    assert sum(k in recent for k in range(1000)) <= 20
    assert recent.get(999) == 999
    assert recent.get(1) is None
