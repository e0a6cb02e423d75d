"""The send queue as the dispatching role sees it: whose turn it is, not what is said to whom."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID, uuid4

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.direct import fetch_alone
from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.engine import alone
from shared.kernel.ids import NIL
from shared.kernel.together import TogetherBy
from whatsapp.domain.send_queue import (
    LANES,
    WAITING_LANES,
    ChannelWork,
    Claim,
    ClaimedEntry,
)
from whatsapp.infrastructure.persistence.repositories import queue_statements as sql

MOST_MARKED: Final = 256
"""At most so many in one statement, whose cost grows faster than their number."""
MOST_CHANNELS: Final = 32
"""At most so many are claimed on in one statement: more than a worker begins together."""
_NO_TIME: Final = timedelta()
_MOST_AT_ONCE: Final = 1000
_Spans: TypeAlias = Mapping[ClaimedEntry, timedelta]


class _Wish(NamedTuple):
    """What is to be claimed on one channel."""

    channel_id: UUID
    limit: int
    lanes: str
    in_order: bool
    token: UUID


class SQLAlchemySendQueue:
    """Claims and marks entries of all tenants' queues, as the role `tellwire_dispatch`.

    That role sees the queue's columns and nothing else: payload and token are loaded afterwards as
    the application's role under the entry's own tenant. Every method is one statement in a
    transaction of its own, which those share who claim or mark a tenant's entries in one turn of
    the loop; times are the database's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = alone(engine)
        self._claims = TogetherBy(self._claim_all, most=MOST_CHANNELS)
        self._marks = TogetherBy(self._mark_all, most=_MOST_AT_ONCE)

    async def find_work(
        self, *, after: tuple[UUID, UUID] = (NIL, NIL), limit: int = 500
    ) -> Sequence[ChannelWork]:
        """Up to `limit` channels with entries, by (tenant, channel) from behind `after`.

        Walks from channel to channel by the index, whatever the length of their queues; a caller
        that moves `after` on and starts over at the end serves all of them in turn.
        """
        rows = await self._run(
            sql.WORK,
            after_tenant=after[0],
            after_channel=after[1],
            limit=limit,
        )
        return [
            ChannelWork(
                row.tenant_id,
                row.channel_id,
                sending=row.sending,
                retrying=row.retrying,
                unknown=row.unknown,
                expiring=row.expiring,
            )
            for row in rows
        ]

    async def find_abandoned(
        self, channels: Collection[tuple[UUID, UUID]], *, limit: int
    ) -> Sequence[tuple[UUID, UUID]]:
        """Those of the channels with marked entries whose lease ended.

        Looks at the `limit` entries of each lane that have been due the longest: a marked entry is
        among them, because entries are given out in that order.
        """
        rows = await self._run(
            sql.ABANDONED,
            tenants=[tenant for tenant, _ in channels],
            channels=[channel for _, channel in channels],
            limit=limit,
        )
        return [(row.tenant_id, row.channel_id) for row in rows]

    async def claim(
        self,
        *,
        tenant_id: UUID,
        channel_id: UUID,
        limit: int,
        lease: timedelta,
        lanes: Sequence[int] = LANES,
        in_order: bool = True,
    ) -> Claim:
        """Claim up to `limit` due entries for `lease`; other workers never get the same ones.

        Lanes are emptied in the order given. Of each recipient only the oldest entry is given out,
        and none while another of theirs is under way, so that their order is kept, unless it is
        not to be kept (`in_order`). An entry whose lease ended before it was marked is given out
        again. Gives nothing where all that is due stands behind others: see `step_aside` of the
        messages. Not durable by itself: `mark` is, and fails where a crash took the claim back.
        """
        waiting = [] if in_order else [lane + WAITING_LANES for lane in lanes]
        numbers = ",".join(map(str, [*lanes, *waiting]))
        wish = _Wish(channel_id, limit, numbers, in_order, uuid4())
        return await self._claims((tenant_id, lease), wish)

    async def mark(self, entries: Sequence[ClaimedEntry], *, lease: timedelta) -> frozenset[UUID]:
        """Write down that these may leave now, and renew their lease; gives those still ours.

        From this moment on a crash makes them `unknown`: send only what comes back from here.
        """
        if not entries:
            return frozenset()
        held = await self._marks(entries[0].tenant_id, dict.fromkeys(entries, lease))
        return held.intersection(entry.message_id for entry in entries)

    async def unmark(self, entries: Sequence[ClaimedEntry]) -> frozenset[UUID]:
        """Take a mark back from entries of which no byte has left."""
        return await self._change(sql.UNMARK, dict.fromkeys(entries, _NO_TIME))

    async def release(self, entries: Sequence[ClaimedEntry]) -> frozenset[UUID]:
        """Give claimed entries back unsent, for any worker."""
        return await self._change(sql.RELEASE, dict.fromkeys(entries, _NO_TIME))

    async def rest(self, entries: Mapping[ClaimedEntry, timedelta]) -> frozenset[UUID]:
        """Give claimed entries back unsent and due so much later; they keep their place."""
        return await self._change(sql.REST, entries)

    async def _claim_all(
        self, of: tuple[UUID, timedelta], wishes: Sequence[_Wish]
    ) -> Sequence[Claim | BaseException]:
        """Claim on all these channels of a tenant, for this long; answers each with its own."""
        packs = _one_of_each_channel(wishes)
        claiming = (self._claim(*of, pack) for pack in packs)
        claimed = await asyncio.gather(*claiming, return_exceptions=True)
        answers = dict[_Wish, Claim | BaseException]()
        for pack, claims in zip(packs, claimed, strict=True):
            if isinstance(claims, BaseException):
                answers |= dict.fromkeys(pack, claims)
            else:
                answers |= zip(pack, claims, strict=True)
        return [answers[wish] for wish in wishes]

    async def _claim(
        self, tenant_id: UUID, lease: timedelta, wishes: Sequence[_Wish]
    ) -> Sequence[Claim]:
        rows = await self._run(
            sql.CLAIM,
            tenant=tenant_id,
            channels=[wish.channel_id for wish in wishes],
            limits=[wish.limit for wish in wishes],
            lanes=[wish.lanes for wish in wishes],
            in_order=[wish.in_order for wish in wishes],
            tokens=[wish.token for wish in wishes],
            lease=lease,
        )
        found = [list[Any]() for _ in wishes]
        for row in rows:
            found[row.place - 1].append(row)
        return [_claim_of(tenant_id, *one) for one in zip(wishes, found, strict=True)]

    async def _mark_all(
        self, _tenant_id: UUID, asked: Sequence[_Spans]
    ) -> Sequence[frozenset[UUID] | BaseException]:
        """Mark all of it; answers each with what is held of all that went with it, or its error."""
        packs = _packed(asked)
        marking = (self._change(sql.MARK, _united(pack)) for pack in packs)
        held = await asyncio.gather(*marking, return_exceptions=True)
        return [answer for pack, answer in zip(packs, held, strict=True) for _ in pack]

    async def _change(self, statement: TextClause, entries: _Spans) -> frozenset[UUID]:
        """Change entries of one tenant in one statement, in one order: nobody waits in a circle."""
        if not entries:
            return frozenset()
        ordered = sorted(entries.items(), key=lambda given: given[0].message_id)
        rows = await self._run(
            statement,
            tenant=ordered[0][0].tenant_id,
            ids=[entry.message_id for entry, _ in ordered],
            tokens=[entry.lease_token for entry, _ in ordered],
            spans=[span for _, span in ordered],
        )
        return frozenset(row.id for row in rows)

    async def _run(self, statement: TextClause, **parameters: Any) -> Sequence[Any]:
        async with translated():
            return await fetch_alone(self._engine, statement, parameters)


