"""What waits in the whole installation, for those who run it: numbers, nothing of any tenant."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Executable, Row, extract, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from whatsapp.domain.send_queue import LANES, RETRY_LANES, UNKNOWN_LANES, WAITING_LANES
from whatsapp.infrastructure.persistence.models import SendQueueModel, WebhookInboxModel

_NAMES: Final = ("high", "normal", "bulk")
_LANES: Final = {
    **{base + lane: _NAMES[lane] for base in (0, WAITING_LANES) for lane in LANES},
    **{RETRY_LANES + lane: "retrying" for lane in LANES},
    **{UNKNOWN_LANES + lane: "unknown" for lane in LANES},
}
_Q, _I = SendQueueModel, WebhookInboxModel
_OLDEST_DUE: Final = func.min(_Q.due_at).filter(_Q.due_at <= func.now())
_QUEUE: Final = select(
    _Q.lane,
    func.count().label("entries"),
    func.coalesce(extract("epoch", func.now() - _OLDEST_DUE), 0).label("lag"),
).group_by(_Q.lane)
_INBOX: Final = select(
    func.count().label("entries"),
    func.coalesce(extract("epoch", func.now() - func.min(_I.received_at)), 0).label("lag"),
).select_from(_I)


class Waiting(NamedTuple):
    """How many wait, and for how long the oldest has."""

    entries: int
    lag: timedelta


class SQLAlchemyBacklog:
    """Counts as the roles that see the queue and the inbox; each method is one statement.

    Counting walks over all that waits: ask every few seconds, not for every message.
    """

    def __init__(self, *, dispatch: AsyncEngine, process: AsyncEngine) -> None:
        self._dispatch, self._process = dispatch, process

    async def count_queue(self) -> Mapping[str, Waiting]:
        """Messages that have not settled, by lane, those that wait for a retry or proof apart.

        The lag is that of the oldest one that is due.
        """
        found: dict[str, list[Any]] = {name: [] for name in dict.fromkeys(_LANES.values())}
        for row in await _rows(self._dispatch, _QUEUE):
            found[_LANES[row.lane]].append(row)
        return {name: _together(rows) for name, rows in found.items()}

    async def count_inbox(self) -> Waiting:
        """Webhook bodies that are not processed yet."""
        return _together(await _rows(self._process, _INBOX))


def _together(rows: Sequence[Any]) -> Waiting:
    lag = max((float(row.lag) for row in rows), default=0.0)
    return Waiting(sum(row.entries for row in rows), timedelta(seconds=lag))


async def _rows(engine: AsyncEngine, query: Executable) -> Sequence[Row[Any]]:
    async with translated(), engine.connect() as connection:
        found = await connection.execute(query)
    return list(found)
