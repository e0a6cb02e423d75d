"""Sending what is due on one channel: claim, mark, reserve slots, send on the slot, record.

No transaction is open while a request is under way. Each step is durable before the next begins, so
that a crash at any instant leaves an entry that says what may have happened:

    claimed   nothing has left: whoever comes first may send it
    marked    it may have left: only proof, or a policy after the deadline, decides

Slots are reserved a little ahead, so that the number is never idle while the next group is marked;
a slot that is reached too late is forfeited and its message takes another one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import Random
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from shared.kernel.errors import TellwireError, Unavailable
from whatsapp.application.attempt import Attempt, not_sent, result_of
from whatsapp.application.ports import BeginWork, Sender
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.outcome import (
    Outcome,
    RejectAction,
    Rejected,
    Throttled,
    ThrottleScope,
    Unknown,
)
from whatsapp.domain.rate_limit import RateLimiter, Slot, reach
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.send_queue import LANES, ClaimedEntry, SendQueue
from whatsapp.domain.value_objects import MessageStatus

MAX_CLAIM: Final = 100
MAX_GROUP: Final = 64
GROUP_SECONDS: Final = 0.05
"""A group's slots span this long: so much is unknown if the process dies after marking it."""
BULK_TURN: Final = 10
"""Every tenth claim starts with the lowest lane, so that it never starves."""
LOOKAHEAD: Final = timedelta(milliseconds=100)
RECORD_DELAY_SECONDS: Final = 0.02
RECORD_RETRY_SECONDS: Final = 0.5
CHANNEL_MAX_AGE_SECONDS: Final = 1.0
"""A change of the channel (rate, token, pause) counts after this long."""


THROTTLED_HOLD: Final = timedelta(seconds=1)
"""Meta counts over a second; after one of silence the number is below its limit for sure."""
# A message may be `retrying` in its own row for the moment between its return to the queue and the
# commit that says so; the queue is what counts.
_SENDABLE: Final = frozenset({MessageStatus.QUEUED, MessageStatus.RETRYING})

logger = logging.getLogger(__name__)
Observe: TypeAlias = Callable[[AttemptResult, bool], None]
"""Told of each recorded result, and whether its lease still held."""


