"""${message}

A migration runs while the previous release still serves: add first, remove a release later.
Every table with `tenant_id` gets `ENABLE` and `FORCE ROW LEVEL SECURITY`, a policy for named roles,
and rights granted by name, in the same revision that creates it (tests/architecture and
tests/integration/rls hold it).
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo."""
    ${downgrades if downgrades else "pass"}
