"""Messages in PostgreSQL: inbound, outbound, what became of each attempt and what Meta reported."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.arguments import all_given, given, limit_given
from shared.infrastructure.database.driver_errors import ConstraintErrors
from shared.infrastructure.database.signatures import looks_at_arguments
from shared.kernel.errors import TellwireError
from whatsapp.domain.entities import (
    ChannelNotFound,
    InboundMessage,
    InvalidTransition,
    MessageNotFound,
    OutboundMessage,
)
from whatsapp.domain.repositories import (
    AlreadyReported,
    AttemptResult,
    AttemptsRecorded,
    FailedAttempt,
    Revival,
    StatusesRecorded,
    StatusReport,
    UnreadableMessage,
)
from whatsapp.domain.value_objects import IdempotencyKey
from whatsapp.infrastructure.persistence.models import OutboundMessageModel
from whatsapp.infrastructure.persistence.repositories import accept_statements, queue_statements
from whatsapp.infrastructure.persistence.repositories import message_statements as sql
from whatsapp.infrastructure.persistence.repositories import report_statements as report_sql
from whatsapp.infrastructure.persistence.repositories import retry_statements as retry_sql
from whatsapp.infrastructure.persistence.repositories.accept_rows import (
    MAX_BATCH,
    accept_parameters,
    accepted,
    batch_of,
    judge_parameters,
    refusal_of,
    saved,
)
from whatsapp.infrastructure.persistence.repositories.conversation_statements import SAVE_INBOUND
from whatsapp.infrastructure.persistence.repositories.message_rows import (
    WAITING,
    arrays_of,
    attempt_arrays,
    attempts_recorded_of,
    columns_of,
    inbound_of,
    inbound_parameters,
    outbound_of,
    readable,
    sources_for,
)
from whatsapp.infrastructure.persistence.repositories.report_rows import (
    doubles_among,
    recorded_of,
    report_arrays,
    settled_by,
)


@looks_at_arguments()
class SQLAlchemyMessageRepository(SQLAlchemyRepository[OutboundMessage, OutboundMessageModel]):
    """The tenant's messages; saving an outbound message queues it in the same statement.

    The methods of the base are about outbound messages. `add` and `update` are `save_outbound` and
    `update_outbound`: no message is stored without its queue entry, none moves back.
    """

    model = OutboundMessageModel
    constraint_errors: ClassVar[ConstraintErrors] = {
        "fk_whatsapp_outbound_messages_whatsapp_channels": ChannelNotFound,
        "fk_whatsapp_inbound_messages_whatsapp_channels": ChannelNotFound,
        "fk_whatsapp_status_events_whatsapp_channels": ChannelNotFound,
        "uq_whatsapp_status_events_report": AlreadyReported,
    }

    async def save_outbound(self, message: OutboundMessage) -> OutboundMessage:
        """Store and queue `message`, once per idempotency key; one statement, whatever the race.

        Where the key was there before, the stored message comes back with `replayed` set. Raises
        IdempotencyKeyReused if that one is another message, ChannelNotFound, TenantNotFound.
        """
        parameters = columns_of(message) | {"due_at": message.due_at}
        older = await self._find(sql.SAVE_OUTBOUND, parameters)
        return saved(message, message, older)

    async def add(self, entity: OutboundMessage) -> OutboundMessage:
        """As `save_outbound`."""
        return await self.save_outbound(entity)

    async def update(self, entity: OutboundMessage) -> OutboundMessage:
        """As `update_outbound`."""
        return await self.update_outbound(entity)

    async def get_by_id(self, entity_id: UUID) -> OutboundMessage | None:
        """As `get_outbound_by_id`."""
        return await self.get_outbound_by_id(entity_id)

    async def save_outbound_many(
        self, messages: Sequence[OutboundMessage]
    ) -> Sequence[OutboundMessage]:
        """As `save_outbound` for up to 1000, in one statement; results in the order given.

        A key that comes twice in one batch is stored once. Raises what `save_outbound` raises, for
        the batch as a whole: nothing of it is stored then.
        """
        if not batch_of(messages):
            return []
        # One order for all batches: two of them that share keys wait for, not on, each other.
        firsts = {m.idempotency_key.value: m for m in reversed(messages)}
        ordered = [firsts[key] for key in sorted(firsts)]
        rows: Any = await self._run(sql.SAVE_OUTBOUND_MANY, arrays_of(ordered))
        older = {row.idempotency_key: row for row in rows}
        return [
            saved(m, firsts[m.idempotency_key.value], older.get(m.idempotency_key.value))
            for m in messages
        ]

    async def accept_outbound(
        self, messages: Sequence[OutboundMessage], *, at: datetime
    ) -> Sequence[OutboundMessage | TellwireError]:
        """As `save_outbound_many`, for what each message's channel and window take at `at`.

        Each has a result of its own, in the order given: the stored message, or why it was not
        stored (ChannelNotFound, ChannelNotActive, ServiceWindowClosed, IdempotencyKeyReused). What
        was stored under its key before comes back whatever the channel takes now.
        """
        if not batch_of(messages):
            return []
        firsts = {m.idempotency_key.value: m for m in reversed(messages)}
        ordered = [firsts[key] for key in sorted(firsts)]
        parameters = {"tenant": self.tenant_id} | accept_parameters(ordered, at)
        rows: Any = await self._run(accept_statements.ACCEPT_OUTBOUND, parameters)
        judged = {row.given_key: row for row in rows}
        results = [
            accepted(m, firsts[m.idempotency_key.value], judged.get(m.idempotency_key.value))
            for m in messages
        ]
        # Nothing is stored under the key of one that was refused: another message may have it.
        refused = {key: firsts[key].digest for key, row in judged.items() if row.id is None}
        others = [m for m in messages if refused.get(m.idempotency_key.value, m.digest) != m.digest]
        own = await self._accept_others(others, at) if others else {}
        return [own.get(m.id, result) for m, result in zip(messages, results, strict=True)]

    async def _accept_others(
        self, messages: Sequence[OutboundMessage], at: datetime
    ) -> Mapping[UUID, OutboundMessage | TellwireError]:
        """What becomes of each; in a few statements, however many of them are refused."""
        refusals = await self.refusals(messages, at=at)
        taken = [m for m in messages if m.id not in refusals]
        stored = await self.accept_outbound(taken, at=at)
        return {**refusals, **{m.id: one for m, one in zip(taken, stored, strict=True)}}

    async def get_outbound_by_id(self, message_id: UUID) -> OutboundMessage | None:
        """The outbound message with this id; `sending` while a worker holds it."""
        parameters = {"tenant": self.tenant_id, "id": message_id}
        return self._entity_of(await self._find(sql.GET_BY_ID, parameters))

    async def get_outbound_by_wa_id(self, wamid: str) -> OutboundMessage | None:
        """The outbound message that Meta calls `wamid`."""
        parameters = {"tenant": self.tenant_id, "wamid": wamid}
        return self._entity_of(await self._find(sql.GET_BY_WAMID, parameters))

    async def get_outbound_by_idempotency_key(self, key: IdempotencyKey) -> OutboundMessage | None:
        """The outbound message that was stored under `key`, to answer a repetition with."""
        parameters = {"tenant": self.tenant_id, "key": given(IdempotencyKey, key, "key").value}
        return self._entity_of(await self._find(sql.GET_BY_KEY, parameters))

    async def get_failed_for_retry(self, limit: int = 100) -> Sequence[OutboundMessage]:
        """Up to `limit` messages whose retry is due, the longest due first.

        They stay locked until the transaction ends, and other workers skip them: `requeue()` and
        `update_outbound()` them before it commits.
        """
        parameters = {"tenant": self.tenant_id, "limit": limit_given(limit, MAX_BATCH)}
        rows: Any = await self._run(sql.FAILED_FOR_RETRY, parameters)
        return [self._to_entity(row) for row in rows]

    async def requeue_due(self, *, at: datetime, limit: int = 200) -> int:
        """Put up to `limit` messages whose retry is due into the queue again; gives how many.

        None holds up another: what a report has moved on meanwhile leaves the queue, what cannot be
        read is for its worker to fail, what another transaction holds is left to a later call.
        """
        parameters: dict[str, Any] = {"tenant": self.tenant_id, "limit": limit, "at": at}
        return len((await self._execute(retry_sql.REQUEUE_DUE, parameters)).all())

    async def update_outbound(self, message: OutboundMessage) -> OutboundMessage:
        """Store how far `message` has come, its queue entry with it; gives what is stored then.

        A stale update never moves a status back: what is stored comes back unchanged in status.
        MessageNotFound where this tenant has no such message.
        """
        row: Any = (await self._run(sql.UPDATE_OUTBOUND, self._update(message))).one_or_none()
        if row is None:
            raise MessageNotFound
        return self._to_entity(row)

    def _update(self, message: OutboundMessage) -> dict[str, Any]:
        values = columns_of(message)
        names = ("id", "status", "status_at", "next_attempt_at", "attempts", "wamid", "details")
        failure = ("failure_code", "failure_title", "failure_details")
        state, lanes = WAITING.get(message.status, (None, None))
        return {name: values[name] for name in (*names, *failure)} | {
            "tenant": self.tenant_id,
            "sources": [status.value for status in sources_for(message)],
            "state": state,
            "lane": None if lanes is None else message.priority.lane + lanes,
            "due_at": message.due_at,
        }

    async def cancel_outbound(self, message_id: UUID, at: datetime) -> OutboundMessage:
        """Take a message back that no worker holds; InvalidTransition once it is on its way."""
        parameters: dict[str, Any] = {"tenant": self.tenant_id, "id": message_id, "at": at}
        row: Any = (await self._run(sql.CANCEL_OUTBOUND, parameters)).one_or_none()
        if row is None:
            raise InvalidTransition("Only a message that waits to be sent can be cancelled")
        return self._to_entity(row)

    async def send_again(self, revivals: Sequence[Revival], *, at: datetime) -> frozenset[UUID]:
        """Queue what had ended, each once; gives the ids of those for which it was done.

        Left out is what has not ended, went on meanwhile, or is with a worker.
        """
        if not revivals:
            return frozenset()
        parameters = {"tenant": self.tenant_id} | retry_sql.send_again_parameters(revivals, at)
        return frozenset((await self._run(retry_sql.SEND_AGAIN, parameters)).scalars())

    async def count_alike(self, failed: Sequence[FailedAttempt]) -> Sequence[int]:
        """For each, how many earlier attempts failed like it since its message last ended.

        Alike is what failed by the same code of Meta's, at once or later, or without one in the
        same way. A failure without a next attempt is an end: what follows began anew.
        """
        if not failed:
            return []
        parameters = {"tenant": self.tenant_id} | retry_sql.count_alike_parameters(failed)
        return [row.alike for row in await self._fetch(retry_sql.COUNT_ALIKE, parameters)]

    async def refusals(
        self, messages: Sequence[OutboundMessage], *, at: datetime
    ) -> Mapping[UUID, TellwireError]:
        """Why channel or window would not take these at `at`; those that it names not, they would.

        ChannelNotActive, ServiceWindowClosed, MarketingStopped, as when a message is accepted.
        """
        if not messages:
            return {}
        rows = await self._fetch(
            accept_statements.JUDGE, {"tenant": self.tenant_id} | judge_parameters(messages, at)
        )
        judged = ((row.id, refusal_of(row)) for row in rows)
        return {message_id: refusal for message_id, refusal in judged if refusal is not None}

    async def load_for_sending(
        self, ids: Sequence[UUID]
    ) -> Sequence[OutboundMessage | UnreadableMessage]:
        """The messages that a worker has claimed, in no particular order.

        A row that no message can be made of holds up none of the others.
        """
        parameters = {"tenant": self.tenant_id, "ids": list(all_given(UUID, ids, "ids"))}
        rows = await self._fetch(sql.LOAD_FOR_SENDING, parameters)
        return [readable(row, row.known_number) for row in rows]

    async def record_attempts(self, results: Sequence[AttemptResult]) -> AttemptsRecorded:
        """Settle what requests led to, fenced by each lease; gives the ids whose lease still held.

        Where a report that had waited for an answer's wamid has failed its message, that is given
        as well: what follows from it is the caller's.

        A result whose lease was lost, since somebody else has the message now, is kept as evidence
        in the history of attempts and changes nothing else. The same result again changes nothing.
        """
        rows = await self._fetch(
            sql.RECORD_ATTEMPTS,
            attempt_arrays(results) | {"tenant": self.tenant_id},
        )
        return attempts_recorded_of(rows)

    async def expect_answers(self, channel_id: UUID, wamids: Sequence[str]) -> None:
        """Wait for whoever is storing what these wamids are of, and keep others waiting.

        Until the transaction ends; for reports that do not carry our id, before they are recorded.
        """
        parameters = {"channel": channel_id, "wamids": list(all_given(str, wamids, "wamids"))}
        await self._run(report_sql.EXPECT_ANSWERS, parameters)

    async def record_statuses(
        self, channel_id: UUID, reports: Sequence[StatusReport], *, all_new: bool = False
    ) -> StatusesRecorded:
        """Keep each report once and move each message to the furthest, never back.

        Repetitions change nothing. A report about a second copy of a message that Meta sent already
        is noted among its attempts as a duplicate, once.

        Whoever says that they are `all_new` saves a twentieth; where they are not, AlreadyReported
        is raised and the transaction has failed: begin it anew without saying so.
        """
        arrays, of = report_arrays(reports), {"tenant": self.tenant_id, "channel": channel_id}
        statement = report_sql.RECORD_NEW_STATUSES if all_new else report_sql.RECORD_STATUSES
        rows = await self._fetch(statement, of | arrays)
        if ids := settled_by(rows):
            await self._fetch(report_sql.SETTLE_REPORTED, of | {"ids": ids})
        doubles = doubles_among(arrays, rows)
        doubled = await self._fetch(report_sql.NOTE_DOUBLES, of | doubles) if doubles else ()
        return recorded_of(arrays, rows, doubled=len(doubled))

    async def step_aside(self, channel_id: UUID, *, limit: int = 1000) -> int:
        """Move due entries behind an earlier one to their recipient out of the way of claims."""
        parameters = {"tenant": self.tenant_id, "channel": channel_id, "limit": limit}
        return len((await self._execute(queue_statements.STEP_ASIDE, parameters)).all())

    async def step_forward(self, channel_id: UUID) -> int:
        """Undo it, for a channel that keeps no order any more."""
        of = {"tenant": self.tenant_id, "channel": channel_id}
        return len((await self._execute(queue_statements.STEP_FORWARD, of)).all())

    async def settle_abandoned(
        self,
        channel_id: UUID,
        *,
        unknown_for: timedelta,
        overhang: timedelta = timedelta(),
        limit: int = 1000,
    ) -> int:
        """Hold as unknown what a worker marked and then lost its lease of; gives how many.

        What Meta has reported on meanwhile leaves the queue instead. No request leaves in the last
        `overhang` of a lease, so that silence counts from before it.

        Looks at the `limit` entries of each lane that have been due the longest: a marked entry is
        among them, because entries are given out in that order.
        """
        parameters: dict[str, Any] = {"tenant": self.tenant_id, "channel": channel_id}
        parameters |= {"unknown_for": unknown_for, "overhang": overhang, "limit": limit}
        return len((await self._run(sql.SETTLE_ABANDONED, parameters)).all())

    async def give_up_unknown(
        self,
        channel_id: UUID,
        *,
        at: datetime,
        unknown_for: timedelta,
        heard_until: datetime | None = None,
        limit: int = 1000,
    ) -> Sequence[UUID]:
        """Do what the channel's policy says about what silence has not settled; gives their ids.

        Silence counts for `unknown_for` from the moment in which a report about a later message of
        the number has come in, and up to `heard_until` (now by default), since what Meta reported
        later may not have been read yet. Until then the message stays unknown, and holds up nobody.
        """
        parameters: dict[str, Any] = {"tenant": self.tenant_id, "channel": channel_id}
        parameters |= {"at": at, "unknown_for": unknown_for, "heard_until": heard_until}
        parameters["limit"] = limit
        return (await self._run(sql.GIVE_UP_UNKNOWN, parameters)).scalars().all()

    async def expire_unsent(
        self, channel_id: UUID, *, at: datetime, limit: int = 500
    ) -> Sequence[UUID]:
        """End as expired what waits past its `expires_at` and no worker holds; gives their ids."""
        parameters = {"tenant": self.tenant_id, "channel": channel_id, "at": at, "limit": limit}
        return (await self._run(sql.EXPIRE_UNSENT, parameters)).scalars().all()

    async def save_inbound(self, message: InboundMessage) -> InboundMessage:
        """Store it once per channel and wamid; a repetition gives the stored one, `replayed`.

        The first time, the sender's conversation is opened or goes on in the same statement; its
        `conversation_ids` are to be merged where they are several.
        Raises ChannelNotFound, TenantNotFound.
        """
        row: Any = (await self._run(SAVE_INBOUND, inbound_parameters(message))).one()
        stored = inbound_of(row)
        stored.replayed, stored.has_new_names = not row.inserted, row.has_new_names
        stored.conversation_ids = tuple(row.conversation_ids)
        return stored

    async def get_inbound_by_wa_id(self, wamid: str) -> InboundMessage | None:
        """The inbound message that Meta calls `wamid`."""
        parameters = {"tenant": self.tenant_id, "wamid": wamid}
        row = await self._find(sql.GET_INBOUND_BY_WAMID, parameters)
        return None if row is None else inbound_of(row)

    def _entity_of(self, row: Any) -> OutboundMessage | None:
        return None if row is None else self._to_entity(row)

    def _to_entity(self, row: OutboundMessageModel) -> OutboundMessage:
        return outbound_of(row)

    def _to_model(self, entity: OutboundMessage) -> OutboundMessageModel:
        return OutboundMessageModel(**columns_of(entity))
