"""What an inbound message may hold besides text, each kind as a value of its own."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from whatsapp.domain.value_objects.masked import Masked


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
class FlowReply(Masked):
    """A flow that a person completed; `response` is the JSON of their answers, None if unreadable.

    Meta sends the answers as a text within the JSON.
    """

    name: str | None = None
    body: str | None = None
    response: Any = None


@dataclass(frozen=True, slots=True, repr=False)
class CallPermission(Masked):
    """Whether a person lets us call: `response` is Meta's word, `accept` or `reject`.

    `source` says whether they tapped it (`user_action`) or called themselves (`automatic`).
    """

    response: str
    is_permanent: bool = False
    expires_at: datetime | None = None
    source: str | None = None

    @property
    def is_granted(self) -> bool:
        """Whether calls are welcome, until `expires_at` if there is such a time."""
        return self.response == "accept"


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
    url: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class ProductReference(Masked):
    """A product of a catalogue: looked at, asked about or chosen."""

    product_retailer_id: str
    catalog_id: str | None = None


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


@dataclass(frozen=True, slots=True, repr=False)
class Unsupported(Masked):
    """Something that Meta does not pass on (a poll, a view-once picture ...); `kind` is its name.

    Why not is among the message's errors.
    """

    kind: str | None = None
