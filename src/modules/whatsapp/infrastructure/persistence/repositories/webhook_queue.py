"""The webhook inbox as the processor sees it: bodies to work through, and whose number is whose."""

import logging
from collections.abc import Collection, Sequence
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

from shared.infrastructure.database.direct import fetch_alone
from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.engine import alone
from shared.kernel.ids import new_ids
from whatsapp.domain.webhook_inbox import (
    InboxEntry,
    KnownChannel,
    Quarantined,
    Route,
    Routes,
    Waiting,
)
from whatsapp.infrastructure.persistence.repositories.storable import storable_text
from whatsapp.infrastructure.persistence.repositories.webhook_inbox import digest_of

MAX_BYTES: Final = 8 * 1024 * 1024
"""Of bodies in one handful: the largest that Meta sends are 3 MB each."""

logger = logging.getLogger(__name__)

_CLAIM: Final = text(
    """
    WITH picked AS MATERIALIZED (
        SELECT i.id, octet_length(i.body) AS size FROM webhook_inbox i
        WHERE i.lease_until IS NULL OR i.lease_until < now()
        ORDER BY i.id
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), fitting AS (
        SELECT id, sum(size) OVER (ORDER BY id) - size AS before FROM picked
    )
    UPDATE webhook_inbox i
    SET lease_token = :token, lease_until = now() + :lease, attempts = i.attempts + 1
    FROM fitting f WHERE i.id = f.id AND f.before < :most_bytes
    RETURNING i.id, i.app_id, i.body, i.attempts, i.origin_id
    """
).bindparams(
    bindparam("limit", type_=Integer()),
    bindparam("most_bytes", MAX_BYTES, type_=Integer()),
    bindparam("token", type_=Uuid()),
    bindparam("lease", type_=Interval()),
)
_READ_UNTIL: Final = text(
    "SELECT coalesce((SELECT received_at FROM webhook_inbox ORDER BY id LIMIT 1), now())"
)
_ROUTES: Final = text(
    """
    SELECT tenant_id, id AS channel_id, phone_number_id, provider_account_id, app_id
    FROM whatsapp_channels
    WHERE phone_number_id = ANY(:numbers) AND verified_at IS NOT NULL
    UNION
    SELECT tenant_id, id, phone_number_id, provider_account_id, app_id
    FROM whatsapp_channels
    WHERE provider_account_id = ANY(:accounts) AND verified_at IS NOT NULL
    ORDER BY tenant_id, channel_id
    """
).bindparams(bindparam("numbers", type_=ARRAY(TEXT())), bindparam("accounts", type_=ARRAY(TEXT())))
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
        DELETE FROM webhook_inbox WHERE id = ANY(:done) RETURNING id, origin_id, requeues
    ), forgotten AS (
        DELETE FROM webhook_digests WHERE digest = ANY(:digests)
    )
    INSERT INTO webhook_quarantine
        (id, inbox_id, app_id, reason, phone_number_id, raw, body, field, waba_id, requeues)
    SELECT u.id, coalesce(gone.origin_id, gone.id), u.app_id, u.reason, u.phone_number_id, u.raw,
           u.body, u.field, u.waba_id, gone.requeues
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:inbox_ids AS uuid[]), CAST(:app_ids AS text[]),
        CAST(:reasons AS text[]), CAST(:numbers AS text[]), CAST(:raws AS bytea[]),
        CAST(:alone AS bytea[]), CAST(:fields AS text[]), CAST(:accounts AS text[])
    ) AS u(id, inbox_id, app_id, reason, phone_number_id, raw, body, field, waba_id)
    JOIN gone ON gone.id = u.inbox_id  -- Whoever was slow and overtaken keeps nothing twice.
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("inbox_ids", type_=ARRAY(Uuid())),
    bindparam("app_ids", type_=ARRAY(TEXT())),
    bindparam("reasons", type_=ARRAY(TEXT())),
    bindparam("numbers", type_=ARRAY(TEXT())),
    bindparam("raws", type_=ARRAY(LargeBinary())),
    bindparam("alone", type_=ARRAY(LargeBinary())),
    bindparam("fields", type_=ARRAY(TEXT())),
    bindparam("accounts", type_=ARRAY(TEXT())),
    bindparam("digests", type_=ARRAY(Uuid())),
    bindparam("done", type_=ARRAY(Uuid())),
)
_FORGET: Final = text(
    """
    DELETE FROM webhook_digests WHERE digest IN (
        SELECT digest FROM webhook_digests WHERE seen_at < now() - :age
        ORDER BY seen_at LIMIT :limit
    )
    """
).bindparams(bindparam("age", type_=Interval()), bindparam("limit", type_=Integer()))
_WAITING: Final = text(
    """
    SELECT count(*) AS number, coalesce(now() - min(received_at), '0') AS oldest
    FROM webhook_inbox
    """
)


