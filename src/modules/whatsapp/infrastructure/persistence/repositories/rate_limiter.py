"""Keeps each phone number under its rate across any number of processes, by one script in Redis.

The script (`rate_limiter.lua`) keeps one number per key: the time of the next free slot on Redis's
own clock. Slots lie 1.008/N seconds apart, are taken in order, up to a horizon ahead, and are never
given back. A process translates a slot to its own monotonic clock and forfeits it when it gets
there more than 8 ms late. Any second then holds at most (1 s + 8 ms) / (1.008 s / N) = N sends.
Who is often later than that may ask for slots that last longer and lie as much further apart.

That holds as long as the clock is continuous and the state is the last one, so:
- a missing key, another server process (fail-over, restart) or a clock that stepped back costs a
  hold-off of one second, applied once, inside the script;
- a clock that stepped forward shows in the reply as a jump against our own clock. Slots from
  before may be used until they have come and are too late, so a process uses none before. The same
  holds for the first reply of a server that a process has never spoken to;
- when Redis does not answer there are no slots: `RedisUnavailable`.

How it compares with the usual algorithms, and the proof, step by step: docs/rate-limiter.md.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from redis.exceptions import NoScriptError

from shared.infrastructure.redis.connection import RedisClient
from shared.infrastructure.redis.errors import REDIS_ERRORS, translate
from shared.infrastructure.redis.server_clock import ServerClock
from shared.kernel.errors import InvalidInput
from whatsapp.domain.rate_limit import (
    DEFAULT_RATE,
    LATENESS,
    MAX_HORIZON,
    MAX_LATENESS,
    ONE_SECOND,
    PAIR_BURST,
    PAIR_INTERVAL,
    SLOW_DOWN,
    SLOW_DOWN_FOR,
    PairTurn,
    RateLimitState,
    Reservation,
    Slot,
    reach,
    spacing_micros,
)
from whatsapp.infrastructure.persistence.repositories.scripts import script

_MICROSECOND: Final = timedelta(microseconds=1)
_NO_TIME: Final = timedelta(0)
_MAX_HOLD: Final = timedelta(days=1)  # Well below the life of a key, which must outlast a hold.
_MIN_HORIZON_MICROS: Final = 50_000  # Shorter ones are eaten up by the wake-ups of processes.
_MAX_HORIZON_MICROS: Final = MAX_HORIZON // _MICROSECOND
_PAIR_MICROS: Final = PAIR_INTERVAL // _MICROSECOND
_LATENESS_MICROS: Final = LATENESS // _MICROSECOND
_MAX_LATENESS_MICROS: Final = MAX_LATENESS // _MICROSECOND
_SLOWEST_SPACING: Final = spacing_micros(1)
_MAX_NUMBERS: Final = 10_000
"""Of so many it is kept which server they are on; a reply tells it again."""
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_Reply = tuple[bytes, int, int, int, int, int]
_script = script


@lru_cache(maxsize=4096)
def rate_key(phone_number_id: str) -> str:
    """The number's key; the braces put all keys of a number into one slot of a cluster."""
    if _ID.fullmatch(phone_number_id) is None:
        raise InvalidInput("Not an id of a phone number", field="phone_number_id")
    return f"tellwire:rate:{{{phone_number_id}}}"


def _pair_key(phone_number_id: str, recipient: str) -> str:
    """The key of a pair: without the recipient's number, and in the slot of the sender's."""
    digest = hashlib.blake2b(recipient.encode(), digest_size=12).hexdigest()
    return f"{rate_key(phone_number_id)}:{digest}"


ServerClocks = dict[bytes, ServerClock]
"""The clocks of the Redis servers that were spoken to, by the server's run id."""

_PROCESS_CLOCKS: Final[ServerClocks] = {}
"""Limiters come and go with requests; what is known of a server's clock stays with the process."""


