"""Read-only views of messages: one with its history, and pages of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Select,
    Uuid,
    any_,
    bindparam,
    case,
    func,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute

from shared.infrastructure.database.signatures import looks_at_arguments
from whatsapp.application.message_views import (
    AttemptView,
    MessageFilter,
    MessageHistory,
    MessagePage,
    QueueDepth,
    StatusView,
)
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.send_queue import LANES, RETRY_LANES, UNKNOWN_LANES, WAITING_LANES
from whatsapp.domain.value_objects import DEAD_LETTERS, MessageStatus, PhoneNumber
from whatsapp.infrastructure.persistence.models import (
    MessageAttemptModel,
    OutboundMessageModel,
    SendQueueModel,
    StatusEventModel,
)
from whatsapp.infrastructure.persistence.repositories.message_repository import (
    SQLAlchemyMessageRepository,
)

MAX_PAGE: Final = 1000
MAX_LOOKED_AT: Final = 5000
"""How many messages one page may look at: no index serves status or recipient, which would make
every message dearer to store; a filter that matches little gives short pages instead."""
MAX_HISTORY: Final = 500
_IDS: Final = ARRAY(Uuid())
_HELD: Final = ("leased", "dispatching")

_M = OutboundMessageModel
_Q = SendQueueModel


@looks_at_arguments()
class SQLAlchemyMessageViews(SQLAlchemyMessageRepository):
    """A tenant's messages as its people look them up."""

    async def get_history(self, message_id: UUID) -> MessageHistory | None:
        """The message with its attempts and statuses, oldest first, at most 500 of each."""
        message = await self.get_outbound_by_id(message_id)
        if message is None:
            return None
        attempts = await self._execute(
            self._about(MessageAttemptModel, message_id).order_by(
                MessageAttemptModel.number, MessageAttemptModel.started_at
            )
        )
        statuses = await self._execute(
            self._about(StatusEventModel, message_id).order_by(
                StatusEventModel.occurred_at, StatusEventModel.id
            )
        )
        return MessageHistory(
            message,
            [_attempt(row) for row in attempts.scalars()],
            [_status(row) for row in statuses.scalars()],
        )

    def _about(
        self, model: type[MessageAttemptModel] | type[StatusEventModel], message_id: UUID
    ) -> Select[Any]:
        return (
            select(model)
            .where(model.tenant_id == self.tenant_id, model.message_id == message_id)
            .limit(MAX_HISTORY)
        )

    async def count_queue(self, channel_id: UUID) -> QueueDepth:
        """How many messages of the channel have not settled; walks over all of them."""
        query = (
            select(_Q.lane, func.count().label("entries"))
            .where(_Q.tenant_id == self.tenant_id, _Q.channel_id == channel_id)
            .group_by(_Q.lane)
        )
        counts = {row.lane: row.entries for row in await self._execute(query)}

        def of(base: int) -> int:
            return sum(counts.get(base + lane, 0) for lane in LANES)

        high, normal, bulk = (counts.get(x, 0) + counts.get(x + WAITING_LANES, 0) for x in LANES)
        return QueueDepth(
            high=high,
            normal=normal,
            bulk=bulk,
            retrying=of(RETRY_LANES),
            unknown=of(UNKNOWN_LANES),
        )

    async def list_outbound(
        self, wanted: MessageFilter, *, limit: int, before: UUID | None = None
    ) -> MessagePage:
        """Up to `limit` (at most 1000) messages older than `before`, newest first.

        Ids carry the time of acceptance, so that times and cursors are one range of the key.
        """
        limit = min(limit, MAX_PAGE)
        reach = MAX_LOOKED_AT if _is_narrow(wanted) else limit + 1
        looked_at = self._looked_at(wanted, before).limit(reach).cte("looked_at")
        query = (
            select(looked_at)
            .where(*_matches(wanted, looked_at.c))
            .order_by(looked_at.c.id.desc())
            .limit(limit + 1)
        )
        rows: list[Any] = list(await self._execute(query))
        messages = [self._to_entity(row) for row in rows[:limit]]
        if len(rows) > limit:
            return MessagePage(messages, messages[-1].id)
        if not _is_narrow(wanted):
            return MessagePage(messages, None)
        return MessagePage(messages, (await self._execute(_last_of(looked_at))).scalar())

    async def get_outbound_many(self, ids: Sequence[UUID]) -> Sequence[OutboundMessage]:
        """Those of the messages with these ids that are there, in no particular order."""
        query = select(*_shown_columns()).where(
            _M.tenant_id == self.tenant_id, _M.id == any_(bindparam("ids", list(ids), _IDS))
        )
        rows: list[Any] = list(await self._execute(query))
        return [self._to_entity(row) for row in rows]

    def _looked_at(self, wanted: MessageFilter, before: UUID | None) -> Select[Any]:
        query = (
            select(*_shown_columns())
            .where(_M.tenant_id == self.tenant_id, *_range(wanted, before, _M.id))
            .order_by(_M.id.desc())
        )
        if wanted.channel_id is not None:
            query = query.where(_M.channel_id == wanted.channel_id)
        return query


