"""What Meta reports about numbers, accounts and templates, and what it changes here.

Every fact has the time at which Meta says it became true, and never gives way to an older one.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

from shared.kernel.ids import new_id
from whatsapp.domain.entities import ChannelStatus

UNKNOWN_QUALITY: Final = "UNKNOWN"
"""Meta's own word for a number that has no rating."""


class Stop(StrEnum):
    """Why Meta lets an account send nothing; the texts are shown to operators as pause reasons."""

    DISABLED = "Meta has disabled the account"
    DELETED = "The account was deleted at Meta"
    DISCONNECTED = "The account was disconnected from this app"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateReported:
    """What became of a template; None where the report does not speak of it."""

    name: str
    language: str
    template_id: str | None = None
    status: str | None = None
    reason: str | None = None
    quality: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberReported:
    """Something that is kept with the channel under `key`, in Meta's own words.

    `display_phone_number` (digits) is set where it is about one number of the account only.
    `messages_per_second` is a rate that Meta has raised the number to; `ended_rating` one of
    quality that holds no more, where Meta does not say which does.
    """

    key: str
    value: str
    display_phone_number: str | None = dataclasses.field(default=None, repr=False)
    quality_rating: str | None = None
    ended_rating: str | None = None
    messages_per_second: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReported:
    """That the account may not send, or where `is_over`, that it may again; `stop` says why not.

    `display_phone_number` (digits) is set where it is about one number of the account only.
    """

    event: str
    stop: Stop
    is_over: bool = False
    display_phone_number: str | None = dataclasses.field(default=None, repr=False)

    @property
    def key(self) -> str:
        """A ban and a lost connection are news of two kinds: neither ends the other."""
        return "connection" if self.stop is Stop.DISCONNECTED else "account"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceReported:
    """What a person wants or does not want to be sent, by category (`marketing_messages`)."""

    wa_id: str | None = dataclasses.field(repr=False)
    user_id: str | None = dataclasses.field(repr=False)
    category: str
    is_wanted: bool
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReported:
    """A person has called at `at`, answered or not: that opens the 24-hour window as well."""

    wa_id: str | None = dataclasses.field(repr=False)
    user_id: str | None = dataclasses.field(repr=False)
    at: datetime


AccountFact: TypeAlias = (
    TemplateReported | NumberReported | AccountReported | PreferenceReported | CallReported
)


