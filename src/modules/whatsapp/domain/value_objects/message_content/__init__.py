"""The content of outbound messages and the limits Meta sets for it."""

from whatsapp.domain.value_objects.message_content.content import (
    MAX_CONTENT_BYTES,
    MessageContent,
    MessageType,
    RecipientType,
)
from whatsapp.domain.value_objects.message_content.frozen_json import InvalidContent, Json

__all__ = [
    "MAX_CONTENT_BYTES",
    "InvalidContent",
    "Json",
    "MessageContent",
    "MessageType",
    "RecipientType",
]