def _shown_columns() -> list[ColumnElement[Any]]:
    return [
        _shown_status().label("status") if column.name == "status" else column
        for column in _M.__table__.c
    ]


def _shown_status() -> ColumnElement[str]:
    """The status, `sending` while a worker holds the queue entry.

    Written as a scalar subquery: a join, PostgreSQL would gladly do by reading the whole queue.
    """
    state = (
        select(_Q.state)
        .where(_Q.tenant_id == _M.tenant_id, _Q.id == _M.id)
        .correlate(_M)
        .scalar_subquery()
    )
    held = (_M.status == MessageStatus.QUEUED.value) & state.in_(_HELD)
    return case((held, MessageStatus.SENDING.value), else_=_M.status)


def _last_of(looked_at: CTE) -> Select[Any]:
    """The id behind which the next page goes on looking; none if this page saw everything."""
    return select(looked_at.c.id).order_by(looked_at.c.id.desc()).offset(MAX_LOOKED_AT - 1).limit(1)


def _is_narrow(wanted: MessageFilter) -> bool:
    """Whether the filter may leave out messages that were looked at."""
    given = (wanted.status, wanted.recipient, wanted.code)
    return wanted.is_dead or any(one is not None for one in given)


def _range(
    wanted: MessageFilter, before: UUID | None, column: InstrumentedAttribute[UUID]
) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if before is not None:
        bounds.append(column < before)
    if wanted.created_from is not None:
        bounds.append(column >= _first_id_at(wanted.created_from))
    if wanted.created_before is not None:
        bounds.append(column < _first_id_at(wanted.created_before))
    return bounds


def _first_id_at(moment: datetime) -> UUID:
    """The least UUIDv7 of this millisecond."""
    millis = max(0, int(moment.timestamp() * 1000))
    return UUID(int=min(millis, (1 << 48) - 1) << 80)


def _matches(wanted: MessageFilter, columns: Any) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.status is not None:
        conditions.append(columns.status == wanted.status.value)
    if wanted.is_dead:
        conditions.append(columns.status.in_([status.value for status in DEAD_LETTERS]))
    if wanted.code is not None:
        conditions.append(columns.failure_code == wanted.code)
    if wanted.recipient is not None:
        to = wanted.recipient
        conditions.append(
            columns.recipient == (to.e164 if isinstance(to, PhoneNumber) else to.value)
        )
    return conditions


def _attempt(row: MessageAttemptModel) -> AttemptView:
    return AttemptView(
        number=row.number,
        started_at=row.started_at,
        finished_at=row.finished_at,
        outcome=row.outcome,
        code=row.code,
        reason=row.reason,
        retry_at=row.retry_at,
    )


def _status(row: StatusEventModel) -> StatusView:
    return StatusView(
        status=MessageStatus(row.status),
        occurred_at=row.occurred_at,
        received_at=row.received_at,
        attempt=row.attempt,
        errors=row.errors or [],
    )
