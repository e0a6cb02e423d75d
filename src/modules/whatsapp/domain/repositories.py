"""What the domain asks of storage; SQLAlchemy answers in `infrastructure.persistence`.

Every method works for the tenant of the session it was given, sees no other tenant's rows, and is
one statement. `get_x` gives the thing or None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from shared.kernel.errors import Conflict, TellwireError
from shared.kernel.ids import new_id
from whatsapp.domain.entities import Channel, InboundMessage, OutboundMessage
from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import IdempotencyKey, MessageStatus, Recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """What one request to Meta led to: the message's next status and the evidence.

    `lease_token` is the one under which the attempt was marked; `due_at` is when a retry is due, or
    when an unknown outcome is given up on. `outcome` names the class of the answer. `id` is the
    evidence's own, so that recording it twice keeps it once. `number` is 0 where nothing was sent.
    `recipient` is whom it was sent to, for what an answer says about the person.
    """

    message_id: UUID
    lease_token: UUID
    number: int
    status: MessageStatus
    outcome: str
    started_at: datetime
    finished_at: datetime
    wamid: str | None = None
    failure: FailureReason | None = None
    due_at: datetime | None = None
    recipient: Recipient | None = field(default=None, repr=False)
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """One status of one message as Meta reported it, with our own id if it was echoed."""

    wamid: str
    status: MessageStatus
    occurred_at: datetime
    message_id: UUID | None = None
    attempt: int | None = None
    failure: FailureReason | None = None
    errors: Sequence[Mapping[str, object]] = ()
    pricing: Mapping[str, object] | None = None


class AlreadyReported(Conflict):
    """One of the reports that were said to be new was stored before; nothing was stored."""

    code = "already_reported"
    title = "A report that was said to be new was stored before"


class UnreadableMessage(NamedTuple):
    """A stored row that no message can be made of, and the name of the error that says so."""

    id: UUID
    reason: str


class LateFailure(NamedTuple):
    """That an attempt which Meta had taken failed later; `attempt` is None where nobody knows."""

    message_id: UUID
    attempt: int | None
    failed_at: datetime
    errors: Sequence[FailureReason]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptsRecorded:
    """The messages whose lease still held, and what reports that had waited have failed now.

    `repeated` are those whose same result had been recorded before; they count as held.
    """

    held: frozenset[UUID] = frozenset()
    failed: Sequence[LateFailure] = ()
    repeated: frozenset[UUID] = frozenset()


class RecordedReport(NamedTuple):
    """A report that was new: its `position` among what was given, and what it is about.

    `message_id` is None while nobody knows the message; `moved` says whether it has that status
    now because of this report, `overtaken` whether a report that had waited for its wamid moved it.
    `attempt` is the one that it is about, as far as that is known of one that has moved it.
    """

    position: int
    message_id: UUID | None
    moved: bool
    overtaken: bool = False
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class StatusesRecorded:
    """The reports that were new, in the order given, and how many messages were found doubled.

    `failed` is what reports that had waited for their wamid have failed now.
    """

    reports: Sequence[RecordedReport] = ()
    doubled: int = 0
    failed: Sequence[LateFailure] = ()

    @property
    def kept(self) -> int:
        """How many reports were new."""
        return len(self.reports)

    @property
    def moved(self) -> int:
        """How many messages moved."""
        return sum(report.moved for report in self.reports)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revival:
    """A message that had ended and goes again: at once, because somebody asks for it.

    With an `attempt` it is the failure of that one, which Meta reported at `failed_at`; it passes,
    and the message goes again at `due_at` by itself. Without a `due_at` it is not the message's
    failure but its channel's: the message has its old place in the queue again.
    """

    message: OutboundMessage
    attempt: int | None = None
    failed_at: datetime | None = None
    due_at: datetime | None = None


class FailedAttempt(NamedTuple):
    """An attempt that failed in a way that passes: by Meta's code, or without one by its kind."""

    message_id: UUID
    number: int
    kind: str
    code: int | None


class ChannelRepository(Protocol):
    """The channels of one tenant.

    A stored token may not open (tampered with, or its key is gone). `get_by_id` raises
    SecretUnreadable then; the others give the channel with a token that raises when it is used.
    """

    async def get_by_id(self, entity_id: UUID) -> Channel | None:
        """The channel with this id, fit to send with."""
        ...

    async def find(self, channel_id: UUID, *, for_change: bool = False) -> Channel | None:
        """The channel with this id, whatever its token; locked, if it is to be changed."""
        ...

    async def find_many(self, channel_ids: Sequence[UUID]) -> Sequence[Channel]:
        """Those of the channels that are there, in no particular order."""
        ...

    async def get_by_phone_number_id(self, phone_number_id: str) -> Channel | None:
        """The channel of the number that Meta knows by this id."""
        ...

    async def get_by_organization(self, organization_id: UUID) -> Sequence[Channel]:
        """All channels of the tenant; another organisation than the session's has none to show."""
        ...

    async def get_active_channels(self) -> Sequence[Channel]:
        """The channels that may send: verified and active."""
        ...

    async def rest(self, channel_id: UUID, duration: timedelta) -> None:
        """Keep that the number may not send for `duration` from now; never shortens a rest."""
        ...

    async def list(self, *, limit: int = 100, after: UUID | None = None) -> Sequence[Channel]:
        """Channels in order of their ids, from behind `after`."""
        ...

    async def add(self, entity: Channel) -> Channel:
        """Store a new channel."""
        ...

    async def update(self, entity: Channel) -> Channel:
        """Store what changed."""
        ...


