"""Claiming what is due, and reading what it says: messages that may go out now.

The channel and what is claimed on it are read in one transaction, as beginning and ending one costs
more than a statement in it; with other channels that claim at this moment. It is open until the
last of them has read: nobody waits in it for Redis or Meta, and whoever has read goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.kernel.clock import Clock
from shared.kernel.errors import SecretUnreadable
from whatsapp.application.attempt import not_sent, taken_back
from whatsapp.application.claim_due import ClaimDue
from whatsapp.application.fresh_channel import FreshChannel
from whatsapp.application.going import GiveBack, Going
from whatsapp.application.heed_outcome import pair_name
from whatsapp.application.ports import BeginWork
from whatsapp.application.read_together import Found, ReadTogether
from whatsapp.application.send_uploads import REST, find_uploads
from whatsapp.domain.entities import Channel
from whatsapp.domain.rate_limit import RateLimiter
from whatsapp.domain.repositories import AttemptResult, UnreadableMessage
from whatsapp.domain.send_queue import EXPIRED_UNSENT, ClaimedEntry, SendQueue
from whatsapp.domain.value_objects import MessageStatus

# A message may be `retrying` in its own row for the moment between its return to the queue and the
# commit that says so; the queue is what counts.
_SENDABLE: Final = frozenset({MessageStatus.QUEUED, MessageStatus.RETRYING})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMessages:
    """`await claim()` gives those that are to be sent, in the order of the claim.

    The others are dealt with here: expired, unreadable or gone on already (`settle`), deleted or
    put off because of the pair limit (`closed`, with their number). What goes wrong is raised after
    all entries that were not dealt with were given back through `settle`.
    """

    begin: BeginWork
    reads: ReadTogether
    fresh: FreshChannel
    if_sendable: Callable[[Channel | None], Channel | None]
    """Shown the channel as it is now; None if nothing is to be claimed on it."""
    claim_due: ClaimDue
    queue: SendQueue
    limiter: RateLimiter
    give_back: GiveBack
    now: Clock
    claimed: Callable[[int], None]
    """Told how many entries are dealt with from now on."""
    settle: Callable[[AttemptResult], None]
    closed: Callable[[int], None]

    async def __call__(self) -> list[Going]:
        """Claim, load, sort out, and count against the pairs' limits."""
        left: Sequence[ClaimedEntry] = ()
        try:
            async with self.reads.of(self.claim_due.tenant_id) as reader:
                channel = self.if_sendable(await self.fresh.read_in(reader))
                if channel is None:
                    return []
                left = entries = await self.claim_due(channel, reader)
                self.claimed(len(entries))
                found = await reader.messages([entry.message_id for entry in entries])
            loaded = self._sort(entries, found)
            left = [one.entry for one in loaded]
            loaded = await self._with_uploads(channel, loaded)
            left = [one.entry for one in loaded]
            return await self._within_pairs(channel, loaded)
        except SecretUnreadable as error:
            await self.fresh.cannot_speak(error)
            self.if_sendable(None)
            return []
        except Exception:
            for entry in left:
                self.settle(taken_back(entry, self.now()))
            raise

    def _sort(self, entries: Sequence[ClaimedEntry], found: Found) -> list[Going]:
        now, going = self.now(), list[Going]()
        for entry in entries:
            message = found.get(entry.message_id)
            if message is None:
                self.closed(1)  # Deleted in this moment, its entry with it.
            elif isinstance(message, UnreadableMessage):
                reason = f"What is stored of it cannot be read ({message.reason})"
                self.settle(not_sent(entry, MessageStatus.FAILED, now, reason))
            elif message.expires_at is not None and message.expires_at <= now:
                self.settle(not_sent(entry, MessageStatus.EXPIRED, now, EXPIRED_UNSENT))
            elif message.status not in _SENDABLE:
                self.settle(not_sent(entry, message.status, now, "It had gone on already"))
            else:
                going.append(Going(entry, message))
        return going

    async def _with_uploads(self, channel: Channel, loaded: list[Going]) -> list[Going]:
        """Those whose files are at Meta; the others rest, or fail where a file is gone."""
        messages = [one.message for one in loaded if one.message.content.uploads]
        if not messages:
            return loaded
        async with self.begin(channel.tenant_id) as work:
            uploads = await find_uploads(work, channel.id, messages, self.now())
            await work.commit()
        resting = [one.entry for one in loaded if one.message.id in uploads.waiting]
        if resting:
            await self.queue.rest(dict.fromkeys(resting, REST))
            self.closed(len(resting))
        for one in loaded:
            if (reason := uploads.lost.get(one.message.id)) is not None:
                self.settle(not_sent(one.entry, MessageStatus.FAILED, self.now(), reason))
        held = uploads.waiting | uploads.lost.keys()
        return [one for one in loaded if one.message.id not in held]

    async def _within_pairs(self, channel: Channel, loaded: Sequence[Going]) -> list[Going]:
        """Those whose recipient may get one more; the others rest until theirs may."""
        turns = await self.limiter.take_pairs(
            channel.phone_number_id, [pair_name(one.message.person) for one in loaded]
        )
        for one, turn in zip(loaded, turns, strict=True):
            one.turn = turn
        resting = {one.entry: one.turn.wait for one in loaded if one.turn and one.turn.wait}
        if resting:
            try:
                await self.queue.rest(resting)
            except Exception:
                await self.give_back.uncount(loaded)
                raise
            self.closed(len(resting))
        return [one for one in loaded if one.entry not in resting]
