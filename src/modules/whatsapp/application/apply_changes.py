"""Everything that is about no message: templates, quality, accounts, preferences ..., all kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.applied import Placed
from whatsapp.application.ports import Work
from whatsapp.domain.account import (
    AccountEvent,
    AccountFact,
    AccountReported,
    CallReported,
    NumberReported,
    PreferenceReported,
    TemplateReported,
)
from whatsapp.domain.entities import ChannelStatus
from whatsapp.domain.webhook import FieldChanged, TroubleReported, Unrecognised
from whatsapp.domain.webhook_inbox import Route

Kept: TypeAlias = FieldChanged | TroubleReported | Unrecognised
MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class Told:
    """The reports that were new, and why the channel does not send any more, if it did before."""

    kept: Sequence[Kept] = ()
    paused: str | None = None


@dataclass(frozen=True, slots=True)
class ApplyChanges:
    """Keeps each report once and lets it change what it is about."""

    now: Clock = utc_now

    async def __call__(self, work: Work, route: Route, placed: Sequence[Placed]) -> Told:
        """In the order in which Meta wrote them; a repetition changes nothing."""
        kept = [
            (element, _event(route, one, element))
            for one in placed
            if isinstance(element := one.element, FieldChanged | TroubleReported | Unrecognised)
        ]
        if not kept:
            return Told()
        new = await work.accounts.record_events([event for _, event in kept])
        # Also where it is not new: it is about each channel of the account.
        changed = [element for element, _ in kept if isinstance(element, FieldChanged)]
        await self._tell_templates(work, changed)
        paused = await self._tell_channel(work, route, changed)
        first = {event.digest: element for element, event in reversed(kept)}
        return Told(
            [element for digest, element in reversed(first.items()) if digest in new], paused
        )

    async def _tell_templates(self, work: Work, changed: Sequence[FieldChanged]) -> None:
        """In one order for all processors, so that two wait for, and not on, each other.

        What is said of one template keeps its order.
        """
        told = [
            (one.waba_id, fact, self._time_of(one))
            for one in changed
            for fact in one.facts
            if isinstance(fact, TemplateReported) and one.waba_id is not None
        ]
        for account, fact, at in sorted(told, key=lambda t: (t[0], t[1].name, t[1].language)):
            await work.accounts.record_template(account, fact, at)

    async def _tell_channel(
        self, work: Work, route: Route, changed: Sequence[FieldChanged]
    ) -> str | None:
        """Store what the channel learns; gives the reason where it has stopped sending by that."""
        facts = [
            (fact, self._time_of(one))
            for one in changed
            for fact in one.facts
            if isinstance(fact, NumberReported | AccountReported)
        ]
        state = await work.accounts.find_state(route.channel_id) if facts else None
        if state is None:
            return None
        was_paused = state.status is ChannelStatus.PAUSED
        learned = [state.learn(fact, at) for fact, at in facts]
        if any(learned):
            await work.accounts.save_state(route.channel_id, state)
        is_news = state.status is ChannelStatus.PAUSED and not was_paused
        return state.pause_reason if is_news else None

    def _time_of(self, changed: FieldChanged) -> datetime:
        return changed.at or self.now()


def facts_of(changed: Sequence[FieldChanged]) -> Sequence[AccountFact]:
    """Everything that some changes say."""
    return [fact for one in changed for fact in one.facts]


def _event(route: Route, placed: Placed, element: Kept) -> AccountEvent:
    number = element.phone_number_id
    field = element.field if isinstance(element, FieldChanged | Unrecognised) else None
    reason = {FieldChanged: None, TroubleReported: "errors of the number itself"}
    at = None if isinstance(element, Unrecognised) else element.reported_at
    return AccountEvent(
        tenant_id=route.tenant_id,
        channel_id=None if number is None else route.channel_id,
        provider_account_id=element.waba_id,
        field=field or MESSAGES,
        digest=_digest(route, placed, element, at),
        raw=element.raw,
        reason=element.reason if isinstance(element, Unrecognised) else reason[type(element)],
        reported_at=at,
        subject=_subject(route, element),
        came_as=placed.inbox_id,
        place=placed.place,
    )


def _digest(route: Route, placed: Placed, element: Kept, at: datetime | None) -> UUID:
    """What makes a report this one: what Meta says and when, or else the body in which it came.

    What nobody could read is the same whenever it comes: it holds an id or a time of its own.
    """
    field = element.field if isinstance(element, FieldChanged | Unrecognised) else None
    occasion = [str(placed.inbox_id) if at is None else at.isoformat()]
    if isinstance(element, Unrecognised):
        occasion = [""]
    elif at is None and placed.said_before:
        occasion.append(str(placed.said_before))
    return _hashed(_whose(route, element), field, element.raw, *occasion)


def _subject(route: Route, element: Kept) -> UUID | None:
    """What a report is about: a field of a number or an account, and the template or number in it.

    Reports about two templates do not contradict each other, and one does not repeat the other.
    """
    match element:
        case Unrecognised():
            return None
        case TroubleReported():
            return _hashed(_whose(route, element), MESSAGES)
        case FieldChanged():
            things = sorted({json.dumps(_thing(fact)) for fact in element.facts})
            return _hashed(_whose(route, element), element.field, things)


def _thing(fact: AccountFact) -> Sequence[str | None]:
    match fact:
        case TemplateReported():
            return [fact.name, fact.language]
        case NumberReported() | AccountReported():
            return [fact.display_phone_number]
        case PreferenceReported() | CallReported():
            return [fact.wa_id, fact.user_id]


def _whose(route: Route, element: Kept) -> str | None:
    return element.waba_id if element.phone_number_id is None else str(route.channel_id)


def _hashed(*parts: Any) -> UUID:
    return UUID(bytes=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()[:16])
