"""Heeding failures that Meta reports later, as if it had answered so at once."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.errors import Unavailable
from whatsapp.application.applied import StatusApplied
from whatsapp.application.heed_outcome import HeedOutcome
from whatsapp.application.ports import BeginWork
from whatsapp.application.try_again import Judge
from whatsapp.domain.entities import ChannelStatus, OutboundMessage
from whatsapp.domain.outcome import Refusal, RejectAction, Rejected, Throttled, ThrottleScope
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.domain.repositories import LateFailure
from whatsapp.domain.webhook_inbox import Route

_About: TypeAlias = tuple[object, ...]
_PAUSE: Final[_About] = (RejectAction.PAUSE_CHANNEL,)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the failures about one thing mean together, and a message that it was said of."""

    refusal: Refusal
    message_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HeedReports:
    """After the commit: `await heed(route, applied.statuses)`; each thing once for all of them.

    Only what has failed its message counts: what is repeated, about somebody else's message or
    about an attempt that another followed says nothing of now.

    Never raises, since what was reported is stored and would be no news to a second try. What is
    not heeded because PostgreSQL or Redis is gone is said again: the messages go again too.
    """

    begin: BeginWork
    limiter: RateLimiter
    judge: Judge

    async def __call__(self, route: Route, applied: Sequence[StatusApplied]) -> None:
        """Hold, slow down or pause what new failures on this channel are about."""
        people = {
            one.failed.message_id: (one.reported.wa_id, one.reported.user_id)
            for one in applied
            if one.failed
        }
        await self.heed(route, [one.failed for one in applied if one.failed], people)

    async def heed(
        self,
        route: Route,
        failed: Sequence[LateFailure],
        people: Mapping[UUID, tuple[object, ...]] = MappingProxyType({}),
    ) -> None:
        """The same for failures, however they became known; `people` are whom messages went to."""
        if not failed:
            return
        told = self._told(failed, people)
        pause = told.pop(_PAUSE, None)
        # Apart, so that Redis alone being gone keeps no channel from being paused.
        for part in ([pause] if pause else [], told.values()):
            try:
                await self._do(route, part)
            except Unavailable as error:
                logger.warning("failures reported later not heeded: %s", error.code)
            except Exception:
                logger.exception("heeding failures reported later failed in an unforeseen way")

    def _told(
        self, failed: Sequence[LateFailure], people: Mapping[UUID, tuple[object, ...]]
    ) -> dict[_About, _Told]:
        """Each thing that is concerned, with the refusal that holds it the longest."""
        told: dict[_About, _Told] = {}
        for one in failed:
            refusal = self.judge(one.errors)
            about = _about(refusal, people.get(one.message_id, (one.message_id,)))
            if about is None:
                continue
            known = told.get(about)
            if known is None or _is_longer(refusal, known.refusal):
                told[about] = _Told(refusal, one.message_id)
        return told

    async def _do(self, route: Route, told: Collection[_Told]) -> None:
        if not told:
            return
        pairs = [one.message_id for one in told if _is_of_pair(one.refusal)]
        async with self.begin(route.tenant_id) as work:
            channel = await work.channels.find(route.channel_id)
            messages = await work.messages.load_for_sending(pairs) if pairs else ()
        # As we know them: Meta's report may not have the name under which the limiter counts.
        people = {one.id: one.person for one in messages if isinstance(one, OutboundMessage)}
        if channel is None:
            return
        heed = HeedOutcome(tenant_id=route.tenant_id, begin=self.begin, limiter=self.limiter)
        for one in told:
            if isinstance(one.refusal, Rejected) and channel.status is ChannelStatus.PAUSED:
                continue  # By an earlier batch of the same trouble.
            await heed.heed(channel, people.get(one.message_id), one.refusal)


def _about(refusal: Refusal, person: tuple[object, ...]) -> _About | None:
    """What has to slow down or stop, the same for all failures about it; None for nothing."""
    match refusal:
        case Throttled(scope=ThrottleScope.PAIR):
            return (ThrottleScope.PAIR, *person)
        case Throttled(scope=ThrottleScope.MESSAGE):
            return None
        case Throttled():
            return (refusal.scope,)
        case Rejected(action=RejectAction.PAUSE_CHANNEL):
            return _PAUSE
        case _:
            return None


def _is_of_pair(refusal: Refusal) -> bool:
    return isinstance(refusal, Throttled) and refusal.scope is ThrottleScope.PAIR


def _is_longer(one: Refusal, other: Refusal) -> bool:
    return isinstance(one, Throttled) and isinstance(other, Throttled) and one.hold > other.hold
