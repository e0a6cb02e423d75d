"""Values that are proof of their own shape."""

from whatsapp.domain.value_objects.access_token import (
    AccessToken,
    AccessTokenUnreadable,
    InvalidAccessToken,
    UnreadableToken,
)
from whatsapp.domain.value_objects.given_id import (
    given_media_id,
    given_wamid,
    media_id_behind,
    message_id_behind,
)
from whatsapp.domain.value_objects.idempotency_key import IdempotencyKey, InvalidIdempotencyKey
from whatsapp.domain.value_objects.inbound_content import (
    InboundContent,
    InboundLocation,
    InboundMedia,
    InboundOrder,
    InboundReaction,
    InboundReply,
    OrderItem,
    SystemChange,
)
from whatsapp.domain.value_objects.message_content import (
    InvalidContent,
    MessageContent,
    MessageType,
    RecipientType,
)
from whatsapp.domain.value_objects.message_status import (
    DEAD_LETTERS,
    FORWARD,
    REPORTED,
    REPORTS,
    RETRY,
    STEPS,
    MessageStatus,
    sources_of,
)
from whatsapp.domain.value_objects.phone_number import InvalidPhoneNumber, PhoneNumber
from whatsapp.domain.value_objects.priority import Priority
from whatsapp.domain.value_objects.recipient import InvalidRecipient, Recipient, parse_recipient
from whatsapp.domain.value_objects.user_id import InvalidUserId, UserId

__all__ = [
    "DEAD_LETTERS",
    "FORWARD",
    "REPORTED",
    "REPORTS",
    "RETRY",
    "STEPS",
    "AccessToken",
    "AccessTokenUnreadable",
    "IdempotencyKey",
    "InboundContent",
    "InboundLocation",
    "InboundMedia",
    "InboundOrder",
    "InboundReaction",
    "InboundReply",
    "InvalidAccessToken",
    "InvalidContent",
    "InvalidIdempotencyKey",
    "InvalidPhoneNumber",
    "InvalidRecipient",
    "InvalidUserId",
    "MessageContent",
    "MessageStatus",
    "MessageType",
    "OrderItem",
    "PhoneNumber",
    "Priority",
    "Recipient",
    "RecipientType",
    "SystemChange",
    "UnreadableToken",
    "UserId",
    "given_media_id",
    "given_wamid",
    "media_id_behind",
    "message_id_behind",
    "parse_recipient",
    "sources_of",
]
