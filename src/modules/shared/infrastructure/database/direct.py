"""Finished statements straight to asyncpg, in the session's own transaction.

SQLAlchemy takes about twice as long to hand a look-up by key to the driver as PostgreSQL and the
driver take to answer it (docs/benchmarks.md). A statement that was built beforehand needs nothing
of that: its SQL, the order of its parameters and the names of its columns are known.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any

import asyncpg
from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from shared.infrastructure.database.driver_errors import READ_ONLY, InvalidValue
from shared.infrastructure.database.engine import PreludeConnection

_KNOWN = "tellwire_connection"


class _Row(asyncpg.Record):  # type: ignore[misc]  # asyncpg publishes no types
    """A record whose columns are attributes, as those of SQLAlchemy's rows are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(slots=True)
class _Finished:
    """A statement as asyncpg takes it."""

    sql: str
    order: Sequence[str]
    constants: Mapping[str, Any]  # Parameters that the statement brings along, as of a LIMIT.
    processors: Mapping[str, Callable[[Any], Any]]  # JSON becomes text, for example.
    _row_class: type[_Row] = field(default=_Row, init=False)  # Until the columns are known.

    async def rows(self, driver: PreludeConnection, arguments: Sequence[Any]) -> Sequence[Any]:
        """What it gives, asked on `driver`."""
        found: Sequence[Any] = await driver.fetch(
            self.sql, *arguments, record_class=self._row_class
        )
        if found and self._row_class is _Row:
            self._row_class = _row_class_of(found[0].keys())
        return found

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        """The values in the order of their numbers; InvalidValue where one has no such form."""
        processors, given = self.processors, {**self.constants, **parameters}
        try:
            return [
                processors[name](given[name]) if name in processors else given[name]
                for name in self.order
            ]
        except (TypeError, ValueError, RecursionError):
            raise InvalidValue from None  # Its text may hold the value.


def _row_class_of(columns: Iterable[str]) -> type[_Row]:
    """Rows that have these columns: whoever has to find out that it is one takes six times as long.

    By name and not by place, since a migration may take a column away beside a running process.
    """
    found_by = {name: property(itemgetter(name)) for name in columns if not hasattr(_Row, name)}
    return type(_Row.__name__, (_Row,), {"__slots__": ()} | found_by)


@lru_cache(maxsize=100)
def _finished(statement: Any, dialect: Dialect) -> _Finished:
    compiled = statement.compile(dialect=dialect)
    processors = {
        name: process
        for name, bind in compiled.binds.items()
        if (process := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    }
    constants = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    return _Finished(str(compiled), compiled.positiontup, constants, processors)


async def fetch(
    session: AsyncSession, statement: Executable, parameters: Mapping[str, Any]
) -> Sequence[Any]:
    """All rows of a statement that is built once; it must be one of a module's constants.

    SQLAlchemy opens the transaction where it is the first, and runs the statement on other drivers
    and while somebody listens to statements or has them logged.
    """
    connection = _connection_of(session.sync_session)
    if connection is None:
        connection = await session.run_sync(_connect)
    driver = _driver_of(connection)
    if driver is None:
        return await session.run_sync(_execute, statement, dict(parameters))
    finished = _finished(statement, connection.dialect)
    arguments = finished.arguments(parameters)
    try:
        await _begin(connection, driver)
        rows = await finished.rows(driver, arguments)
    except BaseException as error:
        if _is_lost(driver, error):
            await session.run_sync(lambda _: connection.invalidate())
        raise
    return rows


async def fetch_alone(
    engine: AsyncEngine, statement: Executable, parameters: Mapping[str, Any]
) -> Sequence[Any]:
    """All rows of a statement that is a transaction of its own; `engine` comes of `alone`."""
    async with engine.connect() as connection:
        return await fetch_on(connection, statement, parameters)


async def fetch_on(
    connection: AsyncConnection, statement: Executable, parameters: Mapping[str, Any]
) -> Sequence[Any]:
    """As `fetch_alone`, on a connection of such an engine that is open already.

    What is not on autocommit is behind PgBouncer: there it is a transaction, committed at the end.
    """
    inner = connection.sync_connection
    driver = None if inner is None else _driver_of(inner)
    if inner is None or driver is None:
        found = (await connection.execute(statement, dict(parameters))).all()
        await connection.commit()
        return found
    finished = _finished(statement, connection.dialect)
    arguments = finished.arguments(parameters)
    is_whole = inner.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    try:
        async with nullcontext() if is_whole else driver.transaction():
            rows = await finished.rows(driver, arguments)
    except BaseException as error:
        if _is_lost(driver, error):
            await connection.invalidate()
        raise
    return rows


def _is_lost(driver: PreludeConnection, error: BaseException) -> bool:
    """Whether nobody knows what the connection is in the middle of, or it is of no more use."""
    if driver.is_closed() or not isinstance(error, asyncpg.PostgresError):
        return True
    return getattr(error, "sqlstate", None) == READ_ONLY


async def _begin(connection: Connection, driver: PreludeConnection) -> None:
    """Send BEGIN, which SQLAlchemy leaves to its first statement."""
    if driver.is_in_transaction():
        return
    adapter: Any = connection.connection.dbapi_connection
    try:
        await adapter._start_transaction()  # noqa: SLF001  # so that SQLAlchemy knows of it
    except adapter.dbapi.Error as error:
        raise error.__cause__ or error from None  # The driver's own, as from any statement here.


def _connect(session: Session) -> Connection:
    connection = session.connection()
    session.info[_KNOWN] = (session.get_transaction(), connection)
    return connection


def _execute(session: Session, statement: Executable, parameters: dict[str, Any]) -> Sequence[Any]:
    return session.connection().execute(statement, parameters).all()


def _connection_of(session: Session) -> Connection | None:
    """The connection of the open transaction, if a statement here has begun or joined it.

    It is kept with that transaction: after its end the pool gives the connection to others.
    """
    known: tuple[SessionTransaction, Connection] | None = session.info.get(_KNOWN)
    return known[1] if known is not None and known[0] is session.get_transaction() else None


def _driver_of(connection: Connection) -> PreludeConnection | None:
    """The connection of asyncpg, where a statement may go to it past SQLAlchemy.

    One that is lost already is left to SQLAlchemy, which then mistrusts the whole pool.
    """
    if connection.invalidated:
        return None
    driver = connection.connection.driver_connection
    if not isinstance(driver, PreludeConnection) or driver.is_closed():
        return None
    engine = connection.engine
    watched = engine.dispatch.before_cursor_execute or engine.dispatch.after_cursor_execute
    return None if watched or engine.echo else driver
