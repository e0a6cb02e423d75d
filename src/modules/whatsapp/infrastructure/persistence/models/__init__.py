"""Row classes of the WhatsApp module; they never leave `persistence`."""

from whatsapp.infrastructure.persistence.models.account import AccountEventModel, TemplateModel
from whatsapp.infrastructure.persistence.models.channel import ChannelModel
from whatsapp.infrastructure.persistence.models.conversation import (
    ConversationAddressModel,
    ConversationModel,
)
from whatsapp.infrastructure.persistence.models.event import (
    DeliveryModel,
    DeliveryQueueModel,
    EventModel,
    EventStreamModel,
    WebhookEndpointModel,
)
from whatsapp.infrastructure.persistence.models.media import (
    MediaJobModel,
    MediaModel,
    MediaUploadModel,
)
from whatsapp.infrastructure.persistence.models.message import (
    InboundMessageModel,
    MessageAttemptModel,
    OutboundMessageModel,
    StatusEventModel,
)
from whatsapp.infrastructure.persistence.models.send_queue import SendQueueModel
from whatsapp.infrastructure.persistence.models.webhook import (
    MetaAppModel,
    QuarantinedWebhookModel,
    WebhookDigestModel,
    WebhookInboxModel,
)

__all__ = [
    "AccountEventModel",
    "ChannelModel",
    "ConversationAddressModel",
    "ConversationModel",
    "DeliveryModel",
    "DeliveryQueueModel",
    "EventModel",
    "EventStreamModel",
    "InboundMessageModel",
    "MediaJobModel",
    "MediaModel",
    "MediaUploadModel",
    "MessageAttemptModel",
    "MetaAppModel",
    "OutboundMessageModel",
    "QuarantinedWebhookModel",
    "SendQueueModel",
    "StatusEventModel",
    "TemplateModel",
    "WebhookDigestModel",
    "WebhookEndpointModel",
    "WebhookInboxModel",
]
