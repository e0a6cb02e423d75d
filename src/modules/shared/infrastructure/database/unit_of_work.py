"""The transaction boundary: a session that is rolled back unless it was committed."""

from types import TracebackType
from typing import Self

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.infrastructure.database.driver_errors import rolling_back, translated
from shared.kernel.errors import Misconfigured

_configured: dict[str, async_sessionmaker[AsyncSession]] = {}


def configure_database(session_factory: async_sessionmaker[AsyncSession] | None) -> None:
    """Choose the session factory of this process for `SQLAlchemyUnitOfWork()`; None forgets it."""
    _configured.clear()
    if session_factory is not None:
        _configured["session_factory"] = session_factory


class SQLAlchemyUnitOfWork:
    """One session and its transaction; what is not committed is rolled back on exit.

    Without an argument it uses the factory given to `configure_database`; it raises Misconfigured
    if there is none. One unit of work serves one task.
    """

    def __init__(self, session_factory: async_sessionmaker[AsyncSession] | None = None) -> None:
        self._factory = session_factory
        self._session: AsyncSession | None = None

    @property
    def session(self) -> AsyncSession:
        """The session; only inside the `async with` block."""
        if self._session is None:
            raise RuntimeError(
                "SQLAlchemyUnitOfWork has a session only inside its async with block"
            )
        return self._session

    async def __aenter__(self) -> Self:
        factory = self._factory or _configured.get("session_factory")
        if factory is None:
            raise Misconfigured("Call configure_database(session_factory) once when starting")
        self._session = factory()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self.session, None
        if not session.in_transaction():
            session.sync_session.close()  # Nothing is open, so this sends nothing.
            return
        # AsyncSession's own exit closes (and so rolls back) shielded from cancellation.
        with rolling_back():
            await session.__aexit__(kind, error, trace)

    async def commit(self) -> None:
        """Make everything since the last commit durable; the unit of work can go on afterwards.

        Raises DatabaseFailed where a statement had failed before, since then nothing was stored.
        Also after a commit that failed it can go on, in a transaction that is new.
        """
        async with translated():
            try:
                await self.session.commit()
            except Exception:
                with rolling_back():
                    await self.session.rollback()
                raise

    async def rollback(self) -> None:
        """Undo everything since the last commit."""
        with rolling_back():
            await self.session.rollback()
