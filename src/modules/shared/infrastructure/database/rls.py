"""Row-level security: which tenant a session works for, and how PostgreSQL gets to know it.

PostgreSQL's policies compare `tenant_id` with the setting `app.jwt_tenant`. `RLSManager` sees to it
that every transaction of a session carries that setting, that a session serves one tenant and one
task, and that tenant tables are not touched without a tenant.
"""

import asyncio
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import UUID

from sqlalchemy import ClauseElement, Connection, Table, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    ORMExecuteState,
    Session,
    SessionTransaction,
    object_mapper,
    with_loader_criteria,
)
from sqlalchemy.sql.util import find_tables

from shared.infrastructure.database.base import TenantScoped, belongs_to_tenants
from shared.infrastructure.database.driver_errors import rolling_back, translated
from shared.infrastructure.database.tenant_context import (
    TenantContext,
    TenantContextConflict,
    TenantContextMissing,
    enter_context,
    leave_context,
)
from shared.kernel.errors import InvalidInput, Misconfigured

TENANT_SETTING: Final = "app.jwt_tenant"
USER_SETTING: Final = "app.user_id"
SCOPED: Final = "tellwire_tenant_scoped"
"""Execution option of statements that name `tenant_id = :tenant` themselves."""

_SET = text(
    f"SELECT set_config('{TENANT_SETTING}', :tenant, true), "
    f"set_config('{USER_SETTING}', :user, true)"
)
_BINDING = "tellwire_binding"
_IN_FAILED_TRANSACTION = "25P02"


class InvalidTenantId(InvalidInput):
    """The tenant id is not a UUID; refused before any SQL."""

    code = "invalid_tenant_id"
    title = "A tenant id is a UUID"


@dataclass(slots=True)
class _Binding:
    """What a session is bound to: one tenant for its life, one task inside the block."""

    context: TenantContext
    task: "asyncio.Task[Any] | None"
    depth: int


class TenantSession(Session):
    """A session that refuses tenant tables without a tenant, and other tasks at any time."""

    # These tell no event what they are about to do, so that without a tenant they do nothing.
    def bulk_save_objects(self, *args: Any, **kwargs: Any) -> None:
        """As SQLAlchemy's, under a tenant only."""
        _active(self)
        super().bulk_save_objects(*args, **kwargs)

    def bulk_insert_mappings(self, *args: Any, **kwargs: Any) -> None:
        """As SQLAlchemy's, under a tenant only."""
        _active(self)
        super().bulk_insert_mappings(*args, **kwargs)

    def bulk_update_mappings(self, *args: Any, **kwargs: Any) -> None:
        """As SQLAlchemy's, under a tenant only."""
        _active(self)
        super().bulk_update_mappings(*args, **kwargs)


