"""Counting what comes in against the rate of the number: Meta counts both directions together."""

import logging
from dataclasses import dataclass

from shared.kernel.errors import Unavailable
from whatsapp.application.ports import BeginWork
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.domain.webhook_inbox import Route

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountInbound:
    """`await count(route, number)`: sending on the route's channel makes room for `number` more.

    Never raises where Redis or PostgreSQL is gone: what came in is stored already, and a second
    later it would not count any more.
    """

    begin: BeginWork
    limiter: RateLimiter

    async def __call__(self, route: Route, number: int) -> None:
        """Take as many slots from the number of this channel."""
        try:
            async with self.begin(route.tenant_id) as work:
                channel = await work.channels.find(route.channel_id)
            if channel is not None:
                await self.limiter.debit(
                    channel.phone_number_id, number, rate=channel.messages_per_second
                )
        except Unavailable as error:
            logger.warning("inbound messages not counted against the rate: %s", error.code)
