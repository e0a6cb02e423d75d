"""Business-scoped user ids (BSUID): how Meta names a person whose phone number it keeps back."""

import re
from dataclasses import dataclass

from shared.kernel.errors import InvalidInput, ensure_type
from whatsapp.domain.value_objects.masked import Masked

_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")


class InvalidUserId(InvalidInput):
    """Not a business-scoped user id."""

    code = "invalid_user_id"
    title = "The user id is not valid"


@dataclass(frozen=True, slots=True, repr=False)
class UserId(Masked):
    """A business-scoped user id, `<country>.<id>` or `<country>.ENT.<id>`, never normalised.

    It belongs to one business portfolio and changes when the person changes the phone number
    (Meta, Cloud API, business-scoped user ids).
    """

    value: str

    def __post_init__(self) -> None:
        ensure_type(self.value, str, InvalidUserId)
        if _BSUID.fullmatch(self.value) is None:
            raise InvalidUserId(
                f"{len(self.value)} characters that are not a country code, a dot and "
                "up to 128 letters and digits"
            )

    @classmethod
    def looks_like(cls, text: str) -> bool:
        """Whether `text` has the shape of a user id; no phone number has it."""
        return _BSUID.fullmatch(text) is not None
