"""What the dispatcher asks of a rate limiter: slots, each with the time at which it may be used.

Meta limits each business phone number to so many messages per second, inbound and outbound
together (Meta, Cloud API throughput). A limiter here does not answer "yes, go" to a crowd; it hands
out slots that lie evenly apart, and a slot that is reached too late is forfeited. Both halves are
needed for the promise that no second ever holds more than the rate.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from shared.kernel.errors import InvalidInput

DEFAULT_RATE: Final = 80
"""Messages per second of a number that Meta has neither raised nor tied to the phone app."""

MAX_RATE: Final = 100_000
"""A rate above this is a mistake: Meta's highest is 1,000, and benchmarks stay below it too."""

LATENESS: Final = timedelta(milliseconds=8)
"""How late a slot may be reached. The spacing is wider than 1/N by as much, which pays for it."""

MAX_LATENESS: Final = timedelta(milliseconds=250)
"""How late whoever asks for more than `LATENESS` may reach theirs, at the same price."""

MAX_HORIZON: Final = timedelta(milliseconds=250)
"""How far ahead slots are handed out, so that what is reserved has come within this time."""

ONE_SECOND: Final = timedelta(seconds=1)
SLOW_DOWN: Final = 0.95
SLOW_DOWN_FOR: Final = timedelta(seconds=60)

PAIR_INTERVAL: Final = timedelta(seconds=6)
PAIR_BURST: Final = 45
"""A number may send one message per interval to the same user, and so many at once that are
borrowed from later (Meta, Cloud API pair rate limit)."""

_SPACED_SECOND_MICROS = 1_008_000  # one second and LATENESS


@lru_cache(maxsize=256)
def spacing_micros(rate: int) -> int:
    """The whole microseconds between two slots at `rate` per second: 1.008/rate s, rounded up."""
    if not 1 <= rate <= MAX_RATE:
        raise InvalidInput(f"A rate is 1 to {MAX_RATE} messages per second", field="rate")
    return -(-_SPACED_SECOND_MICROS // rate)


class Slot(NamedTuple):
    """Leave to send one message, from `at` until `latest` on this machine's monotonic clock."""

    at: float
    latest: float

    def expired(self, now: float) -> bool:
        """Whether the slot is forfeited; it must then not be used, and is not given back."""
        return now > self.latest


class PairTurn(NamedTuple):
    """Leave to send one message to somebody, or how long it has to wait; `pair` names no person."""

    wait: timedelta
    pair: str
    mark: int


class Reservation(NamedTuple):
    """The slots that were taken, in order; false when none was, with when to ask again.

    `forfeited` counts those that were lost before they arrived, because the answer came too late or
    could not be trusted yet.
    """

    slots: tuple[Slot, ...]
    retry_after: timedelta
    forfeited: int = 0

    def __bool__(self) -> bool:
        return bool(self.slots)


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """What a number has left, seen without taking anything; true when a slot is free now.

    `remaining` is how many slots could be reserved from now within one second.
    """

    available: bool
    remaining: int
    retry_after: timedelta

    def __bool__(self) -> bool:
        return self.available


async def reach(
    slot: Slot,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> bool:
    """Sleep until `slot` and answer whether it may be used; False means that it is forfeited."""
    while (now := monotonic()) < slot.at:  # Some event loops wake up to a millisecond early.
        await sleep(slot.at - now)
    return not slot.expired(now)


class RateLimiter(Protocol):
    """Keeps each number under its rate; raises `Unavailable` rather than guess.

    `rate` is the number's limit in messages per second and is passed with each call, so that a
    change counts at once. `phone_number_id` is Meta's id, because Meta's limit is per number.
    """

    async def check_rate_limit(
        self, phone_number_id: str, *, rate: int = DEFAULT_RATE
    ) -> RateLimitState:
        """Whether a slot is free now; takes nothing."""
        ...

    async def consume_token(
        self, phone_number_id: str, tokens: int = 1, *, rate: int = DEFAULT_RATE
    ) -> Reservation:
        """Take `tokens` slots, the first of which may be used now, or take none; never waits."""
        ...

    async def get_remaining_tokens(self, phone_number_id: str, *, rate: int = DEFAULT_RATE) -> int:
        """How many slots could be reserved from now within one second; takes nothing."""
        ...

    async def reserve(
        self,
        phone_number_id: str,
        *,
        count: int,
        rate: int,
        horizon: timedelta | None = None,
        lateness: timedelta = LATENESS,
        learned_at: float | None = None,
    ) -> Reservation:
        """Take up to `count` slots that lie within `horizon` from now.

        With more `lateness` than usual, up to `MAX_LATENESS`, each may be used as much later, and
        they lie (1 s + lateness)/N apart. Whoever learned of a rate last, at `learned_at` on this
        machine's monotonic clock, is believed.
        """
        ...

    async def wait_for_slot(
        self, phone_number_id: str, *, rate: int, within: timedelta
    ) -> Slot | None:
        """Wait for one slot and return when it may be used; None if none comes `within` it."""
        ...

    async def hold(self, phone_number_id: str, duration: timedelta) -> None:
        """Hand out no slot for `duration` from now; slots already taken stay valid."""
        ...

    async def slow_down(
        self,
        phone_number_id: str,
        *,
        factor: float = SLOW_DOWN,
        duration: timedelta = SLOW_DOWN_FOR,
    ) -> None:
        """Run at `factor` of the rate for `duration`; repeated calls multiply."""
        ...

    async def debit(self, phone_number_id: str, count: int, *, rate: int) -> None:
        """Count `count` inbound messages against the rate; puts sending off by 1 s at most."""
        ...

    async def take_pairs(
        self, phone_number_id: str, recipients: Sequence[str]
    ) -> Sequence[PairTurn]:
        """Count one message to each recipient that need not wait; gives the turn of each."""
        ...

    async def give_back_pairs(self, turns: Sequence[PairTurn]) -> None:
        """Count no longer what was not sent, as far as nothing was counted for them since."""
        ...

    async def hold_pair(self, phone_number_id: str, recipient: str, duration: timedelta) -> None:
        """Let nothing go to this recipient for `duration`."""
        ...
