"""The webhook inbox as intake sees it: something is written down, and nothing can be read back."""

from typing import Final
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database.driver_errors import translated
from shared.kernel.ids import new_id
from whatsapp.infrastructure.persistence.models import WebhookInboxModel

_APPEND: Final = insert(WebhookInboxModel)


class SQLAlchemyWebhookInbox:
    """Appends bodies as the role `tellwire_intake`, which may do nothing else."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def append(self, app_id: str, body: bytes) -> UUID:
        """Write a verified body down, durable when this returns; raises DatabaseUnavailable."""
        entry_id = new_id()
        entry = {"id": entry_id, "app_id": app_id, "body": body}
        async with translated(), self._engine.connect() as connection:
            await connection.execute(_APPEND, entry)
        return entry_id