@dataclass(slots=True, kw_only=True)
class ChannelState:
    """What a channel's row says that Meta's reports may change.

    `reported` is what Meta reported last under each key: `{"value": ..., "at": Unix seconds}`, and
    under `stop` why the account may send nothing by it.
    """

    status: ChannelStatus
    pause_reason: str | None
    messages_per_second: int
    quality_rating: str | None
    display_phone_number: str | None = dataclasses.field(repr=False)
    is_verified: bool
    reported: dict[str, Any]

    def learn(self, fact: NumberReported | AccountReported, at: datetime) -> bool:
        """Heed a fact unless a newer one of its kind is known, or it is about another number."""
        if not self._concerns(fact):
            return False
        match fact:
            case NumberReported():
                return self._learn_of_number(fact, at)
            case AccountReported():
                return self._learn_of_account(fact, at)

    def _learn_of_number(self, fact: NumberReported, at: datetime) -> bool:
        if not self._note(fact.key, fact.value, at):
            return False
        if fact.quality_rating is not None:
            self.quality_rating = fact.quality_rating
        elif fact.ended_rating is not None and self.quality_rating == fact.ended_rating:
            self.quality_rating = UNKNOWN_QUALITY
        if fact.messages_per_second is not None:
            self.messages_per_second = max(self.messages_per_second, fact.messages_per_second)
        return True

    def _learn_of_account(self, fact: AccountReported, at: datetime) -> bool:
        if not self._note(fact.key, fact.event, at, None if fact.is_over else fact.stop):
            return False
        if fact.is_over:
            self._resume(fact.stop)
        elif self.status in {ChannelStatus.ACTIVE, ChannelStatus.PENDING}:
            self.status, self.pause_reason = ChannelStatus.PAUSED, fact.stop.value
        return True

    def _resume(self, stop: Stop) -> None:
        """End the pause that such a report began; any other pause has another end.

        Where a report of the other kind stands, its pause goes on from here.
        """
        if self.status is not ChannelStatus.PAUSED or self.pause_reason != stop.value:
            return
        standing = [one["stop"] for one in self.reported.values() if one.get("stop")]
        if standing:
            self.pause_reason = standing[0]
        else:
            self.status = ChannelStatus.ACTIVE if self.is_verified else ChannelStatus.PENDING
            self.pause_reason = None

    def _concerns(self, fact: NumberReported | AccountReported) -> bool:
        if fact.display_phone_number is None:
            return True
        mine = "".join(c for c in self.display_phone_number or "" if c.isdigit())
        return mine == fact.display_phone_number

    def _note(self, key: str, value: str, at: datetime, stop: Stop | None = None) -> bool:
        known: Mapping[str, Any] = self.reported.get(key) or {}
        if known.get("at", 0.0) > at.timestamp():
            return False
        news = {"value": value, "at": at.timestamp()}
        self.reported = self.reported | {key: news | ({} if stop is None else {"stop": stop.value})}
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEvent:
    """A report that is about no message, or one that nobody could read, kept as Meta wrote it.

    `digest` makes it one however often it comes. `channel_id` is None where it is about the whole
    account; `reason` says why it was not understood, where it was not. `subject` is the same for
    all that is about one thing, None where nobody knows what it is about; `came_as` and `place` are
    the body that it came in, and where it stood in it.
    """

    tenant_id: UUID
    channel_id: UUID | None
    provider_account_id: str | None
    field: str
    digest: UUID
    raw: Any = dataclasses.field(repr=False)
    reason: str | None = None
    reported_at: datetime | None = None
    received_at: datetime | None = None
    subject: UUID | None = None
    came_as: UUID | None = None
    place: int | None = None
    id: UUID = dataclasses.field(default_factory=new_id)

    @property
    def may_repeat(self) -> bool:
        """Whether only what was said before and after it shows that it is news."""
        return self.reported_at is None and self.subject is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template of an account, as far as Meta has reported on it."""

    id: UUID
    provider_account_id: str
    name: str
    language: str
    template_id: str | None
    status: str | None
    status_reason: str | None
    quality: str | None
    category: str | None


MAX_REPORTED_CHARACTERS: Final = 200
"""Of a text of Meta's that is kept with a channel or a template; more is in the raw report."""


@dataclass(frozen=True, slots=True)
class AccountEventPage:
    """Reports, the newest first, and the last of them where more follow."""

    events: Sequence[AccountEvent]
    following: UUID | None = None


class AccountRepository(Protocol):
    """What Meta has reported about one tenant's numbers, accounts and templates."""

    async def record_events(self, events: Sequence[AccountEvent]) -> frozenset[UUID]:
        """Keep each once; gives the digests of those that were new.

        One without a time repeats what was said last about its subject before it came, or next
        after it; it is new where neither says the same.
        """
        ...

    async def list_events(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        field: str | None = None,
        unread_only: bool = False,
    ) -> AccountEventPage:
        """The newest first, from before `before`; of one field, or only what nobody understood.

        Fewer than `limit` where they are large: Meta may tell megabytes at once.
        """
        ...

    async def record_template(
        self, provider_account_id: str, reported: TemplateReported, at: datetime
    ) -> None:
        """Note what is newer than what is known, each of its facts by itself."""
        ...

    async def list_templates(self, *, limit: int, after: UUID | None = None) -> Sequence[Template]:
        """Templates in order of their ids."""
        ...

    async def find_state(self, channel_id: UUID) -> ChannelState | None:
        """The channel's state, locked until the transaction ends."""
        ...

    async def save_state(self, channel_id: UUID, state: ChannelState) -> None:
        """Store it, and nothing else of the channel."""
        ...
