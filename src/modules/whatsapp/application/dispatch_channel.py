"""Sending what is due on one channel: claim, reserve slots, mark, send on the slot, record.

No transaction waits for a request under way. Each step is durable before the next begins, so that a
crash at any instant leaves an entry that says what may have happened:

    claimed   nothing has left: whoever comes first may send it
    marked    it may have left: only proof, or a policy after the deadline, decides

Two stages run side by side, so that the number is never idle. One claims and loads ahead. The other
reserves slots ahead, in groups, and marks as many messages shortly before the first of them, so
that none waits for PostgreSQL. What is marked leaves on whichever slot comes next (`Departures`).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.attempt import Attempt
from whatsapp.application.claim_due import ClaimDue
from whatsapp.application.claim_messages import ClaimMessages
from whatsapp.application.departures import Departures
from whatsapp.application.dispatch_settings import DispatchSettings
from whatsapp.application.fresh_channel import FreshChannel, Readings
from whatsapp.application.gates import Gates
from whatsapp.application.going import GiveBack, Going
from whatsapp.application.heed_outcome import HeedOutcome
from whatsapp.application.lane_turns import LANE_CYCLE, LaneTurns
from whatsapp.application.mark_group import MarkGroup
from whatsapp.application.next_step import NextStep
from whatsapp.application.ports import BeginWork, Go, NotLeaving, Sender
from whatsapp.application.read_together import ReadTogether
from whatsapp.application.record_results import Outcomes, RecordResults
from whatsapp.application.slot_use import SlotUse
from whatsapp.application.take_slots import LOOKAHEAD, TakeSlots
from whatsapp.domain.driving import Stance
from whatsapp.domain.entities import Channel
from whatsapp.domain.outcome import Outcome, Unknown
from whatsapp.domain.rate_limit import RateLimiter, Slot
from whatsapp.domain.send_queue import SendQueue

MAX_GROUP: Final = 64
PATIENCE: Final = timedelta(milliseconds=1500)
"""Where the limit wants longer than this (a hold, not a rate), what was claimed is given back."""
logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class DispatchChannel:
    """One worker's share of one channel; `run` returns when nothing is due or it may not send."""

    tenant_id: UUID
    channel_id: UUID
    begin: BeginWork
    reads: ReadTogether
    queue: SendQueue
    limiter: RateLimiter
    sender: Sender
    recorder: RecordResults
    """The tenant's."""
    settings: DispatchSettings = field(default_factory=DispatchSettings)
    now: Clock = utc_now
    monotonic: Callable[[], float] = time.monotonic
    rng: Random = field(default_factory=Random)
    gates: Gates = field(default_factory=Gates)
    readings: Readings = field(default_factory=dict)
    """These three are the process's: channels are late alike, and what is read of one is shared."""

    asks_first: bool = False
    """Ask the limit before claiming: where the number has to rest, that would be for nothing."""

    resting: timedelta = field(default=timedelta(), init=False)
    """After `run`: how long it makes no sense to come back, because the channel may not send."""

    _fresh: FreshChannel = field(init=False)
    _ready: deque[Going] = field(default_factory=deque, init=False)
    _ended: bool = field(default=False, init=False)  # Nothing more is launched.
    _retired: bool = field(default=False, init=False)  # Nothing more is claimed.
    _put_off: bool = field(default=False, init=False)  # The limit gave no slot when asked last.
    _all_claimed: bool = field(default=False, init=False)
    _trouble: Exception | None = field(default=None, init=False)
    _open: int = field(default=0, init=False)  # Claimed, and neither recorded nor given back.
    _aloft: int = field(default=0, init=False)  # On their way to the gate, and at it.
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)  # For launching.
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)  # For claiming.
    _use: SlotUse = field(default_factory=SlotUse, init=False)
    _gate: Departures = field(init=False)
    _take_slots: TakeSlots = field(init=False)
    _claims: ClaimDue = field(init=False)
    _outcomes: Outcomes = field(init=False)
    _heed: HeedOutcome = field(init=False)
    _give_back: GiveBack = field(init=False)
    _claim_messages: ClaimMessages = field(init=False)
    _mark: MarkGroup = field(init=False)
    _next_step: NextStep = field(init=False)

    def __post_init__(self) -> None:
        clock, changed = self.monotonic, self._changed.set
        self._gate = Departures(use=self._use, changed=changed, gates=self.gates, monotonic=clock)
        self._claims = ClaimDue(
            tenant_id=self.tenant_id,
            channel_id=self.channel_id,
            queue=self.queue,
            lease=self.settings.lease.length,
            turns=LaneTurns(self.rng.randrange(LANE_CYCLE)),
            monotonic=clock,
        )
        self._outcomes = self.recorder.of(self.channel_id, stored=self._closed)
        self._heed = HeedOutcome(tenant_id=self.tenant_id, begin=self.begin, limiter=self.limiter)
        self._fresh = FreshChannel(
            tenant_id=self.tenant_id,
            channel_id=self.channel_id,
            reads=self.reads,
            unreadable=self._heed.unreadable,
            monotonic=clock,
            readings=self.readings,
        )
        settle, closed, now, lease = self._outcomes.put, self._closed, self.now, self.settings.lease
        self._give_back = GiveBack(limiter=self.limiter, settle=settle, now=now)
        self._claim_messages = ClaimMessages(
            begin=self.begin,
            reads=self.reads,
            fresh=self._fresh,
            if_sendable=self._if_sendable,
            claim_due=self._claims,
            queue=self.queue,
            limiter=self.limiter,
            give_back=self._give_back,
            now=now,
            claimed=self._claimed,
            settle=settle,
            closed=closed,
        )
        self._mark = MarkGroup(queue=self.queue, lease=lease, closed=closed, monotonic=clock)
        self._next_step = NextStep(self.tenant_id, self.begin, self.settings, self.rng)
        self._take_slots = TakeSlots(limiter=self.limiter, gate=self._gate, fresh=self._fresh)

    @property
    def forfeited(self) -> int:
        """How many slots were reached too late, or not to be had because others last longer."""
        return round(self._use.forfeited)

    @property
    def has_sent(self) -> bool:
        """Whether something has left since it began."""
        return self._use.used > 0

    @property
    def stance(self) -> Stance:
        """Whether this worker keeps up with the channel."""
        return self._use.stance(self.monotonic())

    @property
    def messages_per_second(self) -> int:
        """The channel's rate, as far as it is known."""
        return self._fresh.messages_per_second

    @property
    def is_sending(self) -> bool:
        """Whether it has something to do but wait, for answers or until its number may send."""
        return not self._claims.claimed or (not self._put_off and bool(self._ready or self._aloft))

    def retire(self) -> None:
        """Claim nothing more; what is claimed is sent."""
        self._retired = True
        self._news.set()

    def stop(self) -> None:
        """Claim nothing more; what is claimed and not marked goes back unsent."""
        self._ended = True
        self._changed.set()
        self._news.set()

    def wake(self) -> None:
        """Something is due: claim it at once, if it is only waiting for requests under way."""
        self._claims.wake()
        self._news.set()

    async def run(self) -> int:
        """Send until nothing is due; gives how many entries were claimed.

        Raises Unavailable when Redis or PostgreSQL is gone, and whatever else goes wrong, once the
        requests under way are recorded. Cancelling it leaves those unknown: call `stop` instead.
        """
        async with asyncio.TaskGroup() as flights:
            claiming = flights.create_task(self._stage(self._claim_ahead()))
            await self._stage(self._launch_all(flights))
            await claiming  # What it counts last goes back with what is refused now, and first.
            self._gate.close()
        self._use.gave_up(self._gate.left_over)
        await self._give_back(self._ready)
        await self._outcomes.all_stored()
        if self._trouble is not None:
            raise self._trouble
        return self._claims.claimed

    async def _stage(self, stage: Coroutine[Any, Any, None]) -> None:
        """Run a stage; trouble ends both, and is caught here, before it cancels a request."""
        try:
            await stage
        except Exception as error:  # noqa: BLE001  # `run` raises it in the end
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._trouble = self._trouble or error
        self.stop()

    async def _claim_ahead(self) -> None:
        """Keep what is ready to go above half a batch, until nothing is due nor under way."""
        try:
            while not (self._retired or self._ended):
                self._news.clear()
                is_time = len(self._ready) <= self._claims.sizes.low_water
                if is_time and self._claims.may_find_more and await self._claim():
                    continue
                if self._news.is_set():  # During the claim: what stood behind others may be due.
                    continue
                if not self._open:
                    return
                await self._news.wait()
        finally:
            self._all_claimed = True
            self._changed.set()

    async def _claim(self) -> bool:
        """Whether anything was claimed; nothing is where the channel may send nothing for now."""
        if self.asks_first and await self._rests_by_the_limit():
            return False
        before = self._claims.claimed
        self._ready.extend(await self._claim_messages())
        self._changed.set()
        return self._claims.claimed > before

    async def _rests_by_the_limit(self) -> bool:
        self.asks_first = False
        if (channel := self._if_sendable(await self._fresh.read())) is None:
            return True
        rate, number = channel.messages_per_second, channel.phone_number_id
        return self._rests((await self.limiter.check_rate_limit(number, rate=rate)).retry_after)

    def _claimed(self, number: int) -> None:
        self._open += number

    def _rests(self, wait: timedelta) -> bool:
        """Whether the limit wants more than patience, which ends this."""
        if is_long := wait > PATIENCE:
            self.resting = wait
            self.stop()
        return is_long

    def _if_sendable(self, channel: Channel | None) -> Channel | None:
        """The channel, or None and an end of this if nothing more may be sent for now."""
        if rest := (channel.rest_at(self.now()) if channel and channel.is_active else PATIENCE):
            self.resting = rest
            self.stop()
        return None if self._ended else channel

    async def _launch_all(self, flights: asyncio.TaskGroup) -> None:
        while (channel := await self._next_launch()) is not None:
            span = self.gates.lateness.group_seconds
            size = max(1, round(channel.messages_per_second * span))
            if not self._aloft:  # The first slot may be there at once: it must not wait.
                await self._launch(flights, channel, self._take(size), at=self.monotonic())
            wanted = min(size, self._gate.lacking + min(len(self._ready), self._room))
            slots = await self._reserve(channel, wanted)
            if not slots:
                continue
            lacking = self._gate.lacking
            self._gate.add(slots)
            # Each group is marked a moment before its own first slot, so that none waits for it.
            for first in range(lacking, len(slots), MAX_GROUP):
                if group := self._take(len(slots) - first):
                    launching = self._launch(flights, channel, group, at=slots[first].at)
                    flights.create_task(launching)
            # Until the horizon has room for a whole group behind our last slot.
            await asyncio.sleep(slots[-1].at - self.monotonic() - LOOKAHEAD.total_seconds() + span)

    async def _next_launch(self) -> Channel | None:
        """Wait until somebody needs a slot and there is room; None once all is done."""
        while not self._ended:
            self._changed.clear()
            if self._gate.lacking or (self._ready and self._room):
                return self._if_sendable(await self._fresh.read())
            if self._ready:
                self._use.full(self.monotonic())
                self.recorder.in_flight.wait(self._outcomes, self._changed.set)
            elif self._all_claimed and not self._aloft:
                return None
            await self._changed.wait()
            self.recorder.in_flight.leave(self._outcomes)
        return None

    @property
    def _room(self) -> int:
        """How many more may be under way."""
        own = self._outcomes.under_way
        return min(self.settings.max_in_flight - own, self.recorder.in_flight.room(own))

    def _take(self, size: int) -> list[Going]:
        number = max(0, min(size, MAX_GROUP, self._room, len(self._ready)))
        group = [self._ready.popleft() for _ in range(number)]
        self._aloft += number
        self._outcomes.expect(number)
        before = len(self._ready) + number
        if self._claims.may_find_more and len(self._ready) <= self._claims.sizes.low_water < before:
            self._news.set()
        return group

    async def _reserve(self, channel: Channel, number: int) -> Sequence[Slot]:
        """Up to `number` slots; none after waiting for a moment where the limit wants that."""
        if not number:
            return ()
        reservation = await self._take_slots(channel, number)
        self._put_off = not (reservation or reservation.forfeited)
        if not self._rests(reservation.retry_after) and not reservation:
            await asyncio.sleep(min(reservation.retry_after.total_seconds(), 0.25))
        return reservation.slots

    async def _launch(
        self, flights: asyncio.TaskGroup, channel: Channel, group: list[Going], *, at: float
    ) -> None:
        """Mark a group a moment before its first slot, and send it to the gate; never raises."""
        try:
            await asyncio.sleep(at - self._mark.lead_seconds - self.monotonic())
            going = await self._mark(group)
        except Exception as error:  # noqa: BLE001  # `run` raises it in the end
            self._stay(len(group))
            self._fail(error)
            await self._give_back(group)
            return
        self._stay(len(group) - len(going))
        for one in going:
            flights.create_task(self._fly(channel, one))
        self._changed.set()

    async def _fly(self, channel: Channel, one: Going) -> None:
        """Send one marked message on the next slot; never raises."""
        self.gates.look()  # A whole group of these begins in one turn of the loop.
        try:
            outcome = await self._sent(channel, one)
        except NotLeaving:
            await self._give_back.together(one, self._ready if self._ended else deque())
            return
        finally:
            self._outcomes.expect(-1)
            if one.left_at is None:
                self._aloft -= 1
            if self._ready or self._all_claimed:  # Else nothing can be launched, nor is it over.
                self._changed.set()
            self.gates.look()
        finished_at = self.now()
        attempt = Attempt(
            entry=one.entry, started_at=one.left_at or finished_at, finished_at=finished_at
        )
        self._outcomes.put(await self._next_step(outcome, attempt, one.message))
        try:
            if await self._heed(channel, one.message.person, outcome):
                self._fresh.forget()
        except Exception:
            logger.exception("heeding an outcome failed in an unforeseen way")

    async def _sent(self, channel: Channel, one: Going) -> Outcome:
        async def leave(go: Go) -> None:
            def leave_now() -> None:
                self._aloft -= 1
                one.left_at = self.now()
                go()

            await self._gate.leave(leave_now, until=one.until)

        try:
            return await self.sender.send(channel, one.message, one.entry.attempt, leave=leave)
        except NotLeaving:
            raise
        except Exception:
            logger.exception("sending failed in an unforeseen way")
            return Unknown("The sender failed in an unforeseen way")

    def _stay(self, number: int) -> None:
        """So many are not on their way after all."""
        self._aloft -= number
        self._outcomes.expect(-number)

    def _closed(self, number: int) -> None:
        """Count what is dealt with; what waited behind it may be due now."""
        self._open -= number
        self._news.set()
        self.gates.look()
