"""What stands beside the content of an inbound message: where it comes from, what it answers."""

from dataclasses import dataclass
from typing import Any, Final

from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects.inbound_content.parts import ProductReference
from whatsapp.domain.value_objects.inbound_content.reading import (
    field_of,
    flag_of,
    integer_of,
    items_of,
    text_of,
)
from whatsapp.domain.value_objects.masked import Masked
from whatsapp.domain.value_objects.message_content.frozen_json import Json, freeze_anything

_MAX_CODE: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Referral(Masked):
    """The advertisement or post behind which somebody began to write.

    `source_type` is `ad` or `post`, `media_type` `image` or `video`; `ctwa_clid` is Meta's id of
    the click, to report a sale with; `welcome_message` is what the advertisement greeted with.
    """

    source_url: str | None = None
    source_id: str | None = None
    source_type: str | None = None
    headline: str | None = None
    body: str | None = None
    media_type: str | None = None
    image_url: str | None = None
    video_url: str | None = None
    thumbnail_url: str | None = None
    ctwa_clid: str | None = None
    welcome_message: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class InboundContext(Masked):
    """What a message answers, whether it was passed on, and the product that it asks about.

    `sender` wrote what is answered. What was passed on very often is `is_frequently_forwarded`, and
    forwarded as well.
    """

    message_id: str | None = None
    sender: str | None = None
    is_forwarded: bool = False
    is_frequently_forwarded: bool = False
    referred_product: ProductReference | None = None


def referral_of(message: Any) -> Referral | None:
    """The referral of Meta's message object, in any shape; None where there is none."""
    found = freeze_anything(field_of(message, "referral"))
    texts = {
        name: text for name in Referral.__slots__ if (text := text_of(found, name)) is not None
    }
    if (welcome := _welcome(found)) is not None:
        texts["welcome_message"] = welcome
    return Referral(**texts) if texts else None


def _welcome(referral: Json) -> str | None:
    """The greeting: an object with a text, or the text alone."""
    return text_of(field_of(referral, "welcome_message"), "text")


def context_of(message: Any, answered: str | None) -> InboundContext | None:
    """The context of Meta's message object that answers `answered`; None if it says nothing."""
    found = freeze_anything(field_of(message, "context"))
    often = flag_of(found, "frequently_forwarded")
    product = field_of(found, "referred_product")
    retailer_id = text_of(product, "product_retailer_id")
    context = InboundContext(
        message_id=answered,
        sender=text_of(found, "from"),
        is_forwarded=often or flag_of(found, "forwarded"),
        is_frequently_forwarded=often,
        referred_product=(
            None
            if retailer_id is None
            else ProductReference(retailer_id, text_of(product, "catalog_id"))
        ),
    )
    return None if context == InboundContext() else context


def errors_of(message: Any) -> tuple[FailureReason, ...]:
    """Why Meta does not pass on what somebody sent, as it stands in its message object."""
    return tuple(_error(one) for one in items_of(freeze_anything(field_of(message, "errors"))))


def _error(error: Json) -> FailureReason:
    title = text_of(error, "title") or text_of(error, "message")
    details = text_of(field_of(error, "error_data"), "details")
    code = integer_of(error, "code", most=_MAX_CODE)
    return FailureReason(code, title or "Meta gives no reason", details or "")
