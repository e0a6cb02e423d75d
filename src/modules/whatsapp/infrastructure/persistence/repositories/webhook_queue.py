"""The webhook inbox as the processor sees it: bodies to work through, and whose number is whose."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import uuid4

from sqlalchemy import (
    ARRAY,
    TEXT,
    Integer,
    Interval,
    LargeBinary,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from shared.kernel.ids import new_id
from whatsapp.domain.webhook_inbox import InboxEntry, Quarantined, Route

logger = logging.getLogger(__name__)

_CLAIM: Final = text(
    """
    WITH picked AS MATERIALIZED (
        SELECT i.id FROM webhook_inbox i
        WHERE i.lease_until IS NULL OR i.lease_until < now()
        ORDER BY i.id
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_inbox i
    SET lease_token = :token, lease_until = now() + :lease, attempts = i.attempts + 1
    FROM picked WHERE i.id = picked.id
    RETURNING i.id, i.app_id, i.body, i.attempts
    """
).bindparams(
    bindparam("limit", type_=Integer()),
    bindparam("token", type_=Uuid()),
    bindparam("lease", type_=Interval()),
)
_READ_UNTIL: Final = text(
    "SELECT coalesce((SELECT received_at FROM webhook_inbox ORDER BY id LIMIT 1), now())"
)
_ROUTES: Final = text(
    """
    SELECT phone_number_id, tenant_id, id AS channel_id FROM whatsapp_channels
    WHERE phone_number_id = ANY(:numbers) AND verified_at IS NOT NULL
    """
).bindparams(bindparam("numbers", type_=ARRAY(TEXT())))
_RELEASE: Final = text(
    """
    UPDATE webhook_inbox i
    SET lease_token = NULL, lease_until = NULL, attempts = i.attempts - 1
    WHERE i.id = ANY(:ids) AND i.lease_token = :token
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())), bindparam("token", type_=Uuid()))
_FINISH: Final = text(
    """
    WITH gone AS (
        DELETE FROM webhook_inbox WHERE id = ANY(:done) RETURNING id
    )
    INSERT INTO webhook_quarantine (id, inbox_id, app_id, reason, phone_number_id, raw)
    SELECT u.* FROM unnest(
        CAST(:ids AS uuid[]), CAST(:inbox_ids AS uuid[]), CAST(:app_ids AS text[]),
        CAST(:reasons AS text[]), CAST(:numbers AS text[]), CAST(:raws AS bytea[])
    ) AS u(id, inbox_id, app_id, reason, phone_number_id, raw)
    JOIN gone ON gone.id = u.inbox_id  -- Whoever was slow and overtaken keeps nothing twice.
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("inbox_ids", type_=ARRAY(Uuid())),
    bindparam("app_ids", type_=ARRAY(TEXT())),
    bindparam("reasons", type_=ARRAY(TEXT())),
    bindparam("numbers", type_=ARRAY(TEXT())),
    bindparam("raws", type_=ARRAY(LargeBinary())),
    bindparam("done", type_=ARRAY(Uuid())),
)


class SQLAlchemyWebhookQueue:
    """Leases bodies and finds their channels, as the role `tellwire_process`.

    That role sees the inbox, the quarantine and which verified channel has which number; what a
    body says is then stored as the application's role under the channel's own tenant. Every method
    is one statement in a transaction of its own.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[InboxEntry]:
        """Lease up to `limit` bodies, the oldest first; processors never share one."""
        parameters: dict[str, Any] = {"limit": limit, "token": uuid4(), "lease": lease}
        async with translated(), self._engine.connect() as connection:
            rows = (await connection.execute(_CLAIM, parameters)).all()
        token = parameters["token"]
        entries = [
            InboxEntry(row.id, row.app_id, bytes(row.body), row.attempts, token) for row in rows
        ]
        return sorted(entries, key=lambda entry: entry.id)

    async def read_until(self) -> datetime:
        """Everything that came in before this moment has been processed, by the ids' order."""
        async with translated(), self._engine.connect() as connection:
            return cast("datetime", (await connection.execute(_READ_UNTIL)).scalar_one())

    async def routes(self, phone_number_ids: Collection[str]) -> Mapping[str, Sequence[Route]]:
        """The verified channels of each number; a number that nobody has is missing."""
        routes = defaultdict[str, list[Route]](list)
        if not phone_number_ids:
            return routes
        async with translated(), self._engine.connect() as connection:
            rows = await connection.execute(_ROUTES, {"numbers": sorted(phone_number_ids)})
        for row in rows:
            routes[row.phone_number_id].append(Route(row.tenant_id, row.channel_id))
        return routes

    async def release(self, entries: Sequence[InboxEntry]) -> None:
        """Give entries of one claim back, for any processor at once."""
        if not entries:
            return
        parameters = {
            "ids": [entry.id for entry in entries],
            "token": entries[0].lease_token,
        }
        async with translated(), self._engine.connect() as connection:
            await connection.execute(_RELEASE, parameters)

    async def finish(
        self, entries: Sequence[InboxEntry], quarantined: Sequence[Quarantined]
    ) -> None:
        """Take processed bodies out and keep what could not be placed, in one statement."""
        parameters: dict[str, Any] = {
            "done": [entry.id for entry in entries],
            "ids": [new_id() for _ in quarantined],
            "inbox_ids": [element.inbox_id for element in quarantined],
            "app_ids": [element.app_id for element in quarantined],
            "reasons": [element.reason for element in quarantined],
            "numbers": [element.phone_number_id for element in quarantined],
            "raws": [element.raw for element in quarantined],
        }
        async with translated(), self._engine.connect() as connection:
            await connection.execute(_FINISH, parameters)
        if quarantined:
            logger.warning("%d webhook elements put into quarantine", len(quarantined))
