"""The webhook inbox: verified bodies, durable before Meta's 200, until they are processed."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from shared.kernel.ids import time_of


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One body as it came, leased to this processor; `attempts` counts this one too.

    `origin_id` is the entry in which it first came, where it was put aside since.
    """

    id: UUID
    app_id: str
    body: bytes = field(repr=False)
    attempts: int
    lease_token: UUID
    origin_id: UUID | None = None

    @property
    def came_as(self) -> UUID:
        """The same for everything that came in one body, however often it is processed."""
        return self.origin_id or self.id

    @property
    def came_at(self) -> datetime:
        """When it came in first."""
        return time_of(self.came_as)


@dataclass(frozen=True, slots=True)
class Route:
    """Whose number it is."""

    tenant_id: UUID
    channel_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownChannel:
    """A verified channel as intake knows it; `app_id` is the only app that may speak of it."""

    route: Route
    phone_number_id: str
    account_id: str | None
    app_id: str | None


class Routes:
    """Whose a number or an account is. One that several tenants have is each of theirs."""

    def __init__(self, channels: Sequence[KnownChannel]) -> None:
        self._by_number = defaultdict[str, list[KnownChannel]](list)
        self._by_account = defaultdict[str, list[KnownChannel]](list)
        for channel in channels:
            self._by_number[channel.phone_number_id].append(channel)
            if channel.account_id is not None:
                self._by_account[channel.account_id].append(channel)

    def of(self, *, app_id: str, number: str | None, account: str | None) -> Sequence[Route]:
        """The channels that a report is about: by number, or else all of the account."""
        found: Sequence[KnownChannel] = ()
        if number is not None:
            found = self._by_number.get(number, ())
        elif account is not None:
            found = self._by_account.get(account, ())
        return [known.route for known in found if known.app_id in {None, app_id}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An element that nobody could be given, with the reason, and with what it is about.

    `raw` is the element as Meta wrote it, `body` a webhook that says nothing else; None where there
    cannot be one.
    """

    inbox_id: UUID
    app_id: str
    reason: str
    phone_number_id: str | None
    raw: bytes = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    field_name: str | None = None
    waba_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOver:
    """A quarantined element as it lies there; `requeues` is how often it was tried anew in vain."""

    id: UUID
    element: Quarantined
    put_aside_at: datetime
    requeues: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOverFilter:
    """Which quarantined elements are meant; everything given must hold, nothing given means all."""

    ids: Collection[UUID] = ()
    reason: str | None = None
    app_id: str | None = None
    phone_number_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """How many elements lie in quarantine for one reason, and since when."""

    reason: str
    field_name: str | None
    number: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many bodies wait to be processed, and for how long the oldest has."""

    number: int
    oldest: timedelta


class WebhookQuarantine(Protocol):
    """What nobody could be given, of all tenants and none."""

    async def find_time(self) -> datetime:
        """The time by the clock that puts things aside."""
        ...

    async def requeue(self, wanted: LeftOverFilter, *, limit: int) -> int:
        """Move up to `limit` elements back into the inbox, the oldest first; gives how many.

        Each is moved by one caller alone, and is in the one place or in the other whatever ends.
        """
        ...


class WebhookInbox(Protocol):
    """What a processor does with the inbox; it sees bodies and routes, and no tenant's tables."""

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[InboxEntry]:
        """Lease up to `limit` entries, the oldest first; other processors never get the same."""
        ...

    async def read_until(self) -> datetime:
        """Everything that came in before this moment has been processed."""
        ...

    async def routes(self, *, numbers: Collection[str], accounts: Collection[str]) -> Routes:
        """The verified channels of these numbers and accounts."""
        ...

    async def release(self, entries: Sequence[InboxEntry]) -> None:
        """Give leased entries back for anybody, as if never leased."""
        ...

    async def finish(
        self,
        entries: Sequence[InboxEntry],
        quarantined: Sequence[Quarantined],
        *,
        forget: Sequence[InboxEntry] = (),
    ) -> None:
        """Take processed entries out and keep what could not be placed, both or neither.

        The bodies of `forget` are news again when they come again.
        """
        ...

    async def forget_older_than(self, age: timedelta, *, limit: int) -> int:
        """Forget bodies that came so long ago; gives how many."""
        ...
