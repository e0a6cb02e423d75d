"""The queue of files to move, as whoever works for all tenants sees it."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.engine import alone
from shared.kernel.ids import NIL
from whatsapp.domain.media_repository import MediaJob, MediaJobKind
from whatsapp.infrastructure.persistence.repositories.media_statements import CLAIM


class SQLAlchemyMediaQueue:
    """Leases jobs as the role `tellwire_process`, which sees ids of files and none of them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = alone(engine)

    async def claim(
        self,
        *,
        limit: int,
        per_tenant: int,
        lease: timedelta,
        after: UUID = NIL,
        without: Collection[UUID] = (),
    ) -> Sequence[MediaJob]:
        """Claim up to `limit` due jobs, of each tenant behind `after` at most `per_tenant`.

        Of the tenants in `without` none.
        """
        parameters: dict[str, Any] = {
            "limit": limit,
            "per_tenant": per_tenant,
            "lease": lease,
            "after": after,
            "without": list(without),
            "token": uuid4(),
        }
        async with translated(), self._engine.begin() as connection:
            rows = (await connection.execute(CLAIM, parameters)).all()
        return [
            MediaJob(
                tenant_id=row.tenant_id,
                id=row.id,
                kind=MediaJobKind(row.kind),
                media_id=row.media_id,
                channel_id=row.channel_id,
                attempts=row.attempts,
                lease_token=parameters["token"],
            )
            for row in rows
        ]
