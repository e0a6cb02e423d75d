"""Cursors: where a page ended, as a text that callers pass back and do not read."""

import base64
import binascii
from uuid import UUID

from shared.kernel.errors import InvalidInput

_ID_BYTES = 16


class InvalidCursor(InvalidInput):
    """The cursor is not one that this API gave out."""

    code = "invalid_cursor"
    title = "The cursor is not one that this list gave out"


def write_cursor(last: UUID | None) -> str | None:
    """The cursor behind `last`; None where nothing follows."""
    return None if last is None else base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def read_cursor(text: str | None) -> UUID | None:
    """The id in a cursor; raises InvalidCursor."""
    if text is None:
        return None
    try:
        data = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != _ID_BYTES:
        raise InvalidCursor(field="cursor")
    return UUID(bytes=data)
