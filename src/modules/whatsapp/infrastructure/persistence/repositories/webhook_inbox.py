"""The webhook inbox as intake sees it: something is written down, and nothing can be read back.

What comes in while a transaction is being committed is written together by the next: the disk, not
the number of bodies, decides how many transactions there are. A writer keeps its connection while
there is something to write.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ARRAY, TEXT, LargeBinary, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.infrastructure.database.direct import fetch_on
from shared.infrastructure.database.driver_errors import DatabaseUnavailable, translated
from shared.infrastructure.database.engine import alone
from shared.kernel.ids import new_id_texts

MAX_TOGETHER: Final = 50
"""Larger ones let everybody wait for the same commit, while the process has nothing to do."""
MAX_BYTES_TOGETHER: Final = 8 * 1024 * 1024
MOST_WRITERS: Final = 2
"""One commits while the other gathers; more would only cut the same bodies smaller."""

_APPEND: Final = text(
    """
    WITH given AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:digests AS uuid[]),
                             CAST(:app_ids AS text[]), CAST(:bodies AS bytea[]))
            AS g(id, digest, app_id, body)
    ), fresh AS (
        INSERT INTO webhook_digests (digest) SELECT digest FROM given ORDER BY digest
        ON CONFLICT DO NOTHING
        RETURNING digest
    )
    INSERT INTO webhook_inbox (id, app_id, body)
    SELECT DISTINCT ON (g.digest) g.id, g.app_id, g.body
    FROM given g JOIN fresh USING (digest)
    ORDER BY g.digest, g.id
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("digests", type_=ARRAY(Uuid())),
    bindparam("app_ids", type_=ARRAY(TEXT())),
    bindparam("bodies", type_=ARRAY(LargeBinary())),
)


def digest_of(app_id: str, body: bytes) -> str:
    """By what a body is known again: half a SHA-256, which only who knows the secret could try."""
    return hashlib.sha256(app_id.encode() + b"\0" + body).hexdigest()[:32]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A body that waits to be written; whoever gives up waiting cancels `written`."""

    app_id: str
    body: bytes
    written: asyncio.Future[None]


class SQLAlchemyWebhookInbox:
    """Appends bodies as the role `tellwire_intake`, which may do nothing else."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = alone(engine)
        self._waiting = deque[_Waiting]()
        self._tasks = set[asyncio.Task[None]]()
        self._writers = 0
        self._is_gathering = False

    async def append(self, app_id: str, body: bytes) -> None:
        """Write a verified body down, durable when this returns; raises DatabaseUnavailable.

        A body that was written lately is not written again; it is durable as well.
        """
        mine = _Waiting(app_id, body, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if not self._is_gathering and self._writers < MOST_WRITERS:
            self._writers += 1
            self._is_gathering = True
            task = asyncio.create_task(self._write_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await mine.written

    async def _write_all(self) -> None:
        """Write whatever waits until nothing does, as far as possible on one connection."""
        try:
            while batch := await self._gather():
                await self._write(batch)
        finally:
            # In the moment in which nothing waited: what comes now begins a writer of its own.
            self._writers -= 1

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        """Write these, and on the same connection what comes meanwhile; all hear of their end."""
        try:
            async with translated(), self._engine.connect() as connection:
                while batch:
                    await self._insert(connection, batch)
                    _tell(batch)
                    batch = await self._gather()
        except DatabaseUnavailable as error:
            # Whoever waits longer only waits for the same.
            _tell([*batch, *self._waiting], error)
        except Exception as error:  # noqa: BLE001  # raised where each body was given
            _tell(batch, error)
        finally:  # A writer that is cancelled does not know whether these are written.
            _tell(batch, DatabaseUnavailable())

    async def _gather(self) -> Sequence[_Waiting]:
        """As much of what waits as fits together, without what nobody waits for any more."""
        self._is_gathering = True
        try:
            await asyncio.sleep(0)  # What comes in at the same moment comes along.
        finally:
            self._is_gathering = False
        batch, size = list[_Waiting](), 0
        while self._waiting and len(batch) < MAX_TOGETHER and size < MAX_BYTES_TOGETHER:
            one = self._waiting.popleft()
            if not one.written.done():
                batch.append(one)
                size += len(one.body)
        return batch

    async def _insert(self, connection: AsyncConnection, batch: Sequence[_Waiting]) -> None:
        parameters = {
            "ids": new_id_texts(len(batch)),
            "digests": [digest_of(one.app_id, one.body) for one in batch],
            "app_ids": [one.app_id for one in batch],
            "bodies": [one.body for one in batch],
        }
        await fetch_on(connection, _APPEND, parameters)


def _tell(batch: Sequence[_Waiting], error: Exception | None = None) -> None:
    """Tell those that still wait that theirs is written, or why it is not."""
    for one in batch:
        if one.written.done():
            continue
        if error is None:
            one.written.set_result(None)
        else:
            one.written.set_exception(error)
            one.written.exception()  # Looked at, also where nobody waits any more.
