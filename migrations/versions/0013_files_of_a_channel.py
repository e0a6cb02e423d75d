"""The files of one channel are listed by an index of their own.

Without it they were looked for among all files of the tenant.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEX, TABLE = "ix_whatsapp_media_tenant_id_channel_id_id", "whatsapp_media"


def upgrade() -> None:
    """Apply."""
    op.create_index(INDEX, TABLE, ["tenant_id", "channel_id", "id"])


def downgrade() -> None:
    """Undo."""
    op.drop_index(INDEX, TABLE)
