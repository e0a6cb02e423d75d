"""What a person wrote or did: kept as Meta sent it, with typed answers to the common questions.

Nothing here refuses anything: a webhook that cannot be read must not take its neighbours down, and
Meta adds types and fields at will. An accessor answers None (or nothing) where the content has no
such thing or has it in a shape that nobody knows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whatsapp.domain.value_objects.inbound_content.contact_card import ContactCard, contact_cards
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
from whatsapp.domain.value_objects.inbound_content.reading import (
    decimal_of,
    embedded_json,
    field_of,
    flag_of,
    items_of,
    moment_of,
    text_of,
)
from whatsapp.domain.value_objects.message_content.frozen_json import (
    Json,
    canonical,
    freeze_anything,
    thaw,
)

UNKNOWN = "unknown"
MEDIA_TYPES = frozenset({"image", "video", "audio", "document", "sticker"})
EDIT, REVOKE = "edit", "revoke"
MAX_WAMID_CHARACTERS = 512
"""Longer than any id that Meta gives out, and short enough for an index."""
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
        return text_of(self.body, "body" if self.type == "text" else "caption")

    @property
    def summary(self) -> str | None:
        """What a person would read at a glance: the text, a caption, the chosen button, a name."""
        if self.type == "interactive":
            title = self.reply.title if self.reply else None
            return title or (self.flow.body if self.flow else None)
        if self.type == "contacts":
            names = [card.name for card in self.contacts or () if card.name is not None]
            return ", ".join(filter(None, (name.formatted_name for name in names))) or None
        found = (text_of(self.body, key) for key in _SUMMARIES.get(self.type, ()))
        return next(filter(None, found), None)

    @property
    def target_wamid(self) -> str | None:
        """The message that this one is about: a reaction, an edit or a removal."""
        return text_of(self.body, "message_id") or text_of(self.body, "original_message_id")

    @property
    def edited(self) -> "InboundContent | None":
        """What an edit makes of the message that it is about."""
        message = field_of(self.body, "message") if self.type == EDIT else None
        kind = text_of(message, "type")
        body = field_of(message, kind) if kind else None
        return InboundContent(kind, body) if kind and body is not None else None

    @property
    def amends(self) -> str | None:
        """The wamid of the message that this one edits or removes; None where it does neither."""
        wamid = text_of(self.body, "original_message_id")
        if not wamid or len(wamid) > MAX_WAMID_CHARACTERS:
            return None
        return wamid if self.type == REVOKE or self.edited is not None else None

    @property
    def media(self) -> InboundMedia | None:
        """The file, for pictures, films, sounds, documents and stickers."""
        media_id = text_of(self.body, "id") if self.type in MEDIA_TYPES else None
        if media_id is None:
            return None
        return InboundMedia(
            id=media_id,
            mime_type=text_of(self.body, "mime_type"),
            sha256=text_of(self.body, "sha256"),
            caption=text_of(self.body, "caption"),
            filename=text_of(self.body, "filename"),
            url=text_of(self.body, "url"),
            is_voice=flag_of(self.body, "voice"),
            is_animated=flag_of(self.body, "animated"),
        )

    @property
    def contacts(self) -> tuple[ContactCard, ...] | None:
        """The cards of people that were passed on."""
        return (contact_cards(self.body) or None) if self.type == "contacts" else None

    @property
    def reply(self) -> InboundReply | None:
        """The button or row that was chosen, in an interactive message or under a template."""
        if self.type == "button":
            payload = text_of(self.body, "payload")
            return None if payload is None else InboundReply(payload, text_of(self.body, "text"))
        for kind in ("button_reply", "list_reply"):
            chosen = self._interactive(kind)
            if (reply_id := text_of(chosen, "id")) is not None:
                title, description = text_of(chosen, "title"), text_of(chosen, "description")
                return InboundReply(reply_id, title, description)
        return None

    @property
    def flow(self) -> FlowReply | None:
        """The flow that was completed, with its answers."""
        reply = self._interactive("nfm_reply")
        if not isinstance(reply, Mapping):
            return None
        return FlowReply(
            name=text_of(reply, "name"),
            body=text_of(reply, "body"),
            response=embedded_json(reply, "response_json"),
        )

    @property
    def flow_response(self) -> Any:
        """The answers of a flow as JSON; Meta sends them as a text within the JSON."""
        return None if self.flow is None else self.flow.response

    @property
    def call_permission(self) -> CallPermission | None:
        """Whether the person lets us call."""
        reply = self._interactive("call_permission_reply")
        response = text_of(reply, "response")
        if response is None:
            return None
        return CallPermission(
            response,
            is_permanent=flag_of(reply, "is_permanent"),
            expires_at=moment_of(reply, "expiration_timestamp"),
            source=text_of(reply, "response_source"),
        )

    @property
    def products(self) -> tuple[ProductReference, ...] | None:
        """The products that were chosen in an interactive message.

        Meta's word for it is young: whatever the message's own kind is called, an object under that
        name counts if it names a product, or has a list of them.
        """
        if self.type != "interactive":
            return None
        chosen = field_of(self.body, text_of(self.body, "type") or "")
        catalog_id = text_of(chosen, "catalog_id")
        lines = (chosen, *items_of(chosen, "product_items"), *items_of(chosen, "products"))
        found = (_product(line, catalog_id) for line in lines)
        return tuple(one for one in found if one is not None) or None

    @property
    def reaction(self) -> InboundReaction | None:
        """The reaction and the message that it is on."""
        message_id = text_of(self.body, "message_id") if self.type == "reaction" else None
        if message_id is None:
            return None
        return InboundReaction(message_id, text_of(self.body, "emoji") or None)

    @property
    def location(self) -> InboundLocation | None:
        """The place."""
        if self.type != "location":
            return None
        latitude = decimal_of(self.body, "latitude")
        longitude = decimal_of(self.body, "longitude")
        if latitude is None or not -90 <= latitude <= 90:  # noqa: PLR2004  # degrees
            return None
        if longitude is None or not -180 <= longitude <= 180:  # noqa: PLR2004  # degrees
            return None
        return InboundLocation(
            float(latitude),
            float(longitude),
            name=text_of(self.body, "name"),
            address=text_of(self.body, "address"),
            url=text_of(self.body, "url"),
        )

    @property
    def order(self) -> InboundOrder | None:
        """The cart."""
        catalog_id = text_of(self.body, "catalog_id") if self.type == "order" else None
        if catalog_id is None:
            return None
        items = (_order_item(line) for line in items_of(self.body, "product_items"))
        return InboundOrder(
            catalog_id, text_of(self.body, "text"), tuple(one for one in items if one is not None)
        )

    @property
    def system_change(self) -> SystemChange | None:
        """The change of number or user id that Meta tells of."""
        if self.type != "system":
            return None
        return SystemChange(
            change=text_of(self.body, "type") or UNKNOWN,
            body=text_of(self.body, "body"),
            wa_id=text_of(self.body, "wa_id"),
            user_id=text_of(self.body, "user_id"),
            previous_user_id=text_of(self.body, "previous_user_id"),
        )

    @property
    def unsupported(self) -> Unsupported | None:
        """What Meta does not pass on."""
        return Unsupported(text_of(self.body, "type")) if self.type == "unsupported" else None

    def _interactive(self, kind: str) -> Json:
        """The object of an interactive answer of this kind."""
        return field_of(self.body, kind) if self.type == "interactive" else None

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
    product = text_of(line, "product_retailer_id")
    if product is None:
        return None
    return OrderItem(
        product,
        quantity=decimal_of(line, "quantity"),
        item_price=decimal_of(line, "item_price"),
        currency=text_of(line, "currency"),
    )


def _product(line: Json, catalog_id: str | None) -> ProductReference | None:
    product = text_of(line, "product_retailer_id")
    if product is None:
        return None
    return ProductReference(product, text_of(line, "catalog_id") or catalog_id)
