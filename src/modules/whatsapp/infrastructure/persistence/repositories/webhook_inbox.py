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

from shared.infrastructure.database.direct import fetch_alone
from shared.infrastructure.database.driver_errors import DatabaseUnavailable, translated
from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_ids

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


@dataclass(slots=True, eq=False)
class _Waiting:
    """A body that waits to be written."""

    app_id: str
    body: bytes
    is_my_turn: asyncio.Future[bool]
    """True tells its caller to write it, with what else waits; False that it is written."""


class SQLAlchemyWebhookInbox:
    """Appends bodies as the role `tellwire_intake`, which may do nothing else."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._waiting = deque[_Waiting]()
        self._writers = 0

    async def append(self, app_id: str, body: bytes) -> None:
        """Write a verified body down, durable when this returns; raises DatabaseUnavailable.

        A body that was written lately is not written again; it is durable as well.
        """
        mine = _Waiting(app_id, body, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if self._writers < MOST_WRITERS:
            self._writers += 1
            self._give_turn()
        try:
            if await mine.is_my_turn:
                await self._write(mine)
        finally:
            # Cancelled between being told and hearing it, we still have the turn.
            if not mine.is_my_turn.cancel() and _has_turn(mine):
                self._give_turn()

    def _give_turn(self) -> None:
        """Let the oldest that still waits write; there are fewer writers where nobody does."""
        while self._waiting:
            oldest = self._waiting.popleft()
            if not oldest.is_my_turn.done():  # Whose caller has gone is not written.
                oldest.is_my_turn.set_result(True)
                return
        self._writers -= 1

    async def _write(self, mine: _Waiting) -> None:
        """Write ours and what else waits, as much as fits."""
        await asyncio.sleep(0)  # What comes in at the same moment comes along.
        batch = self._take(mine)
        try:
            await self._insert(batch)
        except BaseException as error:
            # This turn may end for a reason of its own; the others are told that nobody knows.
            told = error if isinstance(error, TellwireError) else DatabaseUnavailable()
            for one in _others(batch):
                one.is_my_turn.set_exception(told)
                one.is_my_turn.exception()  # Looked at, also where nobody waits any more.
            raise
        for one in _others(batch):
            one.is_my_turn.set_result(False)

    def _take(self, mine: _Waiting) -> Sequence[_Waiting]:
        batch, size = [mine], len(mine.body)
        while self._waiting and len(batch) < MAX_TOGETHER and size < MAX_BYTES_TOGETHER:
            one = self._waiting.popleft()
            if not one.is_my_turn.done():
                batch.append(one)
                size += len(one.body)
        return batch

    async def _insert(self, batch: Sequence[_Waiting]) -> None:
        parameters = {
            "ids": new_ids(len(batch)),
            "digests": [digest_of(one.app_id, one.body) for one in batch],
            "app_ids": [one.app_id for one in batch],
            "bodies": [one.body for one in batch],
        }
        async with translated():
            await fetch_alone(self._engine, _APPEND, parameters)


def _has_turn(one: _Waiting) -> bool:
    turn = one.is_my_turn
    return not turn.cancelled() and turn.exception() is None and turn.result()


def _others(batch: Sequence[_Waiting]) -> Sequence[_Waiting]:
    """Those that the writer of a batch has written for, and who still wait."""
    return [one for one in batch[1:] if not one.is_my_turn.done()]
