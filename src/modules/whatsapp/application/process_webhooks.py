"""From the webhook inbox to the tenants: every element of every body, each to whom it belongs.

Bodies are processed several at a time, and what they say about one channel is stored by handfuls,
each in one transaction under that channel's tenant. Everything is stored once however often it
comes, so that a processor may die anywhere: its entries are leased again and repeat nothing.

Where something cannot be stored, the handful is taken apart: first into bodies, then into elements,
so that what is broken stands alone in the end and its neighbours are stored.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, TypeAlias

from shared.kernel.errors import TellwireError
from whatsapp.application.applied import Applied, Placed
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.count_inbound import CountInbound
from whatsapp.application.handfuls import handfuls
from whatsapp.application.heed_reports import HeedReports
from whatsapp.domain.webhook import (
    FieldChanged,
    InboundReceived,
    StatusReported,
    TroubleReported,
    Unrecognised,
    WebhookBatch,
    WebhookElement,
    believed,
)
from whatsapp.domain.webhook_inbox import InboxEntry, Quarantined, Route, Routes, WebhookInbox

MAX_BODIES: Final = 200
MAX_ATTEMPTS: Final = 5
"""What fails this often goes to quarantine, and does not hold up the others."""
REMEMBERED_FOR: Final = timedelta(days=1)
"""So long a body that comes again costs nothing; after that its elements still count once."""
MAX_FORGOTTEN: Final = 10_000

logger = logging.getLogger(__name__)
Parse: TypeAlias = Callable[[bytes], WebhookBatch]


def do_nothing() -> None:
    """For whoever has nobody that has to be in time."""


class CountElements(Protocol):
    """Counts what came in and what became of it, for an operator's metrics."""

    def __call__(self, kind: str, result: str, number: int) -> None:
        """Kind and result come from closed sets."""
        ...


def count_nothing(kind: str, result: str, number: int) -> None:
    """For whoever has no metrics."""
    del kind, result, number


@dataclass(slots=True)
class _Found:
    """What some bodies hold: to whom it goes, and what goes to nobody."""

    placed: dict[Route, list[Placed]]
    quarantined: list[Quarantined]
    undated: list[InboxEntry]
    """Bodies that say something without saying when: the same bytes may be news another time."""


