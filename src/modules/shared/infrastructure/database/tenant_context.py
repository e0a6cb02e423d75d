"""Who the current task works for: set by `RLSManager`, read by whatever binds data to a tenant."""

from contextvars import ContextVar, Token
from dataclasses import dataclass
from uuid import UUID

from shared.kernel.errors import TellwireError


class TenantContextMissing(TellwireError):
    """A tenant's data was touched without saying whose; nothing was sent to the database."""

    code = "tenant_context_missing"
    status = 500
    title = (
        "No tenant context: enter RLSManager(session) and await set_context(tenant_id=...) first"
    )


class TenantContextConflict(TellwireError):
    """A second tenant was about to enter where one is already being served; nothing was done."""

    code = "tenant_context_conflict"
    status = 500
    title = "A session and a task serve one tenant: open a session of its own in a task of its own"


@dataclass(frozen=True, slots=True)
class TenantContext:
    """The tenant whose rows may be seen, and the user who acts (for the audit trail)."""

    tenant_id: UUID
    user_id: UUID | None = None


_current: ContextVar[TenantContext | None] = ContextVar("tellwire_tenant_context", default=None)


def current_context() -> TenantContext | None:
    """The context of the running task, or None outside any `RLSManager` block."""
    return _current.get()


def current_tenant() -> UUID:
    """The tenant of the running task; raises TenantContextMissing outside an `RLSManager` block."""
    context = _current.get()
    if context is None:
        raise TenantContextMissing
    return context.tenant_id


def enter_context(context: TenantContext) -> Token[TenantContext | None]:
    """Make `context` current in this task; raises TenantContextConflict over another tenant's."""
    active = _current.get()
    if active is not None and active.tenant_id != context.tenant_id:
        raise TenantContextConflict
    return _current.set(context)


def leave_context(token: Token[TenantContext | None]) -> None:
    """Go back to what was current before the matching `enter_context`."""
    _current.reset(token)
