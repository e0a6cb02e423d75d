"""Tenants whose events nobody wants record side by side; those who begin to want them wait.

`whatsapp_reserve_events` is a function because it has to look at the stream after it has its lock:
a statement sees what was committed before it began.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

LOCK = "hashtextextended(tenant::text, 3000)"
RESERVE = f"""
CREATE FUNCTION whatsapp_reserve_events(tenant uuid, number bigint,
                                        OUT before bigint, OUT is_open boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({LOCK});
    UPDATE event_streams s SET last_number = s.last_number + number
    WHERE s.tenant_id = tenant AND s.id = tenant AND s.is_open
    RETURNING s.last_number - number INTO before;
    is_open := FOUND;
END
$$
"""  # noqa: S608  # constants of this module
OPEN = f"""
CREATE FUNCTION whatsapp_open_events(tenant uuid, OUT last bigint, OUT forgotten bigint)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({LOCK});
    INSERT INTO event_streams AS s (tenant_id, id, last_number, forgotten_number, is_open)
    VALUES (tenant, tenant, 0, 0, true)
    ON CONFLICT (tenant_id, id) DO UPDATE SET is_open = true
    RETURNING s.last_number, s.forgotten_number INTO last, forgotten;
END
$$
"""  # noqa: S608  # constants of this module


def upgrade() -> None:
    """Apply."""
    op.execute(RESERVE)
    op.execute(OPEN)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP FUNCTION whatsapp_open_events(uuid)")
    op.execute("DROP FUNCTION whatsapp_reserve_events(uuid, bigint)")
