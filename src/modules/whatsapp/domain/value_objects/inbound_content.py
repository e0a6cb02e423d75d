"""What a person wrote or did: kept as Meta sent it, with typed answers to the common questions.

Nothing here refuses anything: a webhook that cannot be read must not take its neighbours down, and
Meta adds types and fields at will. An accessor answers None (or nothing) where the content has no
such thing or has it in a shape that nobody knows.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from whatsapp.domain.value_objects.masked import Masked
from whatsapp.domain.value_objects.message_content.frozen_json import (
    Json,
    canonical,
    freeze_anything,
    thaw,
)

UNKNOWN = "unknown"
MEDIA_TYPES = frozenset({"image", "video", "audio", "document", "sticker"})
_SUMMARIES: Mapping[str, tuple[str, ...]] = {
    "text": ("body",),
    "image": ("caption",),
    "video": ("caption",),
    "document": ("caption",),
    "button": ("text",),
    "order": ("text",),
    "reaction": ("emoji",),
    "system": ("body",),
    "location": ("name", "address"),
}
_SHOWN_TYPE = re.compile(r"[a-z_]{1,64}")


@dataclass(frozen=True, slots=True, repr=False)
class InboundMedia(Masked):
    """A file that a person sent; Meta keeps it for 7 days under its id and 5 minutes at its url."""

    id: str
    mime_type: str | None = None
    sha256: str | None = None
    caption: str | None = None
    filename: str | None = None
    url: str | None = None
    is_voice: bool = False
    is_animated: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class InboundReply(Masked):
    """What a person chose: `id` is ours (of a button or row, or a template button's payload)."""

    id: str
    title: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class InboundReaction(Masked):
    """An emoji on the message `message_id`; without an emoji the reaction was taken back."""

    message_id: str
    emoji: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class InboundLocation(Masked):
    """A place, in degrees."""

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class OrderItem(Masked):
    """One line of an order; the price is for one piece."""

    product_retailer_id: str
    quantity: Decimal | None = None
    item_price: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class InboundOrder(Masked):
    """A cart that a person sent from a catalogue."""

    catalog_id: str
    text: str | None = None
    items: tuple[OrderItem, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class SystemChange(Masked):
    """A person changed number or user id: `change` says which, the rest is the new identity."""

    change: str
    body: str | None = None
    wa_id: str | None = None
    user_id: str | None = None
    previous_user_id: str | None = None


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class InboundContent:
    """The content of an inbound message; immutable, equal by value, shows its type only.

    `body` is Meta's object under the type's name, or whatever stood there: an array for contacts,
    anything for a type that nobody knows yet. What PostgreSQL cannot hold is replaced.
    """

    type: str
    body: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", freeze_anything(self.body))

    def to_dict(self) -> dict[str, Any]:
        """The content as Meta wrote it, as new dicts and lists; without who and when."""
        return {"type": self.type, self.type: thaw(self.body)}

    @property
    def text(self) -> str | None:
        """What the person typed: a text, or the caption of a file."""
        return _text(self.body, "body" if self.type == "text" else "caption")

    @property
    def summary(self) -> str | None:
        """What a person would read at a glance: the text, a caption, the chosen button, a name."""
        if self.type == "interactive":
            flow = _text(_get(self.body, "nfm_reply"), "body")
            return (self.reply and self.reply.title) or flow
        if self.type == "contacts":
            cards = self.body if isinstance(self.body, tuple) else ()
            names = (_text(_get(card, "name"), "formatted_name") for card in cards)
            return ", ".join(filter(None, names)) or None
        found = (_text(self.body, key) for key in _SUMMARIES.get(self.type, ()))
        return next(filter(None, found), None)

    @property
    def target_wamid(self) -> str | None:
        """The message that this one is about: a reaction, an edit or a removal."""
        return _text(self.body, "message_id") or _text(self.body, "original_message_id")

    @property
    def media(self) -> InboundMedia | None:
        """The file, for pictures, films, sounds, documents and stickers."""
        media_id = _text(self.body, "id") if self.type in MEDIA_TYPES else None
        if media_id is None:
            return None
        return InboundMedia(
            id=media_id,
            mime_type=_text(self.body, "mime_type"),
            sha256=_text(self.body, "sha256"),
            caption=_text(self.body, "caption"),
            filename=_text(self.body, "filename"),
            url=_text(self.body, "url"),
            is_voice=_get(self.body, "voice") is True,
            is_animated=_get(self.body, "animated") is True,
        )

    @property
    def reply(self) -> InboundReply | None:
        """The button or row that was chosen, in an interactive message or under a template."""
        if self.type == "button":
            payload = _text(self.body, "payload")
            return None if payload is None else InboundReply(payload, _text(self.body, "text"))
        for kind in ("button_reply", "list_reply"):
            chosen = _get(self.body, kind) if self.type == "interactive" else None
            if (reply_id := _text(chosen, "id")) is not None:
                return InboundReply(reply_id, _text(chosen, "title"), _text(chosen, "description"))
        return None

    @property
    def flow_response(self) -> Any:
        """The answers of a flow as JSON; Meta sends them as a text within the JSON."""
        if self.type != "interactive":
            return None
        try:
            answers = json.loads(_text(_get(self.body, "nfm_reply"), "response_json") or "null")
        except (ValueError, RecursionError):
            return None
        return thaw(freeze_anything(answers))

    @property
    def reaction(self) -> InboundReaction | None:
        """The reaction and the message that it is on."""
        message_id = _text(self.body, "message_id") if self.type == "reaction" else None
        if message_id is None:
            return None
        return InboundReaction(message_id, _text(self.body, "emoji") or None)

    @property
    def location(self) -> InboundLocation | None:
        """The place."""
        if self.type != "location":
            return None
        latitude, longitude = (_decimal(self.body, key) for key in ("latitude", "longitude"))
        if latitude is None or longitude is None:
            return None
        return InboundLocation(
            float(latitude),
            float(longitude),
            name=_text(self.body, "name"),
            address=_text(self.body, "address"),
        )

    @property
    def order(self) -> InboundOrder | None:
        """The cart."""
        catalog_id = _text(self.body, "catalog_id") if self.type == "order" else None
        if catalog_id is None:
            return None
        lines = _get(self.body, "product_items")
        items = (_order_item(line) for line in (lines if isinstance(lines, tuple) else ()))
        return InboundOrder(
            catalog_id, _text(self.body, "text"), tuple(item for item in items if item is not None)
        )

    @property
    def system_change(self) -> SystemChange | None:
        """The change of number or user id that Meta tells of."""
        if self.type != "system":
            return None
        return SystemChange(
            change=_text(self.body, "type") or UNKNOWN,
            body=_text(self.body, "body"),
            wa_id=_text(self.body, "wa_id"),
            user_id=_text(self.body, "user_id"),
            previous_user_id=_text(self.body, "previous_user_id"),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InboundContent):
            return NotImplemented
        return canonical(self.to_dict()) == canonical(other.to_dict())

    def __hash__(self) -> int:
        return hash(canonical(self.to_dict()))

    def __repr__(self) -> str:
        shown = self.type if _SHOWN_TYPE.fullmatch(self.type) else UNKNOWN
        return f"InboundContent(type={shown!r})"


def _order_item(line: Json) -> OrderItem | None:
    product = _text(line, "product_retailer_id")
    if product is None:
        return None
    return OrderItem(
        product,
        quantity=_decimal(line, "quantity"),
        item_price=_decimal(line, "item_price"),
        currency=_text(line, "currency"),
    )


def _get(value: Json, key: str) -> Json:
    return value.get(key) if isinstance(value, Mapping) else None


def _text(value: Json, key: str) -> str | None:
    text = _get(value, key)
    return text if isinstance(text, str) else None


def _decimal(value: Json, key: str) -> Decimal | None:
    """A finite number, also where it is written as a text."""
    number = _get(value, key)
    if isinstance(number, bool) or not isinstance(number, int | float | str):
        return None
    try:
        decimal = Decimal(str(number))
    except InvalidOperation:
        return None
    return decimal if decimal.is_finite() else None
