"""Meta apps in PostgreSQL; they belong to the installation, so no tenant is named."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from shared.infrastructure.database import SessionFactory
from shared.infrastructure.database.driver_errors import translated
from shared.infrastructure.encryption import DecryptionFailed
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.infrastructure.persistence.models import MetaAppModel

StoredApp: TypeAlias = MetaApp | DecryptionFailed | None
"""An app as it is stored, why its secrets do not open, or None where there is none."""


class SQLAlchemyMetaAppRepository:
    """The apps that post webhooks here, each method a transaction of its own.

    Secrets and verify tokens are ciphertext in the table and `Secret` outside.
    """

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    async def find_app(self, app_id: str) -> MetaApp | None:
        """The app that Meta knows by this id."""
        query = select(MetaAppModel).where(MetaAppModel.app_id == app_id)
        async with translated(), self._sessions() as session:
            row = (await session.execute(query)).scalar_one_or_none()
        return None if row is None else _to_entity(row)

    async def list_apps(self) -> Sequence[MetaApp]:
        """Every app, by its id."""
        query = select(MetaAppModel).order_by(MetaAppModel.app_id)
        async with translated(), self._sessions() as session:
            return [_to_entity(row) for row in (await session.execute(query)).scalars()]

    async def save_app(self, app: MetaApp) -> None:
        """Store the app, in place of what was stored under its id."""
        values = _values(app)
        query = insert(MetaAppModel).values(app_id=app.app_id, **values)
        replacing = {name: query.excluded[name] for name in values}
        query = query.on_conflict_do_update(index_elements=["app_id"], set_=replacing)
        async with translated(), self._sessions() as session, session.begin():
            await session.execute(query)

    async def change_app(self, app_id: str, change: Callable[[StoredApp], MetaApp]) -> MetaApp:
        """Store what `change` makes of the stored app; others who change it wait for that.

        It is given None where there is no app, and why where its secrets do not open. What it
        raises is raised, and nothing changes.
        """
        taken = select(MetaAppModel).where(MetaAppModel.app_id == app_id).with_for_update()
        while True:
            async with translated(), self._sessions() as session, session.begin():
                found: StoredApp
                try:
                    row = (await session.execute(taken)).scalar_one_or_none()
                    found = None if row is None else _to_entity(row)
                except DecryptionFailed as error:
                    found = error
                app = change(found)
                if await self._stored(session, app, is_new=found is None):
                    return app
            # Somebody else has stored it in between, as a new one: it is to be seen first.

    @staticmethod
    async def _stored(session: AsyncSession, app: MetaApp, *, is_new: bool) -> bool:
        values = _values(app)
        if is_new:
            adding = insert(MetaAppModel).values(app_id=app.app_id, **values)
            added = adding.on_conflict_do_nothing().returning(MetaAppModel.app_id)
            return (await session.execute(added)).first() is not None
        await session.execute(
            update(MetaAppModel)
            .where(MetaAppModel.app_id == app.app_id)
            .values(values)
            .execution_options(synchronize_session=False)
        )
        return True

    async def delete_app(self, app_id: str) -> bool:
        """Forget the app; False if there was none."""
        query = delete(MetaAppModel).where(MetaAppModel.app_id == app_id)
        async with translated(), self._sessions() as session, session.begin():
            return (await session.execute(query.returning(MetaAppModel.app_id))).first() is not None


def _values(app: MetaApp) -> dict[str, Any]:
    return {
        "secret": app.secret,
        "previous_secret": app.previous_secret,
        "verify_token": app.verify_token,
    }


def _to_entity(row: MetaAppModel) -> MetaApp:
    return MetaApp(
        app_id=row.app_id,
        secret=row.secret,
        previous_secret=row.previous_secret,
        verify_token=row.verify_token,
    )
