"""Slowing down or stopping what a refusal of Meta's is about, and nothing else."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.kernel.errors import SecretUnreadable, Unavailable
from whatsapp.application.change_channel import PauseChannel
from whatsapp.application.ports import BeginWork
from whatsapp.domain.entities import Channel, ChannelNotActive, ChannelNotFound
from whatsapp.domain.outcome import Outcome, RejectAction, Rejected, Throttled, ThrottleScope
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.domain.value_objects import PhoneNumber, Recipient

logger = logging.getLogger(__name__)

THROTTLED_HOLD: Final = timedelta(seconds=1)
"""Meta counts over a second; after one of silence the number is below its limit for sure."""
LONG_REST: Final = timedelta(minutes=1)
"""A number that rests this long rests through a restart of Redis as well."""


def pair_name(person: Recipient) -> str:
    """Under which name the limiter counts messages to a person (`OutboundMessage.person`)."""
    return person.e164 if isinstance(person, PhoneNumber) else person.value


def _rests_long(refusal: Throttled) -> bool:
    return refusal.scope is ThrottleScope.NUMBER and refusal.hold >= LONG_REST


@dataclass(frozen=True, slots=True, kw_only=True)
class HeedOutcome:
    """After each request: `await heed(channel, person, outcome)`; gives whether it was changed.

    A limit that holds for an account or an app holds back every number of this tenant under it;
    other tenants under the same app learn of it by an answer of their own.
    """

    tenant_id: UUID
    begin: BeginWork
    limiter: RateLimiter

    async def __call__(self, channel: Channel, person: Recipient, outcome: Outcome) -> bool:
        """Never raises for PostgreSQL's or Redis's sake: the next answer says the same again."""
        with suppress(Unavailable):
            return await self.heed(channel, person, outcome)
        return False

    async def heed(self, channel: Channel, person: Recipient | None, outcome: Outcome) -> bool:
        """The same, and raises Unavailable; `person` matters to a throttle of the pair alone."""
        match outcome:
            case Throttled():
                await self._hold(channel, person, outcome)
                return _rests_long(outcome)
            case Rejected(action=RejectAction.PAUSE_CHANNEL):
                await self._pause(channel, outcome)
                return True
            case _:
                pass
        return False

    async def _hold(self, channel: Channel, person: Recipient | None, refusal: Throttled) -> None:
        number, wait = channel.phone_number_id, max(refusal.hold, refusal.retry.base)
        match refusal.scope:
            case ThrottleScope.NUMBER:
                try:
                    await self.limiter.hold(number, max(refusal.hold, THROTTLED_HOLD))
                    await self.limiter.slow_down(number)
                finally:  # Also where Redis is gone.
                    if _rests_long(refusal):
                        await self._rest(channel, refusal.hold)
            case ThrottleScope.PAIR:
                if person is not None:
                    await self.limiter.hold_pair(number, pair_name(person), wait)
            case ThrottleScope.ACCOUNT | ThrottleScope.APP:
                for sibling in await self._siblings(channel, refusal.scope):
                    await self.limiter.hold(sibling.phone_number_id, wait)
            case ThrottleScope.MESSAGE:
                pass

    async def _rest(self, channel: Channel, duration: timedelta) -> None:
        """Keep it where a flush of Redis does not reach."""
        try:
            async with self.begin(self.tenant_id) as work:
                await work.channels.rest(channel.id, duration)
                await work.commit()
        except Unavailable as error:
            logger.warning("the rest of a number is kept in Redis at most: %s", error.code)

    async def _siblings(self, channel: Channel, scope: ThrottleScope) -> list[Channel]:
        """The tenant's channels under the same account or app, this one among them."""
        async with self.begin(self.tenant_id) as work:
            active = await work.channels.get_active_channels()
        is_account = scope is ThrottleScope.ACCOUNT

        def above(one: Channel) -> str | None:
            return one.provider_account_id if is_account else one.app_id

        others = [one for one in active if one.id != channel.id and above(one) is not None]
        return [channel, *(one for one in others if above(one) == above(channel))]

    async def _pause(self, channel: Channel, rejected: Rejected) -> None:
        code = "" if rejected.code is None else f" (code {rejected.code})"
        await self._stop(channel.id, f"{rejected.title}{code}", f"meta_{rejected.code}")

    async def unreadable(self, channel_id: UUID, error: SecretUnreadable) -> None:
        """Pause a channel whose token does not open: each of its messages would fail on it."""
        with suppress(Unavailable):
            await self._stop(channel_id, f"{error.title} ({error.code})", error.code)

    async def _stop(self, channel_id: UUID, reason: str, code: str) -> None:
        pause = PauseChannel(begin=self.begin)
        with suppress(ChannelNotFound, ChannelNotActive):  # It was taken out of use meanwhile.
            await pause(self.tenant_id, channel_id, reason=reason, code=code)
