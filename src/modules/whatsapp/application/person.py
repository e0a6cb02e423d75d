"""Who somebody is, as far as what Meta wrote can be believed."""

from whatsapp.domain.value_objects import InvalidPhoneNumber, PhoneNumber, UserId
from whatsapp.domain.value_objects.user_id import InvalidUserId


def phone_of(wa_id: str | None) -> PhoneNumber | None:
    """Meta's spelling of a number; one that is none stays in `raw` alone."""
    try:
        return None if wa_id is None else PhoneNumber.from_wa_id(wa_id)
    except InvalidPhoneNumber:
        return None


def user_of(user_id: str | None) -> UserId | None:
    """A business-scoped user id; one that is none stays in `raw` alone."""
    try:
        return None if user_id is None else UserId(user_id)
    except InvalidUserId:
        return None
