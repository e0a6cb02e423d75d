"""What people changed or took back: matched with its message, whichever of the two came first.

Nothing is written: an amendment is a stored message like any other, and a message is shown together
with what amends it. Saving a message holds its sender's addresses until the transaction ends, so
that of an edit and its original the later one sees the earlier.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from whatsapp.application.applied import AmendmentApplied, InboundApplied
from whatsapp.application.ports import Work
from whatsapp.domain.entities import InboundMessage, steps_of
from whatsapp.domain.webhook_inbox import Route


async def apply_amendments(
    work: Work, route: Route, inbound: Sequence[InboundApplied]
) -> Sequence[AmendmentApplied]:
    """The amendments that count from now on, because they or their messages are new."""
    if not inbound:
        return ()
    new = {one.stored.id: one.stored for one in inbound}
    wamids = {one.amends or one.wamid for one in new.values()}
    amended = await work.conversation_views.list_amended(route.channel_id, sorted(wamids))
    return [
        AmendmentApplied(message=message, amendment=step.amendment, moved=step.moved)
        for message in amended
        for step in steps_of(message, _known(message, new))
    ]


def _known(message: InboundMessage, new: Collection[UUID]) -> frozenset[UUID]:
    """The amendments of a message that were there with it before."""
    if message.id in new:
        return frozenset()
    return frozenset(one.id for one in message.amendments if one.id not in new)
