"""The rows of webhook intake: Meta apps, the inbox of raw bodies, and what nobody could place."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base
from shared.infrastructure.encryption import EncryptedString
from shared.kernel.secret import Secret


class MetaAppModel(Base):
    """A Meta app that posts webhooks here; belongs to the installation, not to a tenant.

    Two live secrets let the app's secret be rotated without losing a webhook.
    """

    __tablename__ = "meta_apps"

    app_id: Mapped[str] = mapped_column(primary_key=True)
    secret: Mapped[Secret] = mapped_column(
        EncryptedString(table="meta_apps", column="secret", tenant_bound=False)
    )
    previous_secret: Mapped[Secret | None] = mapped_column(
        EncryptedString(table="meta_apps", column="previous_secret", tenant_bound=False)
    )
    verify_token: Mapped[Secret] = mapped_column(
        EncryptedString(table="meta_apps", column="verify_token", tenant_bound=False)
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookInboxModel(Base):
    """A verified body as it came, until every element of it is stored where it belongs.

    One that comes from the quarantine names the entry in which it first came, and how often it did.
    """

    __tablename__ = "webhook_inbox"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    app_id: Mapped[str]
    body: Mapped[bytes]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    origin_id: Mapped[UUID | None]
    requeues: Mapped[int] = mapped_column(SmallInteger, server_default="0")

    __table_args__ = (
        {
            "postgresql_with": {
                "fillfactor": "70",
                "autovacuum_vacuum_scale_factor": "0.01",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )


class WebhookDigestModel(Base):
    """A body that was taken in lately: the first half of the SHA-256 of app and body."""

    __tablename__ = "webhook_digests"

    digest: Mapped[UUID] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "seen_at"),)


class QuarantinedWebhookModel(Base):
    """An element that nobody could be given: kept raw, with the reason.

    `body` is a webhook that says this element alone, to be processed anew.
    """

    __tablename__ = "webhook_quarantine"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    inbox_id: Mapped[UUID]
    app_id: Mapped[str]
    reason: Mapped[str]
    phone_number_id: Mapped[str | None]
    raw: Mapped[bytes]
    body: Mapped[bytes | None]
    field: Mapped[str | None]
    waba_id: Mapped[str | None]
    requeues: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "received_at"),)
