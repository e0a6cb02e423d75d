"""Fairness within a channel, as laws of the order in which lanes are claimed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from whatsapp.application.claim_size import FIRST_SECONDS, MAX_CLAIM, TARGET_SECONDS, ClaimSize
from whatsapp.application.lane_turns import LANE_CYCLE, LaneTurns
from whatsapp.domain.send_queue import LANES

HIGH, NORMAL, BULK = LANES
backlogs = st.fixed_dictionaries({lane: st.integers(0, 2000) for lane in LANES})
turns = st.integers(0, LANE_CYCLE - 1)


def claim(backlog: dict[int, int], lanes: tuple[int, ...], limit: int) -> Counter[int]:
    """What the queue gives out: lanes in the order given, as far as the limit goes."""
    got: Counter[int] = Counter()
    for lane in lanes:
        took = min(backlog[lane], limit - got.total())
        backlog[lane] -= took
        got[lane] += took
    return got


@given(turns, st.integers(1, 500), st.integers(1, 10))
def test_under_a_flood_of_high_bulk_gets_a_tenth_and_high_most(turn, size, cycles) -> None:
    order, got = LaneTurns(turn), Counter()
    for _ in range(cycles * LANE_CYCLE):
        got += claim(dict.fromkeys(LANES, 10**9), order.next(), size)

    assert got[BULK] >= 0.1 * got.total()
    assert got[NORMAL] >= 0.1 * got.total()
    assert got[HIGH] >= 0.7 * got.total()


@given(turns, backlogs, st.integers(1, 500))
def test_every_claim_takes_all_it_can_and_the_lane_that_leads_goes_first(
    turn, backlog, size
) -> None:
    order = LaneTurns(turn)
    while any(backlog.values()):
        lanes, before = order.next(), dict(backlog)
        got = claim(backlog, lanes, size)

        assert sorted(lanes) == sorted(LANES)
        assert got.total() == min(size, sum(before.values()))
        assert got[lanes[0]] == min(size, before[lanes[0]])


@given(turns, st.integers(1, 500), st.lists(st.integers(0, 500), min_size=8, max_size=60))
def test_no_lane_waits_longer_than_a_cycle_whatever_comes_in_above_it(turn, size, arriving) -> None:
    order, backlog = LaneTurns(turn), {HIGH: 10**9, NORMAL: 10**9, BULK: 1}
    claims = 0
    for number in arriving:
        backlog[HIGH] += number
        claims += 1
        if claim(backlog, order.next(), size)[BULK]:
            break

    assert claims <= LANE_CYCLE


@given(st.integers(1, 2000), st.lists(st.floats(0.001, 5), min_size=1, max_size=50), st.data())
def test_no_claim_holds_more_than_a_moments_worth_however_fast_it_was_used_up(
    rate, pauses, data
) -> None:
    """What is claimed nothing overtakes, so this bounds how long high priority waits for bulk."""
    sizes, at, before = ClaimSize(), 0.0, None
    for pause in pauses:
        size = sizes.next(rate, at=at)
        assert 1 <= size <= min(MAX_CLAIM, rate * TARGET_SECONDS + 2)
        assert size <= (rate * FIRST_SECONDS + 1 if before is None else 2 * before)
        sizes.got(data.draw(st.integers(0, size)))
        before, at = size, at + pause


def test_how_much_was_claimed_at_a_low_rate_says_nothing_of_a_higher_one() -> None:
    sizes = ClaimSize()
    for at in range(5):
        sizes.got(sizes.next(1, at=float(at)))

    assert sizes.next(1000, at=5.0) == 1000 * FIRST_SECONDS
