"""Reports that do not say when: one that repeats what was said before it, or after it, is none.

They are compared in the order in which they came, so that whoever processes them again decides the
same. `whatsapp_was_told` is a function because its query sees what was committed while it waited
for its lock, and what the statement that calls it has stored so far.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

EVENTS = "whatsapp_account_events"
INDEX = "ix_whatsapp_account_events_tenant_id_subject_came_as_place"
# One lock for all of a tenant's: such reports are few, and whoever holds it is about to commit.
WAS_TOLD = f"""
CREATE FUNCTION whatsapp_was_told(
    tenant uuid, about uuid, arrival uuid, standing integer, said jsonb
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(tenant::text, 3001));
    RETURN EXISTS (
        SELECT FROM (
            SELECT e.raw FROM {EVENTS} e
            WHERE e.tenant_id = tenant AND e.subject = about
              AND (e.came_as, e.place) <= (arrival, standing)
            ORDER BY e.came_as DESC, e.place DESC LIMIT 1
        ) before WHERE before.raw = said
    ) OR EXISTS (
        SELECT FROM (
            SELECT e.raw FROM {EVENTS} e
            WHERE e.tenant_id = tenant AND e.subject = about
              AND (e.came_as, e.place) >= (arrival, standing)
            ORDER BY e.came_as, e.place LIMIT 1
        ) later WHERE later.raw = said
    );
END
$$
"""  # noqa: S608  # our own table


def upgrade() -> None:
    """Apply."""
    op.add_column(EVENTS, sa.Column("subject", sa.Uuid(), nullable=True))
    op.add_column(EVENTS, sa.Column("came_as", sa.Uuid(), nullable=True))
    op.add_column(EVENTS, sa.Column("place", sa.Integer(), nullable=True))
    # What was kept before has no subject, and what nobody could read has none.
    op.create_index(
        INDEX,
        EVENTS,
        ["tenant_id", "subject", "came_as", "place"],
        postgresql_where=sa.text("subject IS NOT NULL"),
    )
    op.execute(WAS_TOLD)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP FUNCTION whatsapp_was_told(uuid, uuid, uuid, integer, jsonb)")
    op.drop_index(INDEX, EVENTS)
    for name in ("place", "came_as", "subject"):
        op.drop_column(EVENTS, name)
