"""Cursors: where a page ended, as a text that callers pass back and do not read."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.kernel.errors import InvalidInput
from whatsapp.application.conversation_views import Place

_ID_BYTES = 16
_TIME_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InvalidCursor(InvalidInput):
    """The cursor is not one that this API gave out."""

    code = "invalid_cursor"
    title = "The cursor is not one that this list gave out"


def write_cursor(last: UUID | None) -> str | None:
    """The cursor behind `last`; None where nothing follows."""
    return None if last is None else base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def read_cursor(text: str | None) -> UUID | None:
    """The id in a cursor; raises InvalidCursor."""
    return None if text is None else UUID(bytes=_decoded(text, _ID_BYTES))


def write_place(last: Place | None) -> str | None:
    """The cursor behind a time and an id; None where nothing follows."""
    if last is None:
        return None
    micros = (last.at - _EPOCH) // timedelta(microseconds=1)
    data = micros.to_bytes(_TIME_BYTES, "big", signed=True) + last.id.bytes
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_place(text: str | None) -> Place | None:
    """The time and the id in a cursor; raises InvalidCursor."""
    if text is None:
        return None
    data = _decoded(text, _TIME_BYTES + _ID_BYTES)
    micros = int.from_bytes(data[:_TIME_BYTES], "big", signed=True)
    try:
        at = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise InvalidCursor(field="cursor") from None
    return Place(at, UUID(bytes=data[_TIME_BYTES:]))


def _decoded(text: str, size: int) -> bytes:
    padding = "=" * (-len(text) % 4)
    try:
        data = base64.b64decode(text + padding, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size:
        raise InvalidCursor(field="cursor")
    return data
