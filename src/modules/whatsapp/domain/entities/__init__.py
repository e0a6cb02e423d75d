"""Things with an identity and a life: channels and messages."""

from whatsapp.domain.entities.channel import (
    Channel,
    ChannelAlreadyExists,
    ChannelChanges,
    ChannelNotActive,
    ChannelNotFound,
    ChannelStatus,
    InvalidChannel,
    MarketingPolicy,
    UnknownPolicy,
    WindowPolicy,
)
from whatsapp.domain.entities.inbound_message import InboundMessage, Step, steps_of
from whatsapp.domain.entities.outbound_message import (
    IdempotencyKeyReused,
    InvalidMetadata,
    InvalidSchedule,
    InvalidTransition,
    MessageNotFound,
    OutboundMessage,
)

__all__ = [
    "Channel",
    "ChannelAlreadyExists",
    "ChannelChanges",
    "ChannelNotActive",
    "ChannelNotFound",
    "ChannelStatus",
    "IdempotencyKeyReused",
    "InboundMessage",
    "InvalidChannel",
    "InvalidMetadata",
    "InvalidSchedule",
    "InvalidTransition",
    "MarketingPolicy",
    "MessageNotFound",
    "OutboundMessage",
    "Step",
    "UnknownPolicy",
    "WindowPolicy",
    "steps_of",
]
