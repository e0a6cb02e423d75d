"""The card of somebody that a person passed on, or their own where they were asked for it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from whatsapp.domain.value_objects.inbound_content.reading import field_of, items_of, text_of
from whatsapp.domain.value_objects.masked import Masked
from whatsapp.domain.value_objects.message_content.frozen_json import Json

_Texts = TypeVar("_Texts", bound=Masked)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CardName(Masked):
    """What somebody is called; `formatted_name` is the whole of it."""

    formatted_name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    middle_name: str | None = None
    prefix: str | None = None
    suffix: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CardPhone(Masked):
    """A number as it stands on the card; with a `wa_id` or `user_id` it is on WhatsApp."""

    phone: str | None = None
    wa_id: str | None = None
    user_id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CardEmail(Masked):
    """An address for mail."""

    email: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CardAddress(Masked):
    """Where somebody lives or works."""

    street: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    country: str | None = None
    country_code: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CardUrl(Masked):
    """A page on the web."""

    url: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CardOrganization(Masked):
    """Where somebody works, and as what."""

    company: str | None = None
    department: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ContactCard(Masked):
    """Everything on one card; `birthday` is a date as WhatsApp writes it.

    `origin` is `contact_request` where a person answered our question for their number; `vcard` is
    the card as a file, where it was shared from an address book.
    """

    name: CardName | None = None
    phones: tuple[CardPhone, ...] = ()
    emails: tuple[CardEmail, ...] = ()
    addresses: tuple[CardAddress, ...] = ()
    urls: tuple[CardUrl, ...] = ()
    org: CardOrganization | None = None
    birthday: str | None = None
    origin: str | None = None
    vcard: str | None = None


def contact_cards(body: Json) -> tuple[ContactCard, ...]:
    """The cards in the array of a contacts message; what is no object is left out."""
    return tuple(_card(item) for item in items_of(body) if isinstance(item, Mapping))


def _card(item: Json) -> ContactCard:
    return ContactCard(
        name=_texts(CardName, field_of(item, "name")),
        phones=_each(CardPhone, item, "phones"),
        emails=_each(CardEmail, item, "emails"),
        addresses=_each(CardAddress, item, "addresses"),
        urls=_each(CardUrl, item, "urls"),
        org=_texts(CardOrganization, field_of(item, "org")),
        birthday=text_of(item, "birthday"),
        origin=text_of(item, "origin"),
        vcard=text_of(item, "vcard"),
    )


def _each(kind: type[_Texts], item: Json, key: str) -> tuple[_Texts, ...]:
    found = (_texts(kind, one) for one in items_of(item, key))
    return tuple(one for one in found if one is not None)


def _texts(kind: type[_Texts], value: Json) -> _Texts | None:
    """A value whose fields are all texts, by their names; None where none of them is there."""
    names = [field.name for field in dataclasses.fields(cast("Any", kind))]
    found = {name: text for name in names if (text := text_of(value, name)) is not None}
    return kind(**found) if found else None
