"""What a tenant is told: events, the endpoints that they go to, and how they are signed."""

from whatsapp.domain.events.addresses import AddressPolicy
from whatsapp.domain.events.delivery import (
    Answer,
    ClaimedDelivery,
    DeliveryLog,
    DeliveryOutcome,
    DeliveryQueue,
    DeliveryRecord,
    DeliveryResult,
    EndpointWork,
    EventSender,
    Replayed,
)
from whatsapp.domain.events.endpoint import (
    EndpointFormat,
    EndpointLimitReached,
    EndpointNotEnabled,
    EndpointNotFound,
    EndpointRepository,
    InvalidEndpoint,
    WebhookEndpoint,
    new_secret,
)
from whatsapp.domain.events.event import (
    Event,
    EventLog,
    EventsForgotten,
    EventType,
    MessageProgress,
    NewEvent,
    StreamPosition,
)

__all__ = [
    "AddressPolicy",
    "Answer",
    "ClaimedDelivery",
    "DeliveryLog",
    "DeliveryOutcome",
    "DeliveryQueue",
    "DeliveryRecord",
    "DeliveryResult",
    "EndpointFormat",
    "EndpointLimitReached",
    "EndpointNotEnabled",
    "EndpointNotFound",
    "EndpointRepository",
    "EndpointWork",
    "Event",
    "EventLog",
    "EventSender",
    "EventType",
    "EventsForgotten",
    "InvalidEndpoint",
    "MessageProgress",
    "NewEvent",
    "Replayed",
    "StreamPosition",
    "WebhookEndpoint",
    "new_secret",
]
