"""Engines and sessions: asyncpg connections that open a transaction and set its tenant at once."""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from shared.infrastructure.database.driver_errors import READ_ONLY, DatabaseFailed, translated
from shared.infrastructure.database.rls import TENANT_SETTING, TenantSession
from shared.kernel.errors import Misconfigured

SessionFactory = async_sessionmaker[AsyncSession]
CONNECT_TIMEOUT_SECONDS = 10.0
COMMAND_TIMEOUT_SECONDS = 60.0
POOL_TIMEOUT_SECONDS = 10.0
_PGBOUNCER = "tellwire_pgbouncer"
_FIRST_OF_THE_DATABASE = 10_000
"""Object ids below are assigned by PostgreSQL's developers and mean the same in every database."""


class _Described(NamedTuple):
    """Stands for the statement that asked about types, where none had to."""

    name: str = "known"


class PreludeConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg publishes no types
    """An asyncpg connection whose next BEGIN takes a statement along, in the same round trip.

    Its COMMIT raises where PostgreSQL answers ROLLBACK, because a statement before it had failed.
    What PostgreSQL says of its own types is asked once for all connections of the process: asyncpg
    asks on each, which takes 10 ms per kind of array, behind PgBouncer in every transaction.
    """

    __slots__ = ("_prelude",)
    _types: ClassVar[dict[frozenset[int], Any]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prelude = ""

    def set_prelude(self, sql: str) -> None:
        """Send `sql` with the next BEGIN, once; an empty string takes it back."""
        self._prelude = sql

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> Any:  # noqa: ASYNC109  # asyncpg's own
        """What the types with these ids are made of; asked where one is not PostgreSQL's own."""
        asked = frozenset(typeoids)
        if asked in self._types:
            return self._types[asked], _Described()
        types, statement = await super()._introspect_types(asked, timeout)
        if max(asked) < _FIRST_OF_THE_DATABASE:
            self._types[asked] = types
        return types, statement

    async def execute(
        self,
        query: str,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109  # asyncpg's own
    ) -> str:
        """Run `query`; a BEGIN carries the prelude with it."""
        if self._prelude and not args and query.startswith("BEGIN"):
            query, self._prelude = f"{query} {self._prelude}", ""
        status: str = await super().execute(query, *args, timeout=timeout)
        if status == "ROLLBACK" and query.startswith("COMMIT"):
            raise asyncpg.InFailedSQLTransactionError(
                "nothing was stored: a statement of this transaction had failed"
            )
        return status


def create_engine(
    url: str,
    *,
    pool_size: int = 5,
    max_overflow: int = 10,
    pgbouncer: bool = False,
    plans_once: bool = False,
) -> AsyncEngine:
    """An async engine for `postgresql+asyncpg://` URLs; opens no connection yet.

    With `pgbouncer=True` nothing is prepared under a name that another client may meet; use it
    behind PgBouncer in transaction mode. There are as many connections as without it. With
    `plans_once=True` PostgreSQL plans each prepared statement once for all values; use it where
    tests show that no statement reads more by such a plan (ADR 17). PgBouncer's clients prepare
    nothing, so that it changes nothing for them.
    """
    arguments: dict[str, Any] = {
        "connection_class": PreludeConnection,
        "timeout": CONNECT_TIMEOUT_SECONDS,
        "command_timeout": COMMAND_TIMEOUT_SECONDS,
    }
    pool: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": max_overflow,
        "pool_timeout": POOL_TIMEOUT_SECONDS,
        "pool_use_lifo": True,
    }
    if pgbouncer:
        arguments |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"tellwire_{uuid4().hex}",
        }
    elif plans_once:
        arguments["server_settings"] = {"plan_cache_mode": "force_generic_plan"}
    options = {_PGBOUNCER: pgbouncer}
    engine = create_async_engine(
        url, connect_args=arguments, execution_options=options, hide_parameters=True, **pool
    )
    event.listen(engine.sync_engine.pool, "reset", _forget_prelude)
    event.listen(engine.sync_engine, "handle_error", _leave_read_only)
    return engine