class _CameIn:
    """How many new messages came in for each number, by the channels that it belongs to."""

    def __init__(self) -> None:
        self._by_number: dict[str, Counter[Route]] = defaultdict(Counter)

    def note(self, route: Route, applied: Applied) -> None:
        """What was stored for this channel."""
        if applied.inbound and (number := applied.inbound[0].received.phone_number_id):
            self._by_number[number][route] += len(applied.inbound)

    def each(self) -> Iterator[tuple[Route, int]]:
        """Each number once, also where several tenants have it."""
        for told in self._by_number.values():
            yield from told.most_common(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessWebhooks:
    """Empties the inbox: `await process()` takes one handful and gives how many bodies it was."""

    inbox: WebhookInbox
    parse: Parse
    apply: ApplyWebhook
    count_inbound: CountInbound
    heed_reports: HeedReports
    count_elements: CountElements = count_nothing
    look: Callable[[], None] = do_nothing
    """Called often: bodies are read in large handfuls, and others have to be in time."""
    lease: timedelta = timedelta(seconds=60)

    async def __call__(self) -> int:
        """Process up to MAX_BODIES bodies; 0 if there is none. Raises Unavailable."""
        entries = await self.inbox.claim(limit=MAX_BODIES, lease=self.lease)
        if not entries:
            return 0
        came_in = _CameIn()
        try:
            await self._process_all(entries, came_in)
        finally:
            # Also what was stored before something broke: it is not new a second time.
            for route, new in came_in.each():
                await self.count_inbound(route, new)
        return len(entries)

    async def forget(self) -> int:
        """Forget the bodies that came long ago; gives how many."""
        return await self.inbox.forget_older_than(REMEMBERED_FOR, limit=MAX_FORGOTTEN)

    async def _process_all(self, entries: Sequence[InboxEntry], came_in: _CameIn) -> None:
        try:
            await self._process(entries, came_in)
        except Exception as error:
            if _passes(error):
                await self._put_back(entries)
                raise
            # One of them is poison; alone it can harm nobody but itself.
            for entry in entries:
                await self._process_alone(entry, came_in)

    async def _process_alone(self, entry: InboxEntry, came_in: _CameIn) -> None:
        try:
            await self._process([entry], came_in)
        except Exception as error:
            if _passes(error):
                raise
            await self._take_apart(entry, came_in)

    async def _take_apart(self, entry: InboxEntry, came_in: _CameIn) -> None:
        """Store everything but what cannot be stored; that is tried again, and kept in the end."""
        found = await self._find([entry])
        refused = [
            one
            for route, belonging in found.placed.items()
            for handful in handfuls(belonging)
            for one in await self._apply_sound(route, handful, came_in)
        ]
        batch = self.parse(entry.body)
        bodies = batch.alone() if refused else ()
        broken = [
            _quarantined(entry, one.element, code, bodies[one.place]) for one, code in refused
        ]
        # Until then it is left to its next lease: what is wrong may be mended by then.
        if not broken or entry.attempts >= MAX_ATTEMPTS:
            await self._finish([entry], found, broken)

    async def _apply_sound(
        self, route: Route, belonging: Sequence[Placed], came_in: _CameIn
    ) -> Sequence[tuple[Placed, str]]:
        """Apply what can be applied; gives what cannot, found by halving, each with the reason."""
        try:
            await self._apply(route, belonging, came_in)
        except Exception as error:
            if _passes(error):
                raise
            if len(belonging) == 1:
                logger.warning("an element was not stored: %s", _code(error), exc_info=True)
                return [(belonging[0], _code(error))]
        else:
            return ()
        half = len(belonging) // 2
        return [
            *await self._apply_sound(route, belonging[:half], came_in),
            *await self._apply_sound(route, belonging[half:], came_in),
        ]

    async def _apply(self, route: Route, belonging: Sequence[Placed], came_in: _CameIn) -> None:
        """Store what one channel is told; failures are heeded at once, later they are no news."""
        applied = await self.apply(route, belonging)
        self._count(applied)
        came_in.note(route, applied)
        await self.heed_reports(route, applied.statuses)

    async def _put_back(self, entries: Sequence[InboxEntry]) -> None:
        """Let others have them at once; if that fails too, their lease decides."""
        with suppress(TellwireError):
            await self.inbox.release(entries)

    async def _process(self, entries: Sequence[InboxEntry], came_in: _CameIn) -> None:
        found = await self._find(entries)
        for route, belonging in found.placed.items():
            for handful in handfuls(belonging):
                await self._apply(route, handful, came_in)
        await self._finish(entries, found, ())

    async def _finish(
        self, entries: Sequence[InboxEntry], found: _Found, broken: Sequence[Quarantined]
    ) -> None:
        kept = [*found.quarantined, *broken]
        await self.inbox.finish(entries, kept, forget=found.undated)
        if kept:
            self.count_elements("any", "quarantined", len(kept))

    async def _find(self, entries: Sequence[InboxEntry]) -> _Found:
        """Read the bodies, and ask whose the numbers and accounts in them are."""
        batches = [(entry, self._parsed(entry)) for entry in entries]
        elements = [(entry, one) for entry, batch in batches for one in batch.elements]
        routes = await self.inbox.routes(
            numbers={number for _, one in elements if (number := one.phone_number_id)},
            accounts={account for _, one in elements if (account := one.waba_id)},
        )
        found = _Found(defaultdict(list), [], [])
        for entry, batch in batches:
            self.look()
            nobodys, said = list[int](), Counter[str]()
            came_as, came_at = entry.came_as, entry.came_at
            for place, one in enumerate(batch.elements):
                said_before = 0
                if isinstance(one, FieldChanged | TroubleReported) and one.reported_at is None:
                    found.undated.append(entry)
                    said_before = _say(said, one)
                owners = _owners(entry, one, routes)
                placed = Placed(came_as, believed(one, came_at), place, said_before)
                for route in owners:
                    found.placed[route].append(placed)
                if not owners:
                    nobodys.append(place)
            if nobodys:
                found.quarantined += _nobodys(entry, batch, nobodys)
        return found

    def _parsed(self, entry: InboxEntry) -> WebhookBatch:
        self.look()
        return self.parse(entry.body)

    def _count(self, applied: Applied) -> None:
        kinds = {
            "status": len(applied.statuses),
            "inbound": len(applied.inbound),
            "change": len(applied.changes),
        }
        for kind, number in kinds.items():
            if number:
                self.count_elements(kind, "applied", number)
        for reason, number in Counter(type(one).__name__ for one in applied.unread).items():
            self.count_elements(_KINDS[reason], "kept unread", number)


_KINDS: Final = {Unrecognised.__name__: "unknown", TroubleReported.__name__: "trouble"}


def _passes(error: Exception) -> bool:
    """Whether the trouble is of the moment and not of the bodies."""
    return isinstance(error, TellwireError) and error.retryable


def _code(error: Exception) -> str:
    return error.code if isinstance(error, TellwireError) else "unforeseen"


def _say(said: Counter[str], element: FieldChanged | TroubleReported) -> int:
    """How often the very same had been said, which counts once more from now on."""
    whose = (element.phone_number_id, element.waba_id)
    words = json.dumps([_field(element), whose, element.raw], sort_keys=True)
    said[words] += 1
    return said[words] - 1


def _owners(entry: InboxEntry, element: WebhookElement, routes: Routes) -> Sequence[Route]:
    """The channels that are told; none where nobody knows whose it is, or nothing can be kept."""
    if isinstance(element, Unrecognised) and element.raw is None:
        return ()
    # A message is about a number alone: an account may be known where its number is not.
    account = element.waba_id
    if isinstance(element, StatusReported | InboundReceived | Unrecognised):
        account = None
    return routes.of(app_id=entry.app_id, number=element.phone_number_id, account=account)


def _reason(element: WebhookElement) -> str:
    if isinstance(element, Unrecognised):
        return element.reason
    if element.phone_number_id is not None:
        return "a number that no channel has"
    return "an account that no channel has"


def _nobodys(
    entry: InboxEntry, batch: WebhookBatch, places: Sequence[int]
) -> Sequence[Quarantined]:
    bodies = batch.alone()
    elements = [(batch.elements[place], bodies[place]) for place in places]
    return [_quarantined(entry, one, _reason(one), body) for one, body in elements]


def _quarantined(
    entry: InboxEntry, element: WebhookElement, reason: str, body: bytes | None
) -> Quarantined:
    raw = entry.body if element.raw is None else json.dumps(element.raw).encode()
    return Quarantined(
        inbox_id=entry.id,
        app_id=entry.app_id,
        reason=reason,
        phone_number_id=element.phone_number_id,
        raw=raw,
        body=body,
        field_name=_field(element),
        waba_id=element.waba_id,
    )


def _field(element: WebhookElement) -> str | None:
    match element:
        case FieldChanged() | Unrecognised():
            return element.field
        case _:
            return "messages"