class MessageRepository(Protocol):
    """The messages of one tenant."""

    async def save_inbound(self, message: InboundMessage) -> InboundMessage:
        """Store it once per channel and wamid; a repetition gives the stored one, `replayed`."""
        ...

    async def save_outbound(self, message: OutboundMessage) -> OutboundMessage:
        """Store and queue it once per idempotency key; a repetition gives the stored one."""
        ...

    async def save_outbound_many(
        self, messages: Sequence[OutboundMessage]
    ) -> Sequence[OutboundMessage]:
        """As `save_outbound` for many, in one statement and in their order."""
        ...

    async def accept_outbound(
        self, messages: Sequence[OutboundMessage], *, at: datetime
    ) -> Sequence[OutboundMessage | TellwireError]:
        """As `save_outbound_many`, each as its channel and window take it; a result for each."""
        ...

    async def get_inbound_by_wa_id(self, wamid: str) -> InboundMessage | None:
        """The inbound message that Meta calls `wamid`."""
        ...

    async def get_outbound_by_id(self, message_id: UUID) -> OutboundMessage | None:
        """The outbound message with this id."""
        ...

    async def get_outbound_by_wa_id(self, wamid: str) -> OutboundMessage | None:
        """The outbound message that Meta calls `wamid`."""
        ...

    async def get_outbound_by_idempotency_key(self, key: IdempotencyKey) -> OutboundMessage | None:
        """The outbound message that was stored under `key`."""
        ...

    async def get_failed_for_retry(self, limit: int = 100) -> Sequence[OutboundMessage]:
        """What failed in a way that passes and is due now, locked until the transaction ends."""
        ...

    async def requeue_due(self, *, at: datetime, limit: int = 200) -> int:
        """Put what is due for a retry into the queue again; gives how many it was."""
        ...

    async def update_outbound(self, message: OutboundMessage) -> OutboundMessage:
        """Store its status if that is a step forward; gives what is stored afterwards."""
        ...

    async def cancel_outbound(self, message_id: UUID, at: datetime) -> OutboundMessage:
        """Take a message back that no worker holds; InvalidTransition once it is on its way."""
        ...

    async def send_again(self, revivals: Sequence[Revival], *, at: datetime) -> frozenset[UUID]:
        """Queue what had ended, each once; gives the ids of those for which it was done."""
        ...

    async def count_alike(self, failed: Sequence[FailedAttempt]) -> Sequence[int]:
        """For each, how many earlier attempts failed like it since its message last ended."""
        ...

    async def refusals(
        self, messages: Sequence[OutboundMessage], *, at: datetime
    ) -> Mapping[UUID, TellwireError]:
        """Why channel or window would not take these stored messages; missing are the others."""
        ...

    async def load_for_sending(
        self, ids: Sequence[UUID]
    ) -> Sequence[OutboundMessage | UnreadableMessage]:
        """The messages that a worker has claimed, in no particular order."""
        ...

    async def record_attempts(self, results: Sequence[AttemptResult]) -> AttemptsRecorded:
        """Settle what requests led to, fenced by each lease."""
        ...

    async def expect_answers(self, channel_id: UUID, wamids: Sequence[str]) -> None:
        """Wait for results of these wamids that are being recorded, and keep later ones waiting."""
        ...

    async def record_statuses(
        self, channel_id: UUID, reports: Sequence[StatusReport], *, all_new: bool = False
    ) -> StatusesRecorded:
        """Keep each report once, move messages forward, note what turns out to be sent twice.

        Of reports that are `all_new` none may be stored: otherwise it raises AlreadyReported.
        """
        ...

    async def step_aside(self, channel_id: UUID, *, limit: int = 1000) -> int:
        """Move what stands behind an earlier entry out of the way of claims; gives how many."""
        ...

    async def step_forward(self, channel_id: UUID) -> int:
        """Undo it, for a channel that keeps no order any more; gives how many it was."""
        ...

    async def settle_abandoned(
        self,
        channel_id: UUID,
        *,
        unknown_for: timedelta,
        overhang: timedelta = timedelta(),
        limit: int = 1000,
    ) -> int:
        """Hold as unknown what a dead worker had marked; gives how many."""
        ...

    async def give_up_unknown(
        self,
        channel_id: UUID,
        *,
        at: datetime,
        unknown_for: timedelta,
        heard_until: datetime | None = None,
        limit: int = 1000,
    ) -> Sequence[UUID]:
        """Do by the channel's policy what silence leads to; gives those for which it came to it."""
        ...

    async def expire_unsent(
        self, channel_id: UUID, *, at: datetime, limit: int = 500
    ) -> Sequence[UUID]:
        """End as expired what waits past its time and no worker holds; gives which it was."""
        ...