def _forget_prelude(dbapi_connection: Any, _record: Any, _state: Any) -> None:
    """A prelude that no BEGIN has taken along must not meet the connection's next user."""
    driver = getattr(dbapi_connection, "driver_connection", None)
    if isinstance(driver, PreludeConnection):
        driver.set_prelude("")


def _leave_read_only(context: ExceptionContext) -> None:
    """Connections to a server that takes no writes are given up: another may be primary by now."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def alone(engine: AsyncEngine) -> AsyncEngine:
    """The same engine, for statements that are transactions of their own: use its `begin()`.

    They need no BEGIN and COMMIT; but behind PgBouncer, where what prepares a statement and what
    runs it might come to different connections, and there to the statement of another client.
    """
    if engine.sync_engine.get_execution_options().get(_PGBOUNCER):
        return engine
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def create_session_factory(engine: AsyncEngine) -> SessionFactory:
    """Sessions that refuse tenant tables without a tenant and keep objects after a commit."""
    return async_sessionmaker(engine, sync_session_class=TenantSession, expire_on_commit=False)


_UNSAFE_ROLE = text(
    f"""
    WITH RECURSIVE held AS (
        SELECT * FROM pg_roles WHERE rolname = current_user
        UNION
        SELECT r.*
        FROM held h JOIN pg_auth_members m ON m.member = h.oid JOIN pg_roles r ON r.oid = m.roleid
    )
    SELECT coalesce(bool_or(rolsuper), true), coalesce(bool_or(rolbypassrls), true),
           coalesce(bool_or(rolreplication), true), coalesce(bool_or(rolcreaterole), true),
           coalesce(bool_or(rolname IN ('pg_read_server_files', 'pg_write_server_files',
                                        'pg_execute_server_program')), true),
           EXISTS (SELECT FROM pg_class c JOIN held h ON c.relowner = h.oid
                   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')),
           coalesce(current_setting('{TENANT_SETTING}', true), '') <> ''
    FROM held
    """  # noqa: S608  # a constant of ours
)
_REASONS = (
    "is a superuser",
    "may bypass row-level security",
    "may replicate (and so read every tenant's rows)",
    "may create roles (and so make itself a member of others)",
    "may read or write the server's files",
    "owns tables",
    "begins every session as one tenant (ALTER ROLE or ALTER DATABASE ... SET)",
)


async def refuse_unsafe_role(engine: AsyncEngine) -> None:
    """Raise Misconfigured if this engine's role, or one it is a member of, could evade policies.

    The same if PostgreSQL does not let it in; DatabaseUnavailable if nobody answers.
    """
    try:
        async with translated():
            await _refuse_unsafe_role(engine)
    except DatabaseFailed as error:
        raise Misconfigured(
            f"The database does not let us in ({error.detail}): check user, password and name of "
            "the database in the URLs"
        ) from None


async def _refuse_unsafe_role(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        found = (await connection.execute(_UNSAFE_ROLE)).one()
        role = await connection.scalar(text("SELECT current_user"))
    reasons = [reason for reason, holds in zip(_REASONS, found, strict=True) if holds]
    if reasons:
        raise Misconfigured(
            f"The database role {role} {' and '.join(reasons)}; use a role that cannot, "
            "such as tellwire_app (docs/operations.md, 'Database roles')"
        )


_TRANSACTION_TIMEOUT = text("SELECT current_setting('transaction_timeout', true)")


async def refuse_endless_transactions(engine: AsyncEngine) -> None:
    """Raise Misconfigured if PostgreSQL is not told to end this role's transactions some time.

    Before PostgreSQL 17 it cannot, and that is accepted. DatabaseUnavailable if nobody answers.
    """
    async with translated(), engine.connect() as connection:
        limit = await connection.scalar(_TRANSACTION_TIMEOUT)
    if limit == "0":
        raise Misconfigured(
            "This role has no transaction_timeout here, so that a process that is stopped holds up "
            "its tenant until it goes on: run roles.sql once more (docs/operations.md)"
        )
