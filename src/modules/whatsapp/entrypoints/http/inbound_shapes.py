"""What callers get to see of what customers write: read, part by part, beside Meta's own object."""

from datetime import datetime
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import BaseModel, Field

from whatsapp.domain.entities import InboundMessage
from whatsapp.domain.value_objects import (
    CallPermission,
    ContactCard,
    FlowReply,
    InboundContent,
    InboundDetails,
    InboundLocation,
    InboundMedia,
    InboundOrder,
    InboundReaction,
    InboundReply,
    ProductReference,
    Referral,
    SystemChange,
    Unsupported,
)
from whatsapp.entrypoints.http.responses import FailureResponse

_Part = TypeVar("_Part")

_HEARD: Final[dict[str, Any]] = {
    "id": "0193571c-0000-7000-8000-00000000002a",
    "direction": "in",
    "type": "text",
    "context": None,
    "wamid": "wamid.HBgLMTY1MDU1NTEyMzQ",
    "at": "2026-11-23T08:00:00Z",
    "status": None,
    "failure": None,
    "referral": None,
    "errors": [],
    "edited_at": None,
    "revoked_at": None,
}
EDITED_MESSAGE: Final[dict[str, Any]] = _HEARD | {
    "content": {"body": "On the 21st, please"},
    "details": {"text": "On the 21st, please"},
    "context": {"message_id": "wamid.HBgLMTU1NTA3ODM4ODE", "sender": "15550783881"},
    "referral": {
        "source_url": "https://fb.me/example",
        "source_id": "120226305854810726",
        "source_type": "ad",
        "headline": "Haircuts",
        "body": "Book today",
        "media_type": "image",
        "image_url": "https://example.com/ad.jpg",
        "video_url": None,
        "thumbnail_url": None,
        "ctwa_clid": "Aff-example",
        "welcome_message": "Hi! When would you like to come?",
    },
    "edited_at": "2026-11-23T08:01:00Z",
    "original": {
        "type": "text",
        "content": {"body": "On the 12th, please"},
        "details": {"text": "On the 12th, please"},
    },
}
TAKEN_BACK: Final[dict[str, Any]] = _HEARD | {
    "content": None,
    "details": None,
    "revoked_at": "2026-11-23T09:00:00Z",
    "original": {"type": "text", "content": {"body": "Oh"}, "details": {"text": "Oh"}},
}


def _is_missing(value: object) -> bool:
    return value is None or value is False


Maybe = Annotated[_Part | None, Field(default=None, exclude_if=_is_missing)]
"""Left out where there is no such thing."""


class InboundDetailsResponse(BaseModel):
    """What was read from a message of a customer; parts that it does not have are left out."""

    text: Maybe[str]
    media: Maybe[InboundMedia]
    location: Maybe[InboundLocation]
    contacts: Maybe[tuple[ContactCard, ...]]
    reaction: Maybe[InboundReaction]
    reply: Maybe[InboundReply]
    flow: Maybe[FlowReply]
    call_permission: Maybe[CallPermission]
    products: Maybe[tuple[ProductReference, ...]]
    order: Maybe[InboundOrder]
    system_change: Maybe[SystemChange]
    unsupported: Maybe[Unsupported]

    @classmethod
    def of(cls, content: InboundContent) -> Self:
        """The parts of `content`."""
        read = InboundDetails.of(content)
        return cls(**{name: getattr(read, name) for name in cls.model_fields})


class ContextResponse(BaseModel):
    """What a message answers or asks about; what does not apply is left out."""

    message_id: Maybe[str] = Field(
        default=None, description="The wamid of the message that is answered."
    )
    sender: Maybe[str] = Field(default=None, description="Who wrote that one, as Meta says.")
    is_forwarded: Maybe[bool] = Field(default=None, description="It was passed on.")
    is_frequently_forwarded: Maybe[bool] = Field(
        default=None, description="It has been passed on many times."
    )
    referred_product: Maybe[ProductReference] = Field(
        default=None, description="The product from whose page somebody asks."
    )


class OriginalResponse(BaseModel):
    """A message as it was written first."""

    type: str
    content: Any = Field(description="Meta's object under the type's name.")
    details: InboundDetailsResponse


class InboundShown(BaseModel):
    """What only messages of customers have."""

    details: InboundDetailsResponse | None = Field(
        default=None, description="What was read from the content; null once it was taken back."
    )
    referral: Referral | None = Field(
        default=None, description="The advertisement or post that led the customer here."
    )
    errors: list[FailureResponse] = Field(
        default_factory=list, description="Why Meta does not pass on what the customer sent."
    )
    edited_at: datetime | None = Field(
        default=None, description="When the customer edited it last; `content` is the edited one."
    )
    revoked_at: datetime | None = Field(
        default=None, description="When the customer took it back; `content` is null from then on."
    )
    original: OriginalResponse | None = Field(
        default=None, description="What was written first, where it was edited or taken back."
    )

    @classmethod
    def read_from(cls, message: InboundMessage) -> dict[str, Any]:
        """The values of these fields."""
        edited_at, revoked_at = message.edited_at, message.revoked_at
        changed = edited_at is not None or revoked_at is not None
        return {
            "details": None if revoked_at else InboundDetailsResponse.of(message.current),
            "referral": message.referral,
            "errors": [
                FailureResponse(code=one.code, title=one.title, details=one.details, advice=None)
                for one in message.errors
            ],
            "edited_at": edited_at,
            "revoked_at": revoked_at,
            "original": _original(message.content) if changed else None,
        }


def _original(content: InboundContent) -> OriginalResponse:
    return OriginalResponse(
        type=content.type,
        content=content.to_dict()[content.type],
        details=InboundDetailsResponse.of(content),
    )