class RLSManager:
    """Give a session its tenant: `async with RLSManager(s) as rls: await rls.set_context(...)`.

    Every transaction of the session inside the block has the tenant, after a commit too. A session
    serves one tenant for its life and one task: anything else raises TenantContextConflict. Leaving
    the block flushes, then forgets every loaded object; leaving it by an exception rolls back.
    Savepoints lie inside the block as a whole: one that encloses it, or outlives it, raises.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._token: Token[TenantContext | None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def set_context(self, *, tenant_id: UUID, user_id: UUID | None = None) -> None:
        """Bind the session to `tenant_id` (acting: `user_id`) until the block is left.

        Costs no round trip: the setting travels with the next BEGIN (one round trip more on drivers
        that cannot, and where a transaction is already open). Raises TenantContextConflict, and
        DatabaseFailed in an open transaction of which a statement has failed.
        """
        context = TenantContext(_uuid(tenant_id), None if user_id is None else _uuid(user_id))
        session = self._session.sync_session
        if self._token is not None:
            raise TenantContextConflict("set_context was already called in this block")
        if self._session.in_nested_transaction() and not _is_active(session):
            raise TenantContextConflict("Enter the context before the savepoint: its end undoes it")
        token = enter_context(context)
        try:
            _bind(session, context)
        except TenantContextConflict:
            leave_context(token)
            raise
        self._token = token
        if not isinstance(session, TenantSession):
            _guard_foreign(session)
        if self._session.in_transaction():
            async with translated():
                await self._session.execute(_SET, _settings(context))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is None:
            return
        binding: _Binding = self._session.sync_session.info[_BINDING]
        try:
            if binding.depth == 1:
                # After a commit that failed nothing more can be said in what is left of it.
                is_over = kind is not None or not self._session.is_active
                await self._leave_transaction(failed=is_over)
        finally:
            binding.depth -= 1
            if binding.depth == 0:
                binding.task = None
                self._session.expunge_all()
            leave_context(self._token)
            self._token = None

    async def _leave_transaction(self, *, failed: bool) -> None:
        """Leave no open transaction behind that still carries the tenant."""
        if not self._session.in_transaction():
            return
        if failed:
            with rolling_back():
                await self._session.rollback()
            return
        if self._session.in_nested_transaction():
            # Rolled back later, the savepoint would bring the tenant back.
            with rolling_back():
                await self._session.rollback()
            raise TenantContextConflict("A savepoint was still open: all was rolled back")
        await self._session.flush()
        async with translated():
            try:
                await self._session.execute(_SET, {"tenant": "", "user": ""})
            except DBAPIError as error:
                # A statement failed, and somebody caught that: such a transaction shows nothing.
                if getattr(error.orig, "sqlstate", None) != _IN_FAILED_TRANSACTION:
                    raise


def _uuid(value: UUID | str) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidTenantId from None


def _settings(context: TenantContext) -> dict[str, str]:
    return {"tenant": str(context.tenant_id), "user": str(context.user_id or "")}


def _bind(session: Session, context: TenantContext) -> _Binding:
    """Bind the session, or add one level to the same binding; another tenant or task raises."""
    task = asyncio.current_task()
    binding: _Binding | None = session.info.get(_BINDING)
    if binding is None:
        binding = session.info[_BINDING] = _Binding(context, task, 0)
    elif binding.context.tenant_id != context.tenant_id:
        raise TenantContextConflict("This session already serves another tenant")
    elif binding.depth and binding.task is not task:
        raise TenantContextConflict("This session is in use by another task")
    elif not binding.depth:
        binding.context, binding.task = context, task
    binding.depth += 1
    return binding


def bound_tenant(session: AsyncSession | Session) -> UUID:
    """The tenant that `session` serves now, in this task; raises where there is none."""
    sync = session.sync_session if isinstance(session, AsyncSession) else session
    return _active(sync).context.tenant_id


def _is_active(session: Session) -> bool:
    binding: _Binding | None = session.info.get(_BINDING)
    return binding is not None and binding.depth > 0


def _active(session: Session) -> _Binding:
    binding: _Binding | None = session.info.get(_BINDING)
    if binding is None or not binding.depth:
        raise TenantContextMissing
    if binding.task is not asyncio.current_task():
        raise TenantContextConflict("This session is in use by another task")
    return binding


def _touches_tenants(state: ORMExecuteState) -> bool:
    if any(issubclass(mapper.class_, TenantScoped) for mapper in state.all_mappers):
        return True
    tables = find_tables(
        cast("ClauseElement", state.statement),
        include_joins=True,
        include_selects=True,
        include_crud=True,
        include_aliases=True,
        check_columns=True,
    )
    return any(isinstance(table, Table) and belongs_to_tenants(table) for table in tables)


def _before_statement(state: ORMExecuteState) -> None:
    """Refuse tenant tables without a tenant; name the tenant in every statement with one."""
    if not _is_active(state.session):
        if _touches_tenants(state):
            raise TenantContextMissing
        return
    tenant = _active(state.session).context.tenant_id
    if SCOPED in state.execution_options or state.is_column_load or state.is_relationship_load:
        return
    if state.is_select or state.is_update or state.is_delete:
        # The policy alone would do, but only a predicate with the value keeps the planner's
        # statistics for a tenant's size; the policy then costs one comparison per statement.
        state.statement = state.statement.options(
            with_loader_criteria(
                TenantScoped,
                lambda row: row.tenant_id == tenant,
                include_aliases=True,
                propagate_to_loaders=True,
            )
        )


def _before_flush(session: Session, _context: Any, _instances: Any) -> None:
    changed = (*session.new, *session.dirty, *session.deleted)
    tables = (object_mapper(row).local_table for row in changed)
    if any(isinstance(table, Table) and belongs_to_tenants(table) for table in tables):
        _active(session)


def _before_commit(session: Session) -> None:
    if _is_active(session):
        _active(session)


def _after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Put the tenant into the transaction that begins; savepoints inherit it from the outermost."""
    if transaction.nested or not _is_active(session):
        return
    context = _active(session).context
    dbapi_connection = connection.connection.dbapi_connection
    if dbapi_connection and connection.dialect.detect_autocommit_setting(dbapi_connection):
        raise Misconfigured(
            "RLSManager needs transactions: the session's engine has isolation level AUTOCOMMIT"
        )
    driver = connection.connection.driver_connection
    set_prelude = getattr(driver, "set_prelude", None)
    if set_prelude is None or (driver is not None and driver.is_in_transaction()):
        connection.execute(_SET, _settings(context))
    else:
        # Both values are UUIDs by construction, so that they can stand in the statement itself. As
        # SET LOCAL they cost a third of what they cost in a SELECT, which is planned and answers.
        set_prelude(
            f"SET LOCAL {TENANT_SETTING} = '{context.tenant_id}'; "
            f"SET LOCAL {USER_SETTING} = '{context.user_id or ''}';"
        )


def _guard_foreign(session: Session) -> None:
    """Give a session of someone else's making the same guards, once."""
    if not event.contains(session, "after_begin", _after_begin):
        _listen(session)


def _listen(target: Session | type[Session]) -> None:
    event.listen(target, "do_orm_execute", _before_statement)
    event.listen(target, "before_flush", _before_flush)
    event.listen(target, "before_commit", _before_commit)
    event.listen(target, "after_begin", _after_begin)


_listen(TenantSession)
