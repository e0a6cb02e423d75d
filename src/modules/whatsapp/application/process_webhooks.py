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
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Final, TypeAlias
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from shared.kernel.errors import TellwireError
from whatsapp.application.count_inbound import CountInbound
from whatsapp.application.ports import BeginWork, Work
from whatsapp.domain.conversation import Reached
from whatsapp.domain.entities import InboundMessage
from whatsapp.domain.outcome import FailureReason, Refusal, wait_before_retry
from whatsapp.domain.repositories import Revival, StatusReport
from whatsapp.domain.value_objects import (
    InvalidPhoneNumber,
    MessageStatus,
    PhoneNumber,
    UserId,
)
from whatsapp.domain.value_objects.user_id import InvalidUserId
from whatsapp.domain.webhook import (
    InboundReceived,
    StatusReported,
    Unrecognised,
    WebhookBatch,
    WebhookElement,
)
from whatsapp.domain.webhook_inbox import InboxEntry, Quarantined, Route, WebhookInbox

MAX_BODIES: Final = 50
MAX_ATTEMPT: Final = 2**15 - 1
"""No attempt of ours has a higher number."""
MAX_ATTEMPTS: Final = 5
"""A body that fails this often goes to quarantine whole, and does not hold up the others."""

logger = logging.getLogger(__name__)
Parse: TypeAlias = Callable[[bytes], WebhookBatch]
Judge: TypeAlias = Callable[[Sequence[FailureReason]], Refusal]
"""What the errors of a `failed` status mean."""
_Placed: TypeAlias = tuple[InboxEntry, WebhookElement]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessWebhooks:
    """Empties the inbox: `await process()` takes one handful and gives how many bodies it was."""

    inbox: WebhookInbox
    begin: BeginWork
    parse: Parse
    judge: Judge
    count_inbound: CountInbound | None = None
    lease: timedelta = field(default=timedelta(seconds=60))
    now: Clock = utc_now
    rng: Random = field(default_factory=Random)

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
            new = await self._store(route, [element for _, element in belonging])
            if new and (number := belonging[0][1].phone_number_id):
                came_in[number] = (route, new)  # Once, also where several tenants have the number.
        await self.inbox.finish(entries, quarantined)
        if self.count_inbound is not None:
            for route, new in came_in.values():
                await self.count_inbound(route, new)

    async def _store(self, route: Route, elements: Sequence[WebhookElement]) -> int:
        """Everything about one channel, in one transaction of its tenant.

        Gives how many inbound messages were new.
        """
        new = 0
        reports = [_report(e) for e in elements if isinstance(e, StatusReported)]
        inbound = [e for e in elements if isinstance(e, InboundReceived)]
        async with self.begin(route.tenant_id) as work:
            if reports:
                await work.messages.record_statuses(route.channel_id, reports)
                await self._try_again(work, route.channel_id, elements)
            if reached := _reached(elements):
                for one in await work.conversations.record_reached(route.channel_id, reached):
                    await work.conversations.join(route.channel_id, one)
            # In one order for all processors: two that write to the same conversations wait for,
            # and not on, each other.
            for received in sorted(inbound, key=lambda e: (e.wa_id or "", e.user_id or "")):
                stored = await work.messages.save_inbound(_message(route, received))
                new += not stored.replayed
            await work.commit()
        return new

    async def _try_again(
        self, work: Work, channel_id: UUID, elements: Sequence[WebhookElement]
    ) -> None:
        """Queue what Meta took and then failed for a reason that passes, by the same table.

        `failed` says that it was not delivered, so that a new attempt doubles nothing.
        """
        waits = {
            one.echo: (one, wait)
            for one in elements
            if isinstance(one, StatusReported) and one.status is MessageStatus.FAILED and one.echo
            if (wait := self._wait_of(one)) is not None
        }
        if not waits:
            return
        messages = await work.messages.load_for_sending([echo.message_id for echo in waits])
        by_id = {one.id: one for one in messages if one.channel_id == channel_id}
        at = self.now()
        revivals = [
            Revival(
                message=by_id[echo.message_id],
                attempt=echo.attempt,
                failed_at=one.occurred_at,
                due_at=at + wait,
            )
            for echo, (one, wait) in waits.items()
            if echo.message_id in by_id
        ]
        await work.messages.send_again([one for one in revivals if _in_time(one)], at=at)

    def _wait_of(self, reported: StatusReported) -> timedelta | None:
        """How long to wait before the next attempt; None where there is none."""
        if reported.echo is None or reported.echo.attempt > MAX_ATTEMPT:
            return None
        outcome = self.judge(reported.errors)
        return wait_before_retry(outcome, attempt=reported.echo.attempt, rng=self.rng)


def _in_time(revival: Revival) -> bool:
    """Whether the message would not have expired by then."""
    expires_at, due_at = revival.message.expires_at, revival.due_at
    return expires_at is None or due_at is None or due_at < expires_at


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


def _report(reported: StatusReported) -> StatusReport:
    errors = [
        {"code": error.code, "title": error.title, "details": error.details}
        for error in reported.errors
    ]
    return StatusReport(
        wamid=reported.wamid,
        status=reported.status,
        occurred_at=reported.occurred_at,
        message_id=reported.echo.message_id if reported.echo else None,
        attempt=reported.echo.attempt if reported.echo else None,
        failure=reported.errors[0] if reported.errors else None,
        errors=errors,
        pricing=reported.pricing,
    )


def _message(route: Route, received: InboundReceived) -> InboundMessage:
    return InboundMessage(
        tenant_id=route.tenant_id,
        channel_id=route.channel_id,
        wamid=received.wamid,
        content=received.content,
        sent_at=received.sent_at,
        sender=_phone(received.wa_id),
        sender_user_id=_user(received.user_id),
        profile_name=received.profile_name,
        context_wamid=received.context_wamid,
        raw=received.raw,
    )


def _phone(wa_id: str | None) -> PhoneNumber | None:
    """Meta's spelling of a number; one that is none stays in `raw` alone."""
    try:
        return None if wa_id is None else PhoneNumber.from_wa_id(wa_id)
    except InvalidPhoneNumber:
        return None


def _user(user_id: str | None) -> UserId | None:
    try:
        return None if user_id is None else UserId(user_id)
    except InvalidUserId:
        return None


def _reached(elements: Sequence[WebhookElement]) -> Sequence[Reached]:
    """Under which number or id Meta knows the recipients of messages that went out."""
    return [
        Reached(
            message_id=one.echo.message_id,
            phone=_phone(one.wa_id),
            user_id=_user(one.user_id),
            at=one.occurred_at,
        )
        for one in elements
        if isinstance(one, StatusReported) and one.status is MessageStatus.SENT and one.echo
    ]
