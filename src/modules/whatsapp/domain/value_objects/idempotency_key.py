"""What makes the second request for one message the same message."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from shared.kernel.errors import InvalidInput, ensure_type
from whatsapp.domain.value_objects.masked import Masked
from whatsapp.domain.value_objects.phone_number import PhoneNumber
from whatsapp.domain.value_objects.recipient import Recipient

MAX_KEY_CHARACTERS = 255
_VISIBLE_ASCII = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_CHARACTERS}}}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InvalidIdempotencyKey(InvalidInput):
    """Not an idempotency key; the detail speaks of its length only."""

    code = "invalid_idempotency_key"
    title = "The idempotency key is not valid"


@dataclass(frozen=True, slots=True, repr=False)
class IdempotencyKey(Masked):
    """1 to 255 visible ASCII characters, unique in a tenant; masked, as callers put names in."""

    value: str

    def __post_init__(self) -> None:
        ensure_type(self.value, str, InvalidIdempotencyKey)
        if _VISIBLE_ASCII.fullmatch(self.value) is None:
            raise InvalidIdempotencyKey(
                f"{len(self.value)} characters; 1 to {MAX_KEY_CHARACTERS} visible ASCII are needed"
            )

    @classmethod
    def derive(
        cls, *, account_id: UUID | str, to_phone: Recipient, content: str, timestamp: datetime
    ) -> Self:
        """The lower-case hex SHA-256 of `account_id:to_phone:content:timestamp`, in UTF-8.

        `to_phone` is written in E.164 (a user id as it is), `content` is
        `MessageContent.canonical_json()`, `timestamp` is aware and written as whole Unix seconds,
        rounded down: the same message to the same person within the same second is the same.
        Only `content` may hold a colon, so that two inputs never spell the same text.
        """
        account = str(account_id)
        if not account or ":" in account:
            raise InvalidIdempotencyKey("the account id is empty or holds a colon")
        if timestamp.tzinfo is None:
            raise InvalidIdempotencyKey("the timestamp needs a time zone")
        to = to_phone.e164 if isinstance(to_phone, PhoneNumber) else to_phone.value
        seconds = (timestamp - _EPOCH) // timedelta(seconds=1)
        # A lone surrogate has no UTF-8; it is spelt out, as the error would carry the content.
        text = f"{account}:{to}:{content}:{seconds}".encode(errors="backslashreplace")
        return cls(hashlib.sha256(text).hexdigest())
