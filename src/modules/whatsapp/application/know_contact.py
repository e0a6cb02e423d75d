"""Who is who: names that turn out to be one person's, numbers that change, wishes, calls.

Meta names a person by phone number, by user id or by both. Whatever carries two names joins what
was known under each; what is merged is merged in the transaction that learnt of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.applied import Applied, InboundApplied
from whatsapp.application.person import phone_of, user_of
from whatsapp.application.ports import Work
from whatsapp.domain.account import CallReported, PreferenceReported
from whatsapp.domain.conversation import Person
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.value_objects import MessageStatus, PhoneNumber, Recipient, UserId
from whatsapp.domain.webhook import (
    FieldChanged,
    InboundReceived,
    StatusReported,
    WebhookElement,
)
from whatsapp.domain.webhook_inbox import Route

MARKETING: Final = "marketing_messages"
OPTED_OUT: Final = 131050
"""The recipient takes no marketing messages of this business (Meta, Cloud API, error codes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketingWish:
    """Somebody told Meta at `at` to stop marketing messages of this channel, or to resume them."""

    phone: PhoneNumber | None
    user_id: UserId | None
    stopped: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class KnowContact:
    """Follows what was applied: merges who is one person, goes along with moves, heeds wishes."""

    now: Clock = utc_now

    async def __call__(self, work: Work, route: Route, applied: Applied) -> None:
        """Nothing to do for almost everything; two statements for a merge, one for those moved.

        One more where somebody has a name that was nobody's before, for what went out to it.
        """
        for one in applied.inbound:
            await merge_conversations(work, one.stored.conversation_ids)
        new = [one.stored for one in applied.inbound if one.stored.has_new_names]
        met = [conversation for one in new for conversation in one.conversation_ids]
        moved = [person for one in applied.inbound for person in _moved(one)]
        met += await know_people(work, route.channel_id, moved)
        callers = [person for one in applied.changes for person in _called(one)]
        met += await know_people(work, route.channel_id, callers)
        wishes = [wish for one in applied.statuses for wish in _opted_out(one.reported)]
        wishes += [wish for one in applied.changes for wish in _told(one, self.now())]
        met += await heed_marketing_wishes(work, route.channel_id, wishes)
        if met:
            await work.conversations.recall_sent(met)


def concerns_people(elements: Iterable[WebhookElement]) -> bool:
    """Whether applying these may find, name or merge conversations."""
    return any(map(_concerns_people, elements))


def _concerns_people(element: WebhookElement) -> bool:
    match element:
        case InboundReceived():
            return True
        case StatusReported():
            return element.status is MessageStatus.SENT or bool(_opted_out(element))
        case FieldChanged():
            return any(isinstance(one, PreferenceReported | CallReported) for one in element.facts)
        case _:
            return False


async def heed_marketing_wishes(
    work: Work, channel_id: UUID, wishes: Sequence[MarketingWish]
) -> Sequence[UUID]:
    """Keep what people wish, the latest by its own time; whoever is not known yet is from now on.

    Who has no name at all is left out. Gives their conversations.
    """
    people = [
        Person(
            names=_names(wish.phone, wish.user_id),
            phone=wish.phone,
            user_id=wish.user_id,
            at=wish.at,
            marketing_stopped=wish.stopped,
        )
        for wish in wishes
    ]
    return await know_people(work, channel_id, [person for person in people if person.names])


async def know_people(work: Work, channel_id: UUID, people: Sequence[Person]) -> Sequence[UUID]:
    """Let all names of each person lead to one conversation, in one statement for all of them.

    People who share a name are told of one after the other; conversations found to be one
    person's are merged. Gives all of these, under ids that may have merged.
    """
    found = list[UUID]()
    for together in _without_common_names(people):
        for ids in await work.conversations.know(channel_id, together):
            await merge_conversations(work, ids)
            found += ids
    return found


async def merge_conversations(work: Work, ids: Sequence[UUID]) -> None:
    """Make one conversation of those, under the oldest id; nothing for one alone."""
    if len(ids) < 2:  # noqa: PLR2004  # one alone is merged already
        return
    held = await work.conversations.hold(ids)
    if len(held) > 1:
        await work.conversations.merge(held)


def _without_common_names(people: Iterable[Person]) -> Sequence[Sequence[Person]]:
    """The people in rounds: in none of them is a name two people's, later ones stay later."""
    rounds: list[list[Person]] = []
    last_round_of: dict[Recipient, int] = {}
    for person in people:
        names = _with_other_spellings(person.names)
        number = max((last_round_of.get(name, -1) for name in names), default=-1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(person)
        last_round_of |= dict.fromkeys(names, number)
    return rounds


def _moved(applied: InboundApplied) -> Sequence[Person]:
    """The person in a notice of the system that somebody has a new number or user id."""
    change = applied.received.content.system_change
    if change is None or applied.stored.is_in_group:
        return ()
    old, new = applied.stored.sender, phone_of(change.wa_id)
    user_id = user_of(change.user_id) or applied.stored.sender_user_id
    names = _names(old, new, user_id, user_of(change.previous_user_id))
    if len(names) < 2:  # noqa: PLR2004  # nothing that was not known from the message itself
        return ()
    same = new is None or old is None or new in (old, old.other_spelling)
    return (
        Person(
            names=names,
            phone=new,
            user_id=user_id,
            at=applied.stored.sent_at,
            has_moved=True,
            gave_up=() if same or old is None else (old,),
        ),
    )


def _called(changed: FieldChanged) -> Sequence[Person]:
    """Those who have called; by that they are known, and may be answered as if they had written."""
    people = [
        Person(
            names=_names(phone_of(fact.wa_id), user_of(fact.user_id)),
            phone=phone_of(fact.wa_id),
            user_id=user_of(fact.user_id),
            at=fact.at,
            has_called=True,
        )
        for fact in changed.facts
        if isinstance(fact, CallReported)
    ]
    return [person for person in people if person.names]


def _opted_out(reported: StatusReported) -> Sequence[MarketingWish]:
    """What a failure tells of the recipient's wish, where Meta's own report of it never came."""
    if all(error.code != OPTED_OUT for error in reported.errors):
        return ()
    phone, user_id = phone_of(reported.wa_id), user_of(reported.user_id)
    return (MarketingWish(phone=phone, user_id=user_id, stopped=True, at=reported.at),)


def wishes_in_answers(results: Sequence[AttemptResult]) -> Sequence[MarketingWish]:
    """What refusals tell of their recipients' wishes, where Meta refuses at once."""
    return [
        MarketingWish(
            phone=to if isinstance(to, PhoneNumber) else None,
            user_id=to if isinstance(to, UserId) else None,
            stopped=True,
            at=one.finished_at,
        )
        for one in results
        if (to := one.recipient) is not None
        and one.failure is not None
        and one.failure.code == OPTED_OUT
    ]


def _told(changed: FieldChanged, now: datetime) -> Sequence[MarketingWish]:
    """What people want or do not want, as Meta reports it."""
    return [
        MarketingWish(
            phone=phone_of(fact.wa_id),
            user_id=user_of(fact.user_id),
            stopped=not fact.is_wanted,
            at=fact.at or changed.at or now,
        )
        for fact in changed.facts
        if isinstance(fact, PreferenceReported) and fact.category == MARKETING
    ]


def _names(*names: Recipient | None) -> tuple[Recipient, ...]:
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _with_other_spellings(names: Sequence[Recipient]) -> Sequence[Recipient]:
    others = (name.other_spelling for name in names if isinstance(name, PhoneNumber))
    return _names(*names, *others)
