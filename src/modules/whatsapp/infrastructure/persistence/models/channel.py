"""The row of a channel."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, Integer, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.infrastructure.database import Base, TenantScoped, of_tenant
from shared.infrastructure.encryption import EncryptedString
from shared.kernel.secret import Secret
from whatsapp.domain.entities import ChannelStatus, MarketingPolicy, UnknownPolicy, WindowPolicy


class ChannelModel(TenantScoped, Base):
    """A tenant's number; the token is ciphertext bound to this table, column and tenant."""

    __tablename__ = "whatsapp_channels"

    name: Mapped[str]
    phone_number_id: Mapped[str]
    provider_account_id: Mapped[str | None]
    app_id: Mapped[str | None]
    display_phone_number: Mapped[str | None]
    access_token: Mapped[Secret] = mapped_column(
        EncryptedString(table="whatsapp_channels", column="access_token", one_by_one=True)
    )
    status: Mapped[str]
    messages_per_second: Mapped[int] = mapped_column(Integer)
    keeps_order: Mapped[bool] = mapped_column(server_default="true")
    window_policy: Mapped[str] = mapped_column(server_default=WindowPolicy.ENFORCE.value)
    marketing_policy: Mapped[str] = mapped_column(server_default=MarketingPolicy.ENFORCE.value)
    on_unknown: Mapped[str] = mapped_column(server_default=UnknownPolicy.CATEGORY.value)
    quality_rating: Mapped[str | None]
    reported: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    pause_reason: Mapped[str | None]
    rests_until: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "phone_number_id"),
        # Intake asks whose number it is before any tenant is known: an equality, unique per tenant.
        Index(None, "phone_number_id"),
        Index(None, "provider_account_id"),
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in ChannelStatus)})", "status"),
        CheckConstraint("messages_per_second > 0", "messages_per_second"),
        CheckConstraint(
            f"window_policy IN ({', '.join(repr(p.value) for p in WindowPolicy)})", "window_policy"
        ),
        CheckConstraint(
            f"marketing_policy IN ({', '.join(repr(p.value) for p in MarketingPolicy)})",
            "marketing_policy",
        ),
        CheckConstraint(
            f"on_unknown IN ({', '.join(repr(p.value) for p in UnknownPolicy)})", "on_unknown"
        ),
    )
