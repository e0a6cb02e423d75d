"""Phone numbers in E.164, and Meta's own spelling of them (`wa_id`: the digits alone).

A number without a leading plus is refused where a person or a program wrote it: without the plus
Meta may prepend the sender's own country code and deliver to a stranger, without any error (Meta,
Cloud API, phone number formats). Digits that Meta itself handed out are complete; `from_wa_id` is
the only door for them.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from shared.kernel.errors import InvalidInput, ensure_type
from whatsapp.domain.value_objects.masked import Masked

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_WA_ID = re.compile(r"[1-9][0-9]{6,14}")
_PUNCTUATION = str.maketrans("", "", " ()-\u00a0\u2010\u2011")
# Mobile numbers that Meta writes now with and now without a digit: Brazil's ninth, Mexico's and
# Argentina's mobile prefix (Meta, Cloud API, phone number formats).
_TWO_SPELLINGS = (
    (re.compile(r"(\+55[1-9]{2})9([6-9][0-9]{7})"), r"\1\2"),
    (re.compile(r"(\+55[1-9]{2})([6-9][0-9]{7})"), r"\g<1>9\2"),
    (re.compile(r"(\+52)1([2-9][0-9]{9})"), r"\1\2"),
    (re.compile(r"(\+52)([2-9][0-9]{9})"), r"\g<1>1\2"),
    (re.compile(r"(\+54)9([1-8][0-9]{9})"), r"\1\2"),
    (re.compile(r"(\+54)([1-8][0-9]{9})"), r"\g<1>9\2"),
)
OPTIONAL_DIGIT: Final = "|".join(f"^{longer.pattern}$" for longer, _ in _TWO_SPELLINGS[::2])
WITHOUT_DIGIT: Final = "".join(rf"\{group}" for group in range(1, len(_TWO_SPELLINGS) + 1))
"""Numbers with the digit, and what is left without it; PostgreSQL reads both as Python does."""
_OPTIONAL_DIGIT: Final = re.compile(OPTIONAL_DIGIT)
_MAX_WRITTEN_CHARACTERS = 40  # 15 digits, each with a separator, and room to spare


class InvalidPhoneNumber(InvalidInput):
    """Not an international phone number; the detail says why and never repeats it."""

    code = "invalid_phone_number"
    title = "The phone number is not valid"


@dataclass(frozen=True, slots=True, repr=False)
class PhoneNumber(Masked):
    """An E.164 number; holding an instance is proof that its shape was checked.

    The shape is a plus and 7 to 15 digits of which the first is not 0. Whether the number exists
    or is on WhatsApp is for Meta to say: it changes prefixes of its own accord (Brazil, Mexico).
    """

    e164: str

    def __post_init__(self) -> None:
        ensure_type(self.e164, str, InvalidPhoneNumber)
        if _E164.fullmatch(self.e164) is None:
            raise InvalidPhoneNumber(
                f"{len(self.e164)} characters, not a plus and 7 to 15 digits without a leading 0"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The number as a person wrote it: plus, spaces, hyphens and parentheses are fine.

        Refused: a number without its plus (see the module), and the trunk zero of `+44 (0)20`,
        which is dialled at home only and would make it another number.
        """
        ensure_type(text, str, InvalidPhoneNumber)
        if len(text) > _MAX_WRITTEN_CHARACTERS:
            raise InvalidPhoneNumber(f"{len(text)} characters are too many for a phone number")
        if "(0)" in text:
            raise InvalidPhoneNumber("leave out the zero in parentheses: it is not dialled after +")
        bare = text.translate(_PUNCTUATION)
        if not bare.startswith("+"):
            raise InvalidPhoneNumber("write + and the country code first, as in +<country><number>")
        return cls(bare)

    @classmethod
    def from_wa_id(cls, digits: str) -> Self:
        """The number behind a `wa_id`: 7 to 15 digits with their country code and no plus."""
        ensure_type(digits, str, InvalidPhoneNumber)
        if _WA_ID.fullmatch(digits) is None:
            raise InvalidPhoneNumber(
                f"{len(digits)} characters, not a wa_id: 7 to 15 digits without a leading 0"
            )
        return cls(f"+{digits}")

    @property
    def wa_id(self) -> str:
        """The digits alone, as Meta writes the number in answers and webhooks."""
        return self.e164[1:]

    @property
    def other_spelling(self) -> "PhoneNumber | None":
        """The other way in which Meta may write this person's number, where a country has two.

        Good for recognising somebody, never for dialling.
        """
        for spelling, other in _TWO_SPELLINGS:
            if (found := spelling.fullmatch(self.e164)) is not None:
                return PhoneNumber(found.expand(other))
        return None

    @property
    def canonical(self) -> "PhoneNumber":
        """The shorter spelling of this person's number, the same for both.

        Good for counting and comparing, never for dialling.
        """
        spelt = _OPTIONAL_DIGIT.sub(WITHOUT_DIGIT, self.e164)
        return self if spelt == self.e164 else PhoneNumber(spelt)
