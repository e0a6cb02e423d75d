"""What was read from a content, all at once, for whoever shows or tells it."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from whatsapp.domain.value_objects.inbound_content.contact_card import ContactCard
from whatsapp.domain.value_objects.inbound_content.content import InboundContent
from whatsapp.domain.value_objects.inbound_content.parts import (
    CallPermission,
    FlowReply,
    InboundLocation,
    InboundMedia,
    InboundOrder,
    InboundReaction,
    InboundReply,
    ProductReference,
    SystemChange,
    Unsupported,
)
from whatsapp.domain.value_objects.masked import Masked


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class InboundDetails(Masked):
    """The parts of a content under their names; None is what it does not have."""

    text: str | None = None
    media: InboundMedia | None = None
    location: InboundLocation | None = None
    contacts: tuple[ContactCard, ...] | None = None
    reaction: InboundReaction | None = None
    reply: InboundReply | None = None
    flow: FlowReply | None = None
    call_permission: CallPermission | None = None
    products: tuple[ProductReference, ...] | None = None
    order: InboundOrder | None = None
    system_change: SystemChange | None = None
    unsupported: Unsupported | None = None

    @classmethod
    def of(cls, content: InboundContent) -> "InboundDetails":
        """What can be read from `content`."""
        names = (field.name for field in dataclasses.fields(cls))
        return cls(**{name: getattr(content, name) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without what the content does not have."""
        return {name: part for name, part in plain(self).items() if part is not None}


def plain(value: Any) -> Any:
    """A value of these as JSON: objects by their fields, numbers with a fraction as texts."""
    if isinstance(value, Masked):
        names = (field.name for field in dataclasses.fields(value))  # type: ignore[arg-type]  # those here are dataclasses
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value
