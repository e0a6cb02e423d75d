"""From the webhook inbox to the tenants: every element of every body, each to whom it belongs.

Bodies are processed several at a time, and what they say about one channel is stored in one
transaction under that channel's tenant. Everything is stored once however often it comes, so that
a processor may die anywhere: its entries are leased again and repeat nothing.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from shared.kernel.errors import TellwireError
from whatsapp.application.apply_webhook import ApplyWebhook
from whatsapp.application.count_inbound import CountInbound
from whatsapp.domain.webhook import (
    InboundReceived,
    StatusReported,
    Unrecognised,
    WebhookBatch,
    WebhookElement,
)
from whatsapp.domain.webhook_inbox import InboxEntry, Quarantined, Route, WebhookInbox

MAX_BODIES: Final = 50
MAX_ATTEMPTS: Final = 5
"""A body that fails this often goes to quarantine whole, and does not hold up the others."""

logger = logging.getLogger(__name__)
Parse: TypeAlias = Callable[[bytes], WebhookBatch]
_Placed: TypeAlias = tuple[InboxEntry, WebhookElement]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessWebhooks:
    """Empties the inbox: `await process()` takes one handful and gives how many bodies it was."""

    inbox: WebhookInbox
    parse: Parse
    apply: ApplyWebhook
    count_inbound: CountInbound | None = None
    lease: timedelta = timedelta(seconds=60)

    async def __call__(self) -> int:
        """Process up to MAX_BODIES bodies; 0 if there is none. Raises Unavailable."""
        entries = await self.inbox.claim(limit=MAX_BODIES, lease=self.lease)
        if not entries:
            return 0
        try:
            await self._process(entries)
        except Exception as error:
            if _passes(error):
                await self._put_back(entries)
                raise
            # One of them is poison; alone it can harm nobody but itself.
            for entry in entries:
                await self._process_alone(entry)
        return len(entries)

    async def _process_alone(self, entry: InboxEntry) -> None:
        try:
            await self._process([entry])
        except Exception as error:
            if _passes(error):
                raise
            code = error.code if isinstance(error, TellwireError) else "unforeseen"
            logger.warning("a webhook was not processed: %s", code, exc_info=code == "unforeseen")
            # Until then it is left to its next lease: what is wrong may be mended by then.
            if entry.attempts >= MAX_ATTEMPTS:
                await self.inbox.finish([entry], [_whole(entry, code)])

    async def _put_back(self, entries: Sequence[InboxEntry]) -> None:
        """Let others have them at once; if that fails too, their lease decides."""
        with suppress(TellwireError):
            await self.inbox.release(entries)

    async def _process(self, entries: Sequence[InboxEntry]) -> None:
        elements = [(entry, element) for entry in entries for element in _elements(self, entry)]
        numbers = {number for _, element in elements if (number := element.phone_number_id)}
        routes = await self.inbox.routes(numbers)
        placed = defaultdict[Route, list[_Placed]](list)
        quarantined: list[Quarantined] = []
        for entry, element in elements:
            reason = _unplaceable(element, routes)
            if reason is not None:
                quarantined.append(_quarantined(entry, element, reason))
                continue
            for route in routes[element.phone_number_id or ""]:
                placed[route].append((entry, element))
        came_in: dict[str, tuple[Route, int]] = {}
        for route, belonging in placed.items():
            applied = await self.apply(route, [element for _, element in belonging])
            new = len(applied.inbound)
            if new and (number := belonging[0][1].phone_number_id):
                came_in[number] = (route, new)  # Once, also where several tenants have the number.
        await self.inbox.finish(entries, quarantined)
        if self.count_inbound is not None:
            for route, new in came_in.values():
                await self.count_inbound(route, new)


def _passes(error: Exception) -> bool:
    """Whether the trouble is of the moment and not of the bodies."""
    return isinstance(error, TellwireError) and error.retryable


def _elements(process: ProcessWebhooks, entry: InboxEntry) -> Sequence[WebhookElement]:
    return process.parse(entry.body).elements


def _unplaceable(element: WebhookElement, routes: Mapping[str, Sequence[Route]]) -> str | None:
    """Why nobody can be given this element; None if somebody can."""
    if isinstance(element, Unrecognised):
        return element.reason
    if not isinstance(element, StatusReported | InboundReceived):
        return "a field that is kept for later"
    return None if routes.get(element.phone_number_id) else "a number that no channel has"


def _quarantined(entry: InboxEntry, element: WebhookElement, reason: str) -> Quarantined:
    raw = entry.body if element.raw is None else json.dumps(element.raw).encode()
    return Quarantined(
        inbox_id=entry.id,
        app_id=entry.app_id,
        reason=reason,
        phone_number_id=element.phone_number_id,
        raw=raw,
    )


def _whole(entry: InboxEntry, reason: str) -> Quarantined:
    return Quarantined(
        inbox_id=entry.id, app_id=entry.app_id, reason=reason, phone_number_id=None, raw=entry.body
    )
