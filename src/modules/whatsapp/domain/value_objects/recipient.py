"""Who a message goes to: a phone number or a business-scoped user id."""

from typing import TypeAlias

from shared.kernel.errors import InvalidInput
from whatsapp.domain.value_objects.phone_number import InvalidPhoneNumber, PhoneNumber
from whatsapp.domain.value_objects.user_id import InvalidUserId, UserId

Recipient: TypeAlias = PhoneNumber | UserId


class InvalidRecipient(InvalidInput):
    """Nobody to send to, or not a text."""

    code = "invalid_recipient"
    title = "The recipient is not valid"


def parse_recipient(
    *, to: object = None, recipient: object = None, bare_digits: bool = False
) -> Recipient:
    """The recipient of a request with Meta's two fields; where both are given, `to` wins.

    `to` is a phone number; a user id in it is taken as one, because clients do that. `bare_digits`
    also takes a number without its plus, as a `wa_id`: for clients of Meta's own endpoint, which
    send back the digits Meta gave them. Raises `InvalidRecipient`, `InvalidPhoneNumber` or
    `InvalidUserId`, with the field.
    """
    if to is not None:
        return _parse_to(_text(to, "to"), bare_digits=bare_digits)
    if recipient is None:
        raise InvalidRecipient("give `to` (a phone number) or `recipient` (a user id)", field="to")
    try:
        return UserId(_text(recipient, "recipient"))
    except InvalidUserId as error:
        raise InvalidUserId(error.detail, field="recipient") from None


def _parse_to(text: str, *, bare_digits: bool) -> Recipient:
    if UserId.looks_like(text):
        return UserId(text)
    try:
        if bare_digits and not text.lstrip().startswith("+"):
            return PhoneNumber.from_wa_id(text.strip())
        return PhoneNumber.parse(text)
    except InvalidPhoneNumber as error:
        raise InvalidPhoneNumber(error.detail, field="to") from None


def _text(value: object, field: str) -> str:
    if isinstance(value, str):
        return value
    raise InvalidRecipient(f"a text is needed, not {type(value).__name__}", field=field)
