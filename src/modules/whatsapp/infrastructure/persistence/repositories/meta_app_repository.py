"""Meta apps in PostgreSQL; they belong to the installation, so no tenant is named."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from shared.infrastructure.database import SessionFactory
from shared.infrastructure.database.driver_errors import translated
from whatsapp.domain.entities.meta_app import MetaApp
from whatsapp.infrastructure.persistence.models import MetaAppModel


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
        values = {
            "secret": app.secret,
            "previous_secret": app.previous_secret,
            "verify_token": app.verify_token,
        }
        query = insert(MetaAppModel).values(app_id=app.app_id, **values)
        replacing = {name: query.excluded[name] for name in values}
        query = query.on_conflict_do_update(index_elements=["app_id"], set_=replacing)
        async with translated(), self._sessions() as session, session.begin():
            await session.execute(query)

    async def delete_app(self, app_id: str) -> bool:
        """Forget the app; False if there was none."""
        query = delete(MetaAppModel).where(MetaAppModel.app_id == app_id)
        async with translated(), self._sessions() as session, session.begin():
            return (await session.execute(query.returning(MetaAppModel.app_id))).first() is not None


def _to_entity(row: MetaAppModel) -> MetaApp:
    return MetaApp(
        app_id=row.app_id,
        secret=row.secret,
        previous_secret=row.previous_secret,
        verify_token=row.verify_token,
    )
