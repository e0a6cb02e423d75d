"""The ids that Tellwire gives where Meta would have given one of its own, which is not known yet.

A message's looks like one of Meta's (`wamid.` and base64) and holds our message's id, so that no
table is needed to find the message behind it. Two bytes of a digest tell it from anybody else's.

A file's is its own id in digits: Meta's are digits, by which clients tell an id from a path. It has
twice as many of them.
"""

import base64
import binascii
import hashlib
import re
from typing import Final
from uuid import UUID

_PREFIX: Final = "wamid."
_MARK: Final = b"tw1"
_ID_BYTES: Final = 16
_CHECK_BYTES: Final = 2
_OURS: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGITS: Final = re.compile(r"[1-9][0-9]{35,38}")
_UUID_BITS: Final = 128
_VERSION: Final = 7
_BYTES: Final = len(_MARK) + _ID_BYTES + _CHECK_BYTES  # a multiple of three: no padding


def given_wamid(message_id: UUID) -> str:
    """What a client is told in place of Meta's wamid; the same for the same message always."""
    return _PREFIX + base64.urlsafe_b64encode(_marked(message_id.bytes)).decode()


def message_id_behind(wamid: str) -> UUID | None:
    """The id of our message that `wamid` was given for; None for one of Meta's, or any text."""
    if not wamid.startswith(_PREFIX) or not wamid.isascii():
        return None
    try:
        data = base64.b64decode(wamid[len(_PREFIX) :], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    ident = data[len(_MARK) : len(_MARK) + _ID_BYTES]
    if len(data) != _BYTES or data != _marked(ident):
        return None
    return UUID(bytes=ident)


def given_media_id(media_id: UUID) -> str:
    """What a client of Meta's endpoint is told as the id of a file."""
    return str(media_id.int)


def media_id_behind(given: str) -> UUID | None:
    """The id of our file that `given` means, in digits or as it is; None for one of Meta's."""
    if _OURS.fullmatch(given):
        return UUID(given)
    if not _DIGITS.fullmatch(given) or int(given) >> _UUID_BITS:
        return None
    found = UUID(int=int(given))
    return found if found.version == _VERSION else None


def _marked(ident: bytes) -> bytes:
    return _MARK + ident + hashlib.sha256(_MARK + ident).digest()[:_CHECK_BYTES]
