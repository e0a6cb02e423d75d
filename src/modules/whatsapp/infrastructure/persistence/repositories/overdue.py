"""Whose files and events are older than they are to be kept, asked for all tenants at once."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.database.engine import alone
from shared.kernel.ids import NIL
from whatsapp.infrastructure.persistence.repositories import event_statements, media_statements

PAGE: Final = 1000


class SQLAlchemyOverdue:
    """Gives ids of tenants, in order, as the role `tellwire_process`; PAGE tenants by statement.

    No connection is held while the caller sees to a tenant.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = alone(engine)

    def of_files(self, *, before: datetime | None, begun_before: datetime) -> AsyncIterator[UUID]:
        """Those with files that nobody used since `before`, if given, or that are being removed.

        And those with uploads that were begun before `begun_before` and never came to an end.
        """
        times = {"before": before, "begun_before": begun_before}
        return self._tenants(media_statements.WHOSE_ARE_OLD, times)

    def of_events(self, *, before: datetime) -> AsyncIterator[UUID]:
        """Those with events or logged deliveries from before `before`."""
        return self._tenants(event_statements.WHOSE_ARE_OLD, {"before": before})

    async def _tenants(self, statement: TextClause, times: dict[str, Any]) -> AsyncIterator[UUID]:
        after = NIL
        while True:
            parameters = {**times, "after": after, "limit": PAGE}
            async with translated(), self._engine.begin() as connection:
                rows = (await connection.execute(statement, parameters)).all()
            for row in rows:
                if row.is_due:
                    yield row.id
            if len(rows) < PAGE:
                return
            after = rows[-1].id
