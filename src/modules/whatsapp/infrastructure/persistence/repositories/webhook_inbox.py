"""The webhook inbox as intake sees it: something is written down, and nothing can be read back.

What comes in while a transaction is being committed is written together by the next: the disk, not
the number of bodies, decides how many transactions there are.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, TEXT, LargeBinary, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import DatabaseUnavailable, translated
from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_id

MAX_TOGETHER: Final = 200
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


def digest_of(app_id: str, body: bytes) -> UUID:
    """By what a body is known again: half a SHA-256, which only who knows the secret could try."""
    return UUID(bytes=hashlib.sha256(app_id.encode() + b"\0" + body).digest()[:16])


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A body that waits to be written."""

    app_id: str
    body: bytes
    written: asyncio.Future[None]


class SQLAlchemyWebhookInbox:
    """Appends bodies as the role `tellwire_intake`, which may do nothing else."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._waiting = deque[_Waiting]()
        self._turns = asyncio.Semaphore(MOST_WRITERS)

    async def append(self, app_id: str, body: bytes) -> None:
        """Write a verified body down, durable when this returns; raises DatabaseUnavailable.

        A body that was written lately is not written again; it is durable as well.
        """
        mine = _Waiting(app_id, body, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        try:
            # Turns come in the order of the bodies: at ours, nothing older is waiting any more.
            async with self._turns:
                if not mine.written.done():
                    await self._write()
            await mine.written
        finally:
            mine.written.cancel()  # Whose caller has gone is not written, if it is not too late.

    async def _write(self) -> None:
        """Write what waits, as much as fits."""
        batch = self._take()
        if not batch:
            return
        try:
            await self._insert(batch)
        except BaseException as error:
            # This turn may end for a reason of its own; the others are told that nobody knows.
            told = error if isinstance(error, TellwireError) else DatabaseUnavailable()
            for one in batch:
                if not one.written.done():
                    one.written.set_exception(told)
                    one.written.exception()  # Looked at, also where nobody waits any more.
            if not isinstance(error, TellwireError):
                raise
        for one in batch:
            if not one.written.done():
                one.written.set_result(None)

    def _take(self) -> Sequence[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < MAX_TOGETHER and size < MAX_BYTES_TOGETHER:
            one = self._waiting.popleft()
            if not one.written.done():
                batch.append(one)
                size += len(one.body)
        return batch

    async def _insert(self, batch: Sequence[_Waiting]) -> None:
        parameters = {
            "ids": [new_id() for _ in batch],
            "digests": [digest_of(one.app_id, one.body) for one in batch],
            "app_ids": [one.app_id for one in batch],
            "bodies": [one.body for one in batch],
        }
        async with translated(), self._engine.connect() as connection:
            await connection.execute(_APPEND, parameters)
