"""What people write: kept as Meta sends it, with a typed answer to each question about it."""

from whatsapp.domain.value_objects.inbound_content.contact_card import (
    CardAddress,
    CardEmail,
    CardName,
    CardOrganization,
    CardPhone,
    CardUrl,
    ContactCard,
)
from whatsapp.domain.value_objects.inbound_content.content import EDIT, REVOKE, InboundContent
from whatsapp.domain.value_objects.inbound_content.details import InboundDetails, plain
from whatsapp.domain.value_objects.inbound_content.parts import (
    CallPermission,
    FlowReply,
    InboundLocation,
    InboundMedia,
    InboundOrder,
    InboundReaction,
    InboundReply,
    OrderItem,
    ProductReference,
    SystemChange,
    Unsupported,
)
from whatsapp.domain.value_objects.inbound_content.surroundings import (
    InboundContext,
    Referral,
    context_of,
    errors_of,
    referral_of,
)

__all__ = [
    "EDIT",
    "REVOKE",
    "CallPermission",
    "CardAddress",
    "CardEmail",
    "CardName",
    "CardOrganization",
    "CardPhone",
    "CardUrl",
    "ContactCard",
    "FlowReply",
    "InboundContent",
    "InboundContext",
    "InboundDetails",
    "InboundLocation",
    "InboundMedia",
    "InboundOrder",
    "InboundReaction",
    "InboundReply",
    "OrderItem",
    "ProductReference",
    "Referral",
    "SystemChange",
    "Unsupported",
    "context_of",
    "errors_of",
    "plain",
    "referral_of",
]