def _claim_of(tenant_id: UUID, wish: _Wish, rows: Sequence[Any]) -> Claim:
    """What the statement's rows say to this wish."""
    return Claim(
        (
            ClaimedEntry(tenant_id, wish.channel_id, row.id, wish.token, row.attempt + 1)
            for row in rows
            if row.id is not None
        ),
        leaves_due=len(rows) >= wish.limit or any(row.id is None for row in rows),
        hides_due=any(row.id is None and row.attempt is not None for row in rows),
    )


def _one_of_each_channel(wishes: Sequence[_Wish]) -> Sequence[Sequence[_Wish]]:
    """The same, with each channel once in each pack: one statement gives an entry to one claim."""
    packs = list[dict[UUID, _Wish]]()
    for wish in wishes:
        free = next((pack for pack in packs if wish.channel_id not in pack), None)
        if free is None:
            packs.append(free := {})
        free[wish.channel_id] = wish
    return [list(pack.values()) for pack in packs]


def _packed(asked: Sequence[_Spans]) -> Sequence[Sequence[_Spans]]:
    """The same, in their order, with as many of them in each pack as one statement may have.

    One message is in a pack once: whoever has lost it to another claim of this very process must
    not take that one's mark for its own.
    """
    packs, messages = list[list[_Spans]](), set[UUID]()
    for entries in asked:
        new = {entry.message_id for entry in entries}
        if not packs or len(messages) + len(new) > MOST_MARKED or messages & new:
            packs.append([])
            messages = set()
        packs[-1].append(entries)
        messages |= new
    return packs


def _united(pack: Sequence[_Spans]) -> _Spans:
    """All of a pack in one: to look each entry up in many small ones would take longer."""
    united = dict[ClaimedEntry, timedelta]()
    for entries in pack:
        united |= entries
    return united
