"""Taking slots for a channel: as many as are needed, and as long as this process is late."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from whatsapp.application.departures import Departures
from whatsapp.application.fresh_channel import FreshChannel
from whatsapp.domain.entities import Channel
from whatsapp.domain.rate_limit import RateLimiter, Reservation

LOOKAHEAD: Final = timedelta(milliseconds=200)
"""Slots are reserved so far ahead, which hides what reserving and marking take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeSlots:
    """`await take(channel, number)` reserves slots, and counts what is lost on the way."""

    limiter: RateLimiter
    gate: Departures
    """For which they are."""
    fresh: FreshChannel

    async def __call__(self, channel: Channel, number: int) -> Reservation:
        """Up to `number` slots within LOOKAHEAD."""
        late, use = self.gate.gates.lateness, self.gate.use
        late.crowded(self.gate.others_lacking)
        lateness, given_up = late.wanted, late.given_up
        rate, learned_at = self.fresh.rate_of(channel)
        reservation = await self.limiter.reserve(
            channel.phone_number_id,
            count=number,
            rate=rate,
            horizon=LOOKAHEAD,
            lateness=lateness,
            learned_at=learned_at,
        )
        use.gave_up(len(reservation.slots) * given_up)
        if missed := reservation.forfeited:  # The answer was later than that.
            now = self.fresh.monotonic()
            late.reached(lateness.total_seconds(), at=now, number=missed)
            use.missed(missed, at=now)
        return reservation