class RedisRateLimiter:
    """Hands out evenly spaced slots per phone number; no second ever holds more than the rate.

    Safe to share between tasks and cheap to construct. Errors: `RedisUnavailable` when Redis does
    not answer (nothing may then be sent), `InvalidInput` for a rate, count or id out of range.
    Redis must answer well within 8 ms: what its round trip takes is lost from that allowance.
    """

    def __init__(
        self,
        redis: RedisClient,
        *,
        clocks: ServerClocks = _PROCESS_CLOCKS,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._redis = redis
        self._clocks = clocks
        self._servers = dict[str, bytes]()  # Which one answered last for a number.
        self._monotonic_ns = monotonic_ns
        self._sleep = sleep

    async def meet_server(self, phone_number_id: str = "0") -> None:
        """Get to know the clock of the server that has this number; takes and changes nothing.

        A process uses no slot until it has known a server for half a second: one that calls this
        when it starts does not keep its first messages waiting for that.
        """
        await self._run(phone_number_id, "meet", _SLOWEST_SPACING)

    async def check_rate_limit(
        self, phone_number_id: str, *, rate: int = DEFAULT_RATE
    ) -> RateLimitState:
        """Whether a slot is free now; takes nothing, and promises nothing to the next call."""
        reply = await self._run(phone_number_id, "peek", spacing_micros(rate))
        _, _, _, free, _, wait = reply
        return RateLimitState(
            available=wait == 0, remaining=free, retry_after=timedelta(microseconds=wait)
        )

    async def get_remaining_tokens(self, phone_number_id: str, *, rate: int = DEFAULT_RATE) -> int:
        """How many slots could be reserved from now within one second; takes nothing."""
        return (await self.check_rate_limit(phone_number_id, rate=rate)).remaining

    async def consume_token(
        self, phone_number_id: str, tokens: int = 1, *, rate: int = DEFAULT_RATE
    ) -> Reservation:
        """Take `tokens` slots of which the first may be used now, or none; never waits.

        A true answer to one token means: send now. Unlike a bucket, nothing is saved up: at 80 per
        second a second call within 12.6 ms is refused. Of several tokens only the first may go at
        once, the others at the times of their slots. To use the full rate, reserve or wait.
        """
        spacing = spacing_micros(rate)
        # Half of the horizon, so that they also fit when the number is slowed down.
        if not 1 <= tokens <= _MAX_HORIZON_MICROS // 2 // spacing + 1:
            raise InvalidInput("More tokens than can be reserved at once", field="tokens")
        return await self._reserve(phone_number_id, spacing, tokens, tokens, 0, _MAX_HORIZON_MICROS)

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
        """Take up to `count` slots that lie within `horizon` from now, at most 250 ms.

        The default horizon leaves room for four such batches. Reserve the next batch while this
        one is being sent: a slot that nobody asked for in time is gone. Whoever may be later than
        8 ms says how late, up to 250 ms, and gets (1 s + 8 ms) / (1 s + lateness) of the rate.

        Of callers that believe in different rates the one that learned of its own last, at
        `learned_at` on this machine's monotonic clock, is right. Who does not say is believed at
        once with a lower rate, and with a higher one when nobody asks for the lower any more.
        """
        spacing = spacing_micros(rate)
        if count < 1:
            raise InvalidInput("A reservation is for one slot or more", field="count")
        if horizon is None:
            micros = max(4 * count * spacing, _MIN_HORIZON_MICROS)
        else:
            micros = horizon // _MICROSECOND
        micros = min(max(micros, 0), _MAX_HORIZON_MICROS)
        late = min(max(lateness // _MICROSECOND, _LATENESS_MICROS), _MAX_LATENESS_MICROS)
        given = (spacing, count, 1, micros, micros, late)
        return await self._reserve(phone_number_id, *given, learned_at)

    async def wait_for_slot(
        self, phone_number_id: str, *, rate: int, within: timedelta
    ) -> Slot | None:
        """Wait for one slot and return when it may be used; None if none comes `within` it."""
        deadline = self._monotonic() + within.total_seconds()
        while True:
            left = max(0.0, deadline - self._monotonic())
            horizon = min(timedelta(seconds=left), MAX_HORIZON)
            reservation = await self.reserve(phone_number_id, count=1, rate=rate, horizon=horizon)
            for slot in reservation.slots:
                if await reach(slot, monotonic=self._monotonic, sleep=self._sleep):
                    return slot
            pause = reservation.retry_after.total_seconds()
            if self._monotonic() + pause > deadline:
                return None
            await self._sleep(pause)

    async def hold(self, phone_number_id: str, duration: timedelta) -> None:
        """Hand out no slot for `duration` (at most a day); slots already taken stay valid.

        For Meta's 130429 (rate limit hit), and for a pause by an operator.
        """
        micros = min(max(duration, _NO_TIME), _MAX_HOLD) // _MICROSECOND
        await self._run(phone_number_id, "hold", _SLOWEST_SPACING, micros)

    async def slow_down(
        self,
        phone_number_id: str,
        *,
        factor: float = SLOW_DOWN,
        duration: timedelta = SLOW_DOWN_FOR,
    ) -> None:
        """Run at `factor` of the rate for `duration`; calls a second apart multiply, down to half.

        For a number that gets 130429 although it keeps its rate: the network may bunch up requests.
        """
        if not 0 < factor <= 1:
            raise InvalidInput("A factor is above 0 and at most 1", field="factor")
        thousandths = max(1, int(factor * 1_000))
        micros = min(max(duration, ONE_SECOND), _MAX_HOLD) // _MICROSECOND
        await self._run(phone_number_id, "slow", _SLOWEST_SPACING, thousandths, micros)

    async def debit(self, phone_number_id: str, count: int, *, rate: int) -> None:
        """Count `count` inbound messages against the rate; puts sending off by 1 s at most.

        Meta counts both directions together. What came in cannot be paced, so the bound then holds
        on average and no longer for each second: leave head-room on numbers with much traffic in.
        """
        if count < 1:
            raise InvalidInput("A debit is for one message or more", field="count")
        await self._run(phone_number_id, "debit", spacing_micros(rate), count)

    def _monotonic(self) -> float:
        return self._monotonic_ns() / 1e9

    async def _reserve(
        self,
        phone_number_id: str,
        spacing: int,
        count: int,
        least: int,
        patience: int,
        horizon: int,
        lateness: int = _LATENESS_MICROS,
        learned_at: float | None = None,
    ) -> Reservation:
        learned = self._by_server(phone_number_id, learned_at)
        given = (spacing, count, least, patience, horizon, lateness, *learned)
        reply = await self._run(phone_number_id, "reserve", *given)
        server, _, step, granted, start, retry = reply
        clock, received_ns = self._clocks[server], self._monotonic_ns()
        # Slots from before the clock was known to be steady are used up by then at the latest.
        used_up = _MAX_HORIZON_MICROS + _MAX_LATENESS_MICROS + step
        usable_ns = clock.steady_since_ns + used_up * 1_000
        slots = _slots(
            clock,
            range(start, start + granted * step, step),
            lateness_ns=lateness * 1_000,
            not_before_ns=usable_ns,
            received_ns=received_ns,
        )
        forfeited = granted - len(slots)
        if slots:
            return Reservation(slots, _NO_TIME, forfeited)
        wait = max(retry, (usable_ns - received_ns) // 1_000 + 1, step if granted else 0)
        return Reservation((), timedelta(microseconds=wait), forfeited)

    def _by_server(self, phone_number_id: str, at: float | None) -> tuple[int, bytes]:
        """This moment of our clock on the server's, at the earliest, and on which server's."""
        server = self._servers.get(phone_number_id)
        if at is None or server is None:
            return 0, b""
        return (int(at * 1e9) + self._clocks[server].low_ns) // 1_000, server

    async def take_pairs(
        self, phone_number_id: str, recipients: Sequence[str]
    ) -> Sequence[PairTurn]:
        """Count one message to each person; of those that have to wait none is counted.

        Meta lets a number send one message per 6 s to the same user, and up to 45 at once that are
        borrowed from later (Meta, Cloud API pair rate limit). One less is borrowed here: a message
        reaches Meta a little after it was counted.
        """
        pairs = [_pair_key(phone_number_id, recipient) for recipient in recipients]
        reply = iter(await self._pairs(pairs, "take"))
        return [
            PairTurn(timedelta(microseconds=wait), pair, mark)
            for pair, wait, mark in zip(pairs, reply, reply, strict=True)
        ]

    async def give_back_pairs(self, turns: Sequence[PairTurn]) -> None:
        """Count what was not sent no longer; the turns are of one number, in the order of taking.

        What was counted for the same person later stays, and with it what was before it: to take
        that out could let one too many go.
        """
        last_first = [turn for turn in reversed(turns) if not turn.wait]
        await self._pairs(
            [turn.pair for turn in last_first], "give", *[turn.mark for turn in last_first]
        )

    async def hold_pair(self, phone_number_id: str, recipient: str, duration: timedelta) -> None:
        """Let nothing go to this recipient for `duration`: Meta refused with 131056."""
        micros = min(max(duration, _NO_TIME), _MAX_HOLD) // _MICROSECOND
        await self._pairs([_pair_key(phone_number_id, recipient)], "hold", micros)

    async def _pairs(self, pairs: Sequence[str], operation: str, *args: int) -> Sequence[int]:
        if not pairs:
            return []
        limits = (_PAIR_MICROS, PAIR_BURST - 1)
        reply: Sequence[int] = await self._evaluate(
            "pair_limiter.lua", len(pairs), *pairs, operation, *limits, *args
        )
        return reply

    async def _run(self, phone_number_id: str, operation: str, *args: int | bytes) -> _Reply:
        """Run the script of the number's rate; each reply tells of the server's clock."""
        sent_ns = self._monotonic_ns()
        key = rate_key(phone_number_id)
        reply: _Reply = await self._evaluate("rate_limiter.lua", 1, key, operation, *args)
        received_ns = self._monotonic_ns()
        server, now = reply[:2]
        if (clock := self._clocks.get(server)) is not None:
            clock.observe(now, sent_ns=sent_ns, received_ns=received_ns)
        else:
            self._clocks[server] = ServerClock(now, sent_ns=sent_ns, received_ns=received_ns)
        if len(self._servers) >= _MAX_NUMBERS:
            self._servers.clear()
        self._servers[phone_number_id] = server
        return reply

    async def _evaluate(self, script: str, *given: str | int | bytes) -> Any:
        """Run a script with the number of its keys, the keys and its arguments.

        The one place that talks to Redis and translates its errors.
        """
        text, digest = _script(script)
        try:
            try:
                return await self._redis.execute_command("EVALSHA", digest, *given)
            except NoScriptError:  # A restart, a fail-over or SCRIPT FLUSH forgot it.
                return await self._redis.execute_command("EVAL", text, *given)
        except REDIS_ERRORS as error:
            raise translate(error) from error


def _slots(
    clock: ServerClock,
    granted: Iterable[int],
    *,
    lateness_ns: int,
    not_before_ns: int,
    received_ns: int,
) -> tuple[Slot, ...]:
    """The granted slots on our monotonic clock, without those that are forfeited already.

    A slot may be used once it has surely come, and until it may be too late: what we do not know
    of the server's clock is taken off both ends.
    """
    low_ns, high_ns = clock.low_ns, clock.high_ns
    if high_ns - low_ns > lateness_ns:
        return ()
    late_ns = lateness_ns - high_ns
    earliest_ns = max(not_before_ns + high_ns, received_ns - late_ns)
    slots = []
    for slot in granted:  # A loop, since most reservations are of very few slots.
        slot_ns = slot * 1_000
        if slot_ns >= earliest_ns:
            slots.append(Slot((slot_ns - low_ns) / 1e9, (slot_ns + late_ns) / 1e9))
    return tuple(slots)
