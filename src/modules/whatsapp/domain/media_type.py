"""Which files there are by Meta's rules: their kinds, MIME types and sizes.

Source: Meta, Cloud API reference, media.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from shared.kernel.errors import InvalidInput

KIBIBYTE: Final = 1024
MEBIBYTE: Final = 1024 * KIBIBYTE
MAX_OUTBOUND_BYTES: Final = 100 * MEBIBYTE
"""Of any type that Meta takes: documents may be the largest."""
MAX_INBOUND_BYTES: Final = 100 * MEBIBYTE
"""What people send beyond this does not reach a business (code 131052)."""
MAX_STATIC_STICKER_BYTES: Final = 100 * KIBIBYTE
HEAD_BYTES: Final = 32
"""So much of a file's beginning is looked at."""

_MIME: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_ANIMATION_FLAG: Final = 0x02


class MediaKind(StrEnum):
    """The types of message that carry a file; the values are Meta's."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    DOCUMENT = "document"
    STICKER = "sticker"


class MediaTypeRefused(InvalidInput):
    """Meta takes no file of this type."""

    code = "media_type_refused"
    status = 415
    title = "WhatsApp takes no file of this type"


class MediaTooLarge(InvalidInput):
    """The file is larger than Meta allows for its type."""

    code = "media_too_large"
    status = 413
    title = "The file is larger than WhatsApp allows for its type"


_KINDS: Final[Mapping[MediaKind, tuple[int, tuple[str, ...]]]] = MappingProxyType(
    {
        MediaKind.AUDIO: (
            16 * MEBIBYTE,
            ("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"),
        ),
        MediaKind.IMAGE: (5 * MEBIBYTE, ("image/jpeg", "image/png")),
        MediaKind.VIDEO: (16 * MEBIBYTE, ("video/mp4", "video/3gpp")),
        MediaKind.STICKER: (500 * KIBIBYTE, ("image/webp",)),
        MediaKind.DOCUMENT: (
            100 * MEBIBYTE,
            (
                "text/plain",
                "application/pdf",
                "application/msword",
                "application/vnd.ms-excel",
                "application/vnd.ms-powerpoint",
                f"{_OFFICE}.wordprocessingml.document",
                f"{_OFFICE}.spreadsheetml.sheet",
                f"{_OFFICE}.presentationml.presentation",
            ),
        ),
    }
)
_BY_TYPE: Final = MappingProxyType(
    {mime: (kind, most) for kind, (most, types) in _KINDS.items() for mime in types}
)
_FAMILIES: Final = {
    MediaKind.IMAGE: "image/",
    MediaKind.AUDIO: "audio/",
    MediaKind.VIDEO: "video/",
    MediaKind.STICKER: "image/",
}


def essence(mime_type: str | None) -> str:
    """The type without its parameters, in lower case; empty where it is none."""
    found = (mime_type or "").partition(";")[0].strip().lower()
    return found if _MIME.fullmatch(found) else ""


def sendable(mime_type: str) -> tuple[MediaKind, int]:
    """The kind of file and the most bytes of it that Meta takes; raises MediaTypeRefused."""
    found = _BY_TYPE.get(essence(mime_type))
    if found is None:
        raise MediaTypeRefused(f"One of {', '.join(sorted(_BY_TYPE))}", field="Content-Type")
    return found


def may_carry(kind: MediaKind, mime_type: str) -> bool:
    """Whether a file of this type is one that a message of `kind` may bring; documents are any."""
    family = _FAMILIES.get(kind)
    return family is None or essence(mime_type).startswith(family)


def fits(kind: MediaKind, mime_type: str) -> bool:
    """Whether Meta sends a file of this type in a message of `kind`; as documents, all."""
    return kind is MediaKind.DOCUMENT or _BY_TYPE.get(essence(mime_type), (None, 0))[0] is kind


def ensure_fits(kind: MediaKind, size: int, head: bytes) -> None:
    """Raise MediaTooLarge for a whole file that is too large for its kind; empty ones are none."""
    most = _KINDS[kind][0]
    if kind is MediaKind.STICKER and not _is_animated(head):
        most = MAX_STATIC_STICKER_BYTES
    if size > most:
        raise MediaTooLarge(f"{kind.value}: at most {most} bytes")


def _is_animated(head: bytes) -> bool:
    """Whether a WebP file says of itself that it moves (RIFF container, chunk VP8X)."""
    is_extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_extended and len(head) > 20 and bool(head[20] & _ANIMATION_FLAG)  # noqa: PLR2004  # the place of the flags
