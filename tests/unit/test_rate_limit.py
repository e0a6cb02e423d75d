from datetime import timedelta

import pytest

from shared.kernel.errors import InvalidInput
from whatsapp.domain.rate_limit import RateLimitState, Reservation, Slot, reach, spacing_micros
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter
from whatsapp.infrastructure.persistence.repositories.rate_limiter import rate_key


class Time:
    """A clock that moves only when somebody sleeps, and then overshoots by `lateness`."""

    def __init__(self, lateness):
        self.now, self.lateness = 100.0, lateness

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds + self.lateness


class NoRedis:
    async def execute_command(self, *command):
        raise AssertionError(f"Redis was asked for {command[0]}")


@pytest.mark.parametrize("rate", [1, 3, 7, 20, 80, 250, 999, 1000, 100_000])
def test_the_spacing_is_whole_microseconds_and_a_little_wider_than_the_rate_needs(rate):
    assert 1_008_000 <= spacing_micros(rate) * rate < 1_008_000 + rate


@pytest.mark.parametrize("rate", [0, -1, 100_001])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(InvalidInput) as refused:
        spacing_micros(rate)

    assert refused.value.field == "rate"


def test_a_slot_is_forfeited_after_its_last_moment_and_not_before():
    slot = Slot(at=10.0, latest=10.008)

    assert not slot.expired(10.008)
    assert slot.expired(10.0080001)


@pytest.mark.parametrize(("lateness", "usable"), [(0.0, True), (0.004, True), (0.009, False)])
async def test_reaching_a_slot_too_late_says_so(lateness, usable):
    time = Time(lateness)

    usable_now = await reach(
        Slot(at=101.0, latest=101.008), monotonic=time.monotonic, sleep=time.sleep
    )

    assert usable_now is usable


async def test_a_loop_that_wakes_too_early_sleeps_again():
    time = Time(lateness=-0.0005)
    time.sleep_once = time.sleep

    async def sleep(seconds):
        await time.sleep_once(max(seconds, 0.001))

    assert await reach(Slot(at=101.0, latest=101.008), monotonic=time.monotonic, sleep=sleep)
    assert time.now >= 101.0


def test_what_was_granted_is_true_and_what_was_not_is_false():
    assert Reservation((Slot(1.0, 1.008),), timedelta(0))
    assert not Reservation((), timedelta(seconds=1))
    assert RateLimitState(available=True, remaining=80, retry_after=timedelta(0))
    assert not RateLimitState(available=False, remaining=0, retry_after=timedelta(seconds=1))


def test_a_key_carries_its_number_as_a_hash_tag():
    assert rate_key("106540352242922") == "tellwire:rate:{106540352242922}"


@pytest.mark.parametrize("wrong", ["", "1}{2", "a b", "x" * 65, "1\n"])
def test_an_id_that_would_break_the_key_is_refused_and_not_repeated(wrong):
    with pytest.raises(InvalidInput) as refused:
        rate_key(wrong)

    assert refused.value.field == "phone_number_id"
    assert not wrong or wrong not in str(refused.value)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda limiter: limiter.reserve("1", count=0, rate=80), "count"),
        (lambda limiter: limiter.reserve("1", count=1, rate=0), "rate"),
        (lambda limiter: limiter.consume_token("1", 0), "tokens"),
        (lambda limiter: limiter.consume_token("1", 50, rate=80), "tokens"),
        (lambda limiter: limiter.debit("1", 0, rate=80), "count"),
        (lambda limiter: limiter.slow_down("1", factor=0), "factor"),
        (lambda limiter: limiter.slow_down("1", factor=1.1), "factor"),
        (lambda limiter: limiter.check_rate_limit("1 2"), "phone_number_id"),
    ],
)
async def test_nonsense_is_refused_before_redis_is_asked(call, field):
    with pytest.raises(InvalidInput) as refused:
        await call(RedisRateLimiter(NoRedis()))

    assert refused.value.field == field