class SQLAlchemyWebhookQueue:
    """Leases bodies and finds their channels, as the role `tellwire_process`.

    That role sees the inbox, the quarantine and which verified channel has which number; what a
    body says is then stored as the application's role under the channel's own tenant. Every method
    is one statement in a transaction of its own.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = alone(engine)

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[InboxEntry]:
        """Lease up to `limit` bodies, the oldest first; processors never share one."""
        parameters: dict[str, Any] = {"limit": limit, "token": uuid4(), "lease": lease}
        async with translated():
            rows = await fetch_alone(self._engine, _CLAIM, parameters)
        token = parameters["token"]
        entries = [
            InboxEntry(row.id, row.app_id, bytes(row.body), row.attempts, token, row.origin_id)
            for row in rows
        ]
        return sorted(entries, key=lambda entry: entry.id)

    async def read_until(self) -> datetime:
        """Everything that came in before this moment has been processed, by the ids' order."""
        async with translated(), self._engine.begin() as connection:
            return cast("datetime", (await connection.execute(_READ_UNTIL)).scalar_one())

    async def routes(self, *, numbers: Collection[str], accounts: Collection[str]) -> Routes:
        """The verified channels of these numbers and accounts."""
        if not numbers and not accounts:
            return Routes(())
        parameters = {"numbers": sorted(numbers), "accounts": sorted(accounts)}
        async with translated():
            rows = await fetch_alone(self._engine, _ROUTES, parameters)
        return Routes(
            [
                KnownChannel(
                    route=Route(row.tenant_id, row.channel_id),
                    phone_number_id=row.phone_number_id,
                    account_id=row.provider_account_id,
                    app_id=row.app_id,
                )
                for row in rows
            ]
        )

    async def release(self, entries: Sequence[InboxEntry]) -> None:
        """Give entries of one claim back, for any processor at once."""
        if not entries:
            return
        parameters = {
            "ids": [entry.id for entry in entries],
            "token": entries[0].lease_token,
        }
        async with translated(), self._engine.begin() as connection:
            await connection.execute(_RELEASE, parameters)

    async def finish(
        self,
        entries: Sequence[InboxEntry],
        quarantined: Sequence[Quarantined],
        *,
        forget: Sequence[InboxEntry] = (),
    ) -> None:
        """Take processed bodies out and keep what could not be placed, in one statement."""
        parameters: dict[str, Any] = {
            "done": [entry.id for entry in entries],
            "digests": [digest_of(entry.app_id, entry.body) for entry in forget],
            "ids": new_ids(len(quarantined)),
            "inbox_ids": [element.inbox_id for element in quarantined],
            "app_ids": [element.app_id for element in quarantined],
            "reasons": [element.reason for element in quarantined],
            "numbers": [storable_text(element.phone_number_id) for element in quarantined],
            "raws": [element.raw for element in quarantined],
            "alone": [element.body for element in quarantined],
            "fields": [storable_text(element.field_name) for element in quarantined],
            "accounts": [storable_text(element.waba_id) for element in quarantined],
        }
        async with translated():
            await fetch_alone(self._engine, _FINISH, parameters)
        if quarantined:
            logger.warning("%d webhook elements put into quarantine", len(quarantined))

    async def forget_older_than(self, age: timedelta, *, limit: int) -> int:
        """Forget bodies that came so long ago; gives how many."""
        async with translated(), self._engine.begin() as connection:
            return (await connection.execute(_FORGET, {"age": age, "limit": limit})).rowcount

    async def count_waiting(self) -> Waiting:
        """What waits to be processed."""
        async with translated(), self._engine.begin() as connection:
            row = (await connection.execute(_WAITING)).one()
        return Waiting(number=row.number, oldest=row.oldest)
