"""What a webhook says about one channel, applied in one transaction of its tenant."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from whatsapp.application.applied import Applied, Follow, Placed
from whatsapp.application.apply_amendments import apply_amendments
from whatsapp.application.apply_changes import ApplyChanges
from whatsapp.application.apply_inbound import ApplyInbound
from whatsapp.application.apply_statuses import ApplyStatuses
from whatsapp.application.know_contact import concerns_people
from whatsapp.application.ports import BeginWork
from whatsapp.domain.repositories import AlreadyReported
from whatsapp.domain.webhook import FieldChanged, InboundReceived, StatusReported
from whatsapp.domain.webhook_inbox import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyWebhook:
    """Each kind of element to its handler, then what was new to every follower; all or nothing.

    Statuses come first, so that a reply finds what became of its message.
    """

    begin: BeginWork
    statuses: ApplyStatuses
    inbound: ApplyInbound
    changes: ApplyChanges
    followers: Sequence[Follow] = ()

    async def __call__(self, route: Route, placed: Sequence[Placed]) -> Applied:
        """Everything about one channel; gives what of it was new.

        Meta hardly ever reports a thing twice, and to store what is known to be new costs less.
        """
        with suppress(AlreadyReported):
            return await self._apply(route, placed, all_new=True)
        return await self._apply(route, placed, all_new=False)

    async def _apply(self, route: Route, placed: Sequence[Placed], *, all_new: bool) -> Applied:
        elements = [one.element for one in placed]
        reported = [e for e in elements if isinstance(e, StatusReported)]
        received = [e for e in elements if isinstance(e, InboundReceived)]
        async with self.begin(route.tenant_id) as work:
            if concerns_people(elements):
                await work.conversations.lock_people(route.channel_id)
            statuses = await self.statuses(work, route, reported, all_new=all_new)
            inbound = await self.inbound(work, route, received)
            amended = await apply_amendments(work, route, inbound)
            told = await self.changes(work, route, placed)
            applied = Applied(
                statuses=statuses,
                inbound=inbound,
                amended=amended,
                changes=[one for one in told.kept if isinstance(one, FieldChanged)],
                unread=[one for one in told.kept if not isinstance(one, FieldChanged)],
                paused=told.paused,
            )
            for follow in self.followers:
                await follow(work, route, applied)
            await work.commit()
        return applied
