"""What a database driver raises, translated once: by constraint name and SQLSTATE, without values.

The driver's own exception holds parameters and row values, so it is never chained: a tracker that
walks `__cause__` and `__context__` finds nothing of a tenant.
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.kernel.errors import (
    Conflict,
    InvalidInput,
    NotFoundException,
    TellwireError,
    Unavailable,
)


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer, takes no writes or gave up the connection; nothing was stored."""

    code = "database_unavailable"
    title = "The database does not answer; try again"


class DatabaseFailed(TellwireError):
    """PostgreSQL refused a statement by a fault of ours; the detail has its SQLSTATE."""

    code = "database_failed"
    title = "The database refused a statement"


class TransactionConflict(Conflict):
    """Another transaction was in the way (deadlock, serialization, lock time-out); try again."""

    code = "transaction_conflict"
    status = 503
    retryable = True
    title = "Another transaction was in the way; try again"


class RowSecurityViolation(TellwireError):
    """The row is another tenant's, or the role lacks a right; nothing was written."""

    code = "row_security_violation"
    status = 403
    title = "The database refused to write this row for the current tenant"


class TenantNotFound(NotFoundException):
    """The tenant that the row belongs to does not exist."""

    code = "tenant_not_found"
    title = "No tenant with this id exists; create it first"


class InvalidReference(InvalidInput):
    """The row refers to something that does not exist in this tenant."""

    code = "invalid_reference"
    title = "The row refers to something that does not exist in this tenant"


class StillReferenced(Conflict):
    """Other rows refer to this one, so that it was not deleted."""

    code = "still_referenced"
    title = "Other things still refer to this; delete them first"


class InvalidValue(InvalidInput):
    """A value is of a kind or size that its column cannot hold; nothing was written."""

    code = "invalid_value"
    title = "A value is too large, of the wrong type, or holds characters that cannot be stored"


class AlreadyExists(Conflict):
    """A row with the same unique value exists in this tenant."""

    code = "already_exists"
    title = "This already exists in this tenant"


ConstraintErrors = Mapping[str, type[TellwireError]]

READ_ONLY: Final = "25006"
"""SQLSTATE of a server that takes no writes: it was told so, or is the primary no longer."""

_BY_STATE: Final[Mapping[str, type[TellwireError]]] = {
    "23503": InvalidReference,
    "23505": AlreadyExists,
    "23514": InvalidInput,
    "42501": RowSecurityViolation,
    READ_ONLY: DatabaseUnavailable,
    "40001": TransactionConflict,
    "40P01": TransactionConflict,
    "55P03": TransactionConflict,
}
# Classes of SQLSTATE that mean the server or the connection went away: 08 connection, 53 resources,
# 57P operator intervention (shutdown, crash, terminated), 57014 cancelled by a time-out; and 25P03
# and 25P04: PostgreSQL ended a connection whose transaction stood still or took too long.
_GONE: Final = ("08", "53", "57", "25P03", "25P04")
# 22 data, 54 a limit of the program (a text too long for its index).
_DATA: Final = ("22", "54")


# asyncpg is at odds with itself for a moment where the server ended the connection between calls.
_CUT_OFF: Final = (PoolTimeoutError, OSError, TimeoutError, asyncpg.InternalClientError)


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""


def _constraint(error: DBAPIError) -> str:
    driver = getattr(error.orig, "__cause__", None)
    return getattr(driver, "constraint_name", None) or ""


def translate(error: BaseException, constraints: ConstraintErrors) -> TellwireError | None:
    """The error of ours that `error` means; None if it is not the database's."""
    if isinstance(error, _CUT_OFF):
        return DatabaseUnavailable()
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return _of_driver(error, constraints)
    if not isinstance(error, StatementError):
        return None
    if not isinstance(error, DBAPIError):
        # Raised while a value was turned into a parameter: by us, or because it cannot be.
        return error.orig if isinstance(error.orig, TellwireError) else InvalidValue()
    constraint = _constraint(error)
    if isinstance(error, IntegrityError) and constraint in constraints:
        return constraints[constraint]()
    return _of_state(_state(error), constraint, gone=error.connection_invalidated)


def _of_driver(error: Any, constraints: ConstraintErrors) -> TellwireError:
    """What the driver's own exception means, where SQLAlchemy was not asked (see `direct`)."""
    if isinstance(error, asyncpg.InterfaceError):
        # One that is a ValueError as well is about a value that no parameter can hold.
        return InvalidValue() if isinstance(error, ValueError) else DatabaseUnavailable()
    constraint = error.constraint_name or ""
    if constraint in constraints and isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return constraints[constraint]()
    return _of_state(error.sqlstate or "", constraint, gone=False)


def _of_state(state: str, constraint: str, *, gone: bool) -> TellwireError:
    if state == "23503" and constraint.endswith("_tenants"):
        return TenantNotFound()
    if state in _BY_STATE:
        return _BY_STATE[state]()
    if state.startswith(_DATA):
        return InvalidValue()
    if gone or not state or state.startswith(_GONE):
        return DatabaseUnavailable()
    return DatabaseFailed(f"The database refused a statement with SQLSTATE {state}")


_OF_THE_DATABASE: Final = (
    StatementError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    *_CUT_OFF,
)


@asynccontextmanager
async def translated(constraints: ConstraintErrors | None = None) -> AsyncGenerator[None]:
    """Raise our errors for the driver's, by `constraints` first; others pass unchanged."""
    ours: TellwireError | None = None
    try:
        yield
    except _OF_THE_DATABASE as error:
        ours = translate(error, constraints or {})
        if ours is None:
            raise
    if ours is not None:
        ours.__cause__ = None
        try:
            raise ours
        except TellwireError:
            # Raising set it, since whoever awaits this block still handles the driver's exception.
            ours.__context__ = None
            raise


@contextmanager
def rolling_back() -> Generator[None]:
    """Undo a transaction within; where its connection is lost, PostgreSQL has done so itself."""
    try:
        yield
    except _OF_THE_DATABASE as error:
        if not isinstance(translate(error, {}), DatabaseUnavailable):
            raise