def _ignore(_result: AttemptResult, _held: bool) -> None:  # noqa: FBT001  # positional by contract
    """Observe nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """How long a claim lasts, how many requests may be under way, how long an unknown is held."""

    lease: timedelta = timedelta(seconds=60)
    unknown_for: timedelta = timedelta(minutes=2)
    max_in_flight: int = 256


@dataclass(slots=True, kw_only=True)
class DispatchChannel:
    """One worker's share of one channel; `run` returns when nothing is due or it may not send."""

    tenant_id: UUID
    channel_id: UUID
    begin: BeginWork
    queue: SendQueue
    limiter: RateLimiter
    sender: Sender
    settings: DispatchSettings = field(default_factory=DispatchSettings)
    now: Clock = utc_now
    monotonic: Callable[[], float] = time.monotonic
    rng: Random = field(default_factory=Random)
    observe: Observe = _ignore

    _stopping: bool = field(default=False, init=False)
    _channel: Channel | None = field(default=None, init=False)
    _channel_read_at: float = field(default=float("-inf"), init=False)
    _results: "asyncio.Queue[AttemptResult | None]" = field(
        default_factory=asyncio.Queue, init=False
    )
    _turns: "count[int]" = field(default_factory=lambda: count(1), init=False)

    def stop(self) -> None:
        """Claim nothing more; what is claimed and not marked goes back unsent."""
        self._stopping = True

    async def run(self) -> int:
        """Send until nothing is due; gives how many entries were claimed.

        Raises Unavailable when Redis or PostgreSQL is gone, after the requests under way have ended
        and their outcomes are recorded. Cancelling it leaves those requests to the deadline of
        unknown outcomes: call `stop` and wait instead.
        """
        claimed, trouble = 0, None
        async with asyncio.TaskGroup() as recording:
            recording.create_task(self._record())
            try:
                async with asyncio.TaskGroup() as flights:
                    try:
                        claimed = await self._dispatch(flights)
                    except Unavailable as error:
                        # Caught inside, because a task group cancels what still runs in it, and a
                        # cancelled request is one of which nobody knows whether it was sent.
                        trouble = error
            finally:
                self._results.put_nowait(None)
        if trouble is not None:
            raise trouble
        return claimed

    async def _dispatch(self, flights: asyncio.TaskGroup) -> int:
        claimed = 0
        room = asyncio.Semaphore(self.settings.max_in_flight)
        while entries := await self._claim():
            claimed += len(entries)
            pending = list(entries)
            try:
                loaded = await self._load(entries)
                pending = [entry for entry in entries if entry.message_id in loaded]
                while pending and (channel := await self._sendable_channel()) is not None:
                    size = _group_size(channel.messages_per_second)
                    group, pending = pending[:size], pending[size:]
                    await self._launch(channel, group, loaded, flights, room)
            finally:
                if pending:
                    await self.queue.release(pending)
        return claimed

    async def _launch(
        self,
        channel: Channel,
        group: Sequence[ClaimedEntry],
        loaded: Mapping[UUID, OutboundMessage],
        flights: asyncio.TaskGroup,
        room: asyncio.Semaphore,
    ) -> None:
        """Mark a group, then give each of it a slot and let it go.

        Marked first: a slot may be there at once, and it does not wait for PostgreSQL.
        """
        marked = await self.queue.mark(group, lease=self.settings.lease)
        going = [entry for entry in group if entry.message_id in marked]
        while going:
            try:
                slots = await self._reserve(channel, len(going))
            except Unavailable:
                await self._take_back(going)
                raise
            for entry, slot in zip(going, slots, strict=False):
                await room.acquire()
                flight = flights.create_task(
                    self._fly(channel, entry, loaded[entry.message_id], slot)
                )
                flight.add_done_callback(lambda _: room.release())
            going = going[len(slots) :]

    async def _claim(self) -> Sequence[ClaimedEntry]:
        channel = await self._sendable_channel()
        if channel is None:
            return ()
        bulk_first = next(self._turns) % BULK_TURN == 0
        return await self.queue.claim(
            tenant_id=self.tenant_id,
            channel_id=self.channel_id,
            limit=min(MAX_CLAIM, max(1, channel.messages_per_second // 2)),
            lease=self.settings.lease,
            lanes=LANES[::-1] if bulk_first else LANES,
        )

    async def _sendable_channel(self) -> Channel | None:
        """The channel as of the last second, or None if nothing more may be sent."""
        if self.monotonic() - self._channel_read_at > CHANNEL_MAX_AGE_SECONDS:
            async with self.begin(self.tenant_id) as work:
                self._channel = await work.channels.get_by_id(self.channel_id)
            self._channel_read_at = self.monotonic()
        may_send = self._channel is not None and self._channel.is_active and not self._stopping
        return self._channel if may_send else None

    async def _load(self, entries: Sequence[ClaimedEntry]) -> dict[UUID, OutboundMessage]:
        """The claimed messages that are to be sent; the others are settled here and now."""
        by_id = {entry.message_id: entry for entry in entries}
        async with self.begin(self.tenant_id) as work:
            messages = await work.messages.load_for_sending(list(by_id))
        now, loaded = self.now(), dict[UUID, OutboundMessage]()
        for message in messages:
            entry = by_id[message.id]
            if message.expires_at is not None and message.expires_at <= now:
                self._settle(not_sent(entry, MessageStatus.EXPIRED, now, "It expired unsent"))
            elif message.status not in _SENDABLE:
                self._settle(not_sent(entry, message.status, now, "It had gone on already"))
            else:
                loaded[message.id] = message
        return loaded

    async def _reserve(self, channel: Channel, number: int) -> Sequence[Slot]:
        """At least one slot and at most `number`, waiting for as long as the limit wants."""
        while True:
            reservation = await self.limiter.reserve(
                channel.phone_number_id,
                count=number,
                rate=channel.messages_per_second,
                horizon=LOOKAHEAD,
            )
            if reservation:
                return reservation.slots
            await asyncio.sleep(reservation.retry_after.total_seconds())

    async def _fly(
        self, channel: Channel, entry: ClaimedEntry, message: OutboundMessage, slot: Slot
    ) -> None:
        """Send one marked message on its slot, or on the next it can reach; never raises."""
        try:
            while not await reach(slot, monotonic=self.monotonic):
                slot = (await self._reserve(channel, 1))[0]
        except Unavailable:
            await self._take_back([entry])
            return
        started_at = self.now()
        try:
            outcome = await self.sender.send(channel, message, entry.attempt)
        except Exception:
            logger.exception("sending failed in an unforeseen way")
            outcome = Unknown("The sender failed in an unforeseen way")
        attempt = Attempt(entry=entry, started_at=started_at, finished_at=self.now())
        self._settle(
            result_of(
                outcome,
                attempt,
                message,
                unknown_for=self.settings.unknown_for,
                rng=self.rng,
            )
        )
        await self._heed(channel, outcome)

    async def _take_back(self, entries: Sequence[ClaimedEntry]) -> None:
        """Undo the marks of entries of which nothing has left; if that fails, leases decide."""
        with suppress(Unavailable):
            await self.queue.unmark(entries)
            await self.queue.release(entries)

    async def _heed(self, channel: Channel, outcome: Outcome) -> None:
        """Slow down or stop what the outcome is about, and nothing else."""
        with suppress(Unavailable):
            match outcome:
                case Throttled(scope=ThrottleScope.NUMBER):
                    wait = max(outcome.hold, THROTTLED_HOLD)
                    await self.limiter.hold(channel.phone_number_id, wait)
                    await self.limiter.slow_down(channel.phone_number_id)
                case Throttled(scope=ThrottleScope.ACCOUNT | ThrottleScope.APP):
                    wait = max(outcome.hold, outcome.retry.base)
                    await self.limiter.hold(channel.phone_number_id, wait)
                case Rejected(action=RejectAction.PAUSE_CHANNEL):
                    await self._pause(outcome)
                case _:
                    pass

    async def _pause(self, rejected: Rejected) -> None:
        async with self.begin(self.tenant_id) as work:
            channel = await work.channels.get_by_id(self.channel_id)
            if channel is not None and channel.is_active:
                code = "" if rejected.code is None else f" (code {rejected.code})"
                channel.pause(f"{rejected.title}{code}")
                await work.channels.update(channel)
                await work.commit()
        self._channel_read_at = float("-inf")

    def _settle(self, result: AttemptResult) -> None:
        self._results.put_nowait(result)

    async def _record(self) -> None:
        """Record outcomes as they come, those of a few milliseconds together; None ends it."""
        going = True
        while going:
            first = await self._results.get()
            if first is None:
                return
            await asyncio.sleep(RECORD_DELAY_SECONDS)
            batch = [first]
            while not self._results.empty() and going:
                following = self._results.get_nowait()
                going = following is not None
                if following is not None:
                    batch.append(following)
            await self._store(batch)

    async def _store(self, batch: Sequence[AttemptResult]) -> None:
        """Record `batch`, however long PostgreSQL is gone: a lease that ends does no harm."""
        while True:
            try:
                async with self.begin(self.tenant_id) as work:
                    held = await work.messages.record_attempts(batch)
                    await work.commit()
            except TellwireError as error:
                if not error.retryable:
                    # The entries stay marked; their lease and then their deadline settle them.
                    logger.exception("outcomes of %d requests not recorded", len(batch))
                    return
                await asyncio.sleep(RECORD_RETRY_SECONDS)
            else:
                break
        for result in batch:
            self.observe(result, result.message_id in held)


def _group_size(rate: int) -> int:
    return max(1, min(MAX_GROUP, round(rate * GROUP_SECONDS)))
