"""What Meta reports in a webhook, one element at a time, whoever's numbers it is about.

Every element carries `raw`, the JSON it was read from, which PostgreSQL's jsonb takes as it is: no
NUL characters, no lone surrogates, not nested without end. Phone numbers, ids and texts are kept
out of every repr.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from whatsapp.domain.account import AccountFact, CallReported, PreferenceReported
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import InboundContent, MessageStatus

Json: TypeAlias = Any
"""What a JSON text can hold."""

MOST_AHEAD: Final = timedelta(minutes=5)
"""So much may Meta's clock be ahead of ours. What claims to be later has no time to be believed:
nothing that follows for years would be newer."""


@dataclass(frozen=True, slots=True)
class Echo:
    """Our own words come back: the message and the attempt (from 1) that a status is about."""

    message_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReported:
    """What became of a message that was accepted earlier, or was sent by another program.

    `wa_id` and `user_id` are the recipient; either or both may be missing. `echo` is None where the
    message did not carry our callback data. `pricing` is Meta's object as it came. `came_at` is set
    where `occurred_at` cannot be.
    """

    waba_id: str | None
    phone_number_id: str
    wamid: str
    status: MessageStatus
    occurred_at: datetime
    wa_id: str | None = dataclasses.field(repr=False)
    user_id: str | None = dataclasses.field(repr=False)
    echo: Echo | None
    errors: tuple[FailureReason, ...]
    pricing: Mapping[str, Json] | None = dataclasses.field(repr=False)
    raw: Mapping[str, Json] = dataclasses.field(repr=False)
    came_at: datetime | None = None

    @property
    def at(self) -> datetime:
        """When it happened, as far as that is believed; by `occurred_at` it is known again."""
        return self.came_at or self.occurred_at


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundReceived:
    """A customer wrote; at least one of `wa_id` and `user_id` names who.

    `context_wamid` is the message it answers. `previous_user_id` is set where the person changed
    number or user id. `errors` are what Meta could not read (polls, view-once media ...).
    """

    waba_id: str | None
    phone_number_id: str
    wamid: str
    wa_id: str | None = dataclasses.field(repr=False)
    user_id: str | None = dataclasses.field(repr=False)
    previous_user_id: str | None = dataclasses.field(repr=False)
    profile_name: str | None = dataclasses.field(repr=False)
    username: str | None = dataclasses.field(repr=False)
    group_id: str | None
    sent_at: datetime
    content: InboundContent
    context_wamid: str | None
    errors: tuple[FailureReason, ...]
    raw: Mapping[str, Json] = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChanged:
    """Anything else that an app can subscribe to: templates, quality, account, preferences ..."""

    waba_id: str | None
    phone_number_id: str | None
    field: str
    reported_at: datetime | None = None
    """When Meta noticed it, if Meta says so."""
    facts: tuple[AccountFact, ...] = ()
    """What it says, as far as it was understood."""
    raw: Json = dataclasses.field(repr=False)
    """The change's `value`."""
    came_at: datetime | None = None
    """When it came in, where Meta does not say when it was, or cannot be believed."""

    @property
    def at(self) -> datetime | None:
        """When it was, as far as that is believed; by `reported_at` it is known again."""
        return self.came_at or self.reported_at


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleReported:
    """Errors of the number or the account that belong to no message."""

    waba_id: str | None
    phone_number_id: str
    errors: tuple[FailureReason, ...]
    reported_at: datetime | None = None
    """When Meta noticed it, if Meta says so."""
    raw: Json = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecognised:
    """What could not be read; kept for a person to look at, never a reason to fail the rest.

    `raw` is None where there is no JSON to keep: the text itself is broken or nested without end.
    """

    reason: str
    phone_number_id: str | None = None
    waba_id: str | None = None
    field: str | None = None
    raw: Json = dataclasses.field(default=None, repr=False)


WebhookElement: TypeAlias = (
    StatusReported | InboundReceived | FieldChanged | TroubleReported | Unrecognised
)


def believed(element: WebhookElement, came_at: datetime) -> WebhookElement:
    """The element, with what is dated after it came in (`came_at`) counting from then on.

    What says no time counts from then as well. Reports are known again by the time that Meta wrote,
    which they keep.
    """
    latest = came_at + MOST_AHEAD
    match element:
        case StatusReported(occurred_at=at) if at > latest:
            return dataclasses.replace(element, came_at=came_at)
        case InboundReceived(sent_at=at) if at > latest:
            return dataclasses.replace(element, sent_at=came_at)
        case FieldChanged(reported_at=at):
            is_believed = at is not None and at <= latest
            facts = tuple(_believed_fact(fact, came_at, latest) for fact in element.facts)
            return dataclasses.replace(
                element, came_at=None if is_believed else came_at, facts=facts
            )
        case _:
            return element


def _believed_fact(fact: AccountFact, came_at: datetime, latest: datetime) -> AccountFact:
    match fact:
        case CallReported(at=at) if at > latest:
            return dataclasses.replace(fact, at=came_at)
        case PreferenceReported(at=at) if at is not None and at > latest:
            return dataclasses.replace(fact, at=came_at)
        case _:
            return fact


def _no_bodies() -> Sequence[bytes | None]:
    return ()


@dataclass(frozen=True, slots=True)
class WebhookBatch:
    """Every element of one webhook, in the order in which Meta wrote them.

    `alone` writes for each of them a webhook that says nothing else, or None where there is none.
    """

    elements: tuple[WebhookElement, ...]
    alone: Callable[[], Sequence[bytes | None]] = dataclasses.field(
        default=_no_bodies, repr=False, compare=False
    )
