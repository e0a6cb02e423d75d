"""Deliveries: one event for one endpoint, until it was taken or given up.

Entries of the queue hold no payload. Of each message only its oldest entry is given out for an
endpoint, so that the endpoint hears of one message in order; a lease and its token see to it that
what a worker says after it was overtaken changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from shared.kernel.ids import new_id
from whatsapp.domain.events.endpoint import GIVE_UP_AFTER, WebhookEndpoint
from whatsapp.domain.events.event import Event

_MINUTE: Final = 60
_HOUR: Final = 3600
SCHEDULE_SECONDS: Final = (
    *(5, 30, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR),
    12 * _HOUR,
)
"""How long after each failure the next attempt is made; the last one again and again."""
JITTER: Final = 0.2
GONE: Final = 410
_TOLD_TO_WAIT: Final = frozenset({429, 503})
MAX_EXCERPT_CHARACTERS: Final = 500


class DeliveryOutcome(StrEnum):
    """What an attempt led to."""

    DELIVERED = "delivered"
    RETRYING = "retrying"
    GIVEN_UP = "given_up"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class EndpointWork:
    """An endpoint for which something is due."""

    tenant_id: UUID
    endpoint_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDelivery:
    """A delivery that this worker alone makes until its lease ends; `attempt` counts from 1."""

    tenant_id: UUID
    endpoint_id: UUID
    id: UUID
    event_id: UUID
    lease_token: UUID
    attempt: int
    queued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an endpoint said, or why it said nothing; `error` is one of a few words of ours."""

    status: int | None = None
    error: str | None = None
    excerpt: str = field(default="", repr=False)
    retry_after: timedelta | None = None
    took: timedelta = timedelta()

    @property
    def is_taken(self) -> bool:
        """Whether the endpoint has it."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  # HTTP

    @property
    def is_gone(self) -> bool:
        """Whether the endpoint says that it wants nothing more, ever."""
        return self.status == GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResult:
    """What became of one claimed delivery; `id` is the log's own."""

    claimed: ClaimedDelivery
    outcome: DeliveryOutcome
    answer: Answer
    at: datetime
    due_at: datetime | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One attempt as the log shows it."""

    id: UUID
    event_id: UUID
    event_type: str
    attempt: int
    outcome: DeliveryOutcome
    status: int | None
    error: str | None
    excerpt: str = field(repr=False)
    took: timedelta
    at: datetime
    next_attempt_at: datetime | None


def judge(claimed: ClaimedDelivery, answer: Answer, *, at: datetime, rng: Random) -> DeliveryResult:
    """What follows from an answer: taken, tried again later with jitter, or given up."""
    if answer.is_taken:
        outcome, due_at = DeliveryOutcome.DELIVERED, None
    elif at - claimed.queued_at >= GIVE_UP_AFTER or answer.is_gone:
        outcome, due_at = DeliveryOutcome.GIVEN_UP, None
    else:
        outcome, due_at = DeliveryOutcome.RETRYING, at + _wait(claimed.attempt, answer, rng)
        # One last attempt is made when the time is up, however long the wait would be.
        due_at = min(due_at, claimed.queued_at + GIVE_UP_AFTER)
    return DeliveryResult(claimed=claimed, outcome=outcome, answer=answer, at=at, due_at=due_at)


def _wait(attempt: int, answer: Answer, rng: Random) -> timedelta:
    seconds = SCHEDULE_SECONDS[min(attempt, len(SCHEDULE_SECONDS)) - 1]
    wait = timedelta(seconds=seconds * (1 + JITTER * (2 * rng.random() - 1)))
    if answer.status in _TOLD_TO_WAIT and answer.retry_after is not None:
        longest = timedelta(seconds=SCHEDULE_SECONDS[-1])
        return max(wait, min(answer.retry_after, longest))
    return wait


class Replayed(NamedTuple):
    """How many events were queued again, and the last number looked at where there are more.

    `is_incomplete` where some that were asked for are not there, or not any more.
    """

    queued: int
    last: int | None
    is_incomplete: bool = False


class DeliveryQueue(Protocol):
    """Hands out deliveries of all tenants, each to one worker at a time; no payload is in it."""

    async def find_work(
        self, *, after: tuple[UUID, UUID], limit: int
    ) -> tuple[Sequence[EndpointWork], tuple[UUID, UUID] | None]:
        """The endpoints with something due among the next `limit` by (tenant, endpoint).

        The second value is where to go on from, or None at the end.
        """
        ...

    async def claim(
        self, work: EndpointWork, *, limit: int, lease: timedelta
    ) -> Sequence[ClaimedDelivery]:
        """Claim up to `limit` due deliveries, of each message the oldest alone."""
        ...


class DeliveryLog(Protocol):
    """The deliveries of one tenant: what waits, and what was tried."""

    async def record(self, results: Sequence[DeliveryResult]) -> frozenset[UUID]:
        """Settle claimed deliveries and log the attempts; gives those whose lease still held."""
        ...

    async def bring_forward(self, endpoint_id: UUID) -> int:
        """Make due at once what waits for another attempt; gives how many."""
        ...

    async def clear(self, endpoint_id: UUID) -> int:
        """Take everything out of the queue of an endpoint; gives how many."""
        ...

    async def replay(
        self,
        endpoint: WebhookEndpoint,
        *,
        event_ids: Sequence[UUID] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        limit: int,
        look_at: int,
    ) -> Replayed:
        """Queue events again that the endpoint wants, by id or by the time they were recorded.

        At most `limit` of them, in order, out of the next `look_at` events of that time (a little
        less at its edges); another call goes on behind the last number.
        """
        ...

    async def list_attempts(
        self, endpoint_id: UUID, *, limit: int, before: UUID | None, event_id: UUID | None = None
    ) -> Sequence[DeliveryRecord]:
        """Attempts, newest first, from before `before`."""
        ...


class EventSender(Protocol):
    """Delivers one event to one endpoint."""

    async def send(self, endpoint: WebhookEndpoint, event: Event, *, at: datetime) -> Answer:
        """One request, never repeated or redirected; never raises for the endpoint's sake."""
        ...
