"""Files that come with messages: where they are, and what went wrong where they are not.

inbound   pending -> stored -> removing -> removed
             `----> failed
outbound  pending -> stored -> removing -> removed
             `-----------------^  an upload that broke off
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from types import MappingProxyType
from typing import Final
from uuid import UUID

from shared.kernel.clock import utc_now
from shared.kernel.errors import Conflict, InvalidInput, NotFoundException, TellwireError
from shared.kernel.ids import new_id
from whatsapp.domain.media_type import MediaKind, fits
from whatsapp.domain.retry import RetryPolicy, retry_delay

MAX_FILENAME_CHARACTERS: Final = 240
_MEDIA_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,256}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_DIGEST_BYTES: Final = 32
INBOUND_LIFE: Final = timedelta(days=7)
"""So long Meta keeps what people send (Meta, Cloud API reference, media)."""
UPLOAD_LIFE: Final = timedelta(days=29)
"""So long an upload is used; Meta keeps it 30 days, the rest is for what waits in queues."""


class MediaDirection(StrEnum):
    """Whether a person sent the file, or a tenant uploaded it to be sent."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class MediaStatus(StrEnum):
    """Where the file is; see the module."""

    PENDING = "pending"
    STORED = "stored"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


class MediaFailure(StrEnum):
    """Why a file was not fetched from Meta or not taken by it; stable, tenants see it."""

    TOO_LARGE = "media_too_large"
    WRONG_TYPE = "media_wrong_type"
    WRONG_SIZE = "media_wrong_size"
    WRONG_HASH = "media_wrong_hash"
    GONE = "media_gone"
    REFUSED = "media_refused"
    TOKEN_REFUSED = "media_token_refused"  # noqa: S105  # a code, not a token
    UNREACHABLE = "media_unreachable"
    STORE_FAILED = "media_store_failed"


_ATTEMPTS: Final[Mapping[MediaFailure, int]] = MappingProxyType(
    {
        MediaFailure.TOO_LARGE: 1,
        MediaFailure.WRONG_TYPE: 3,
        MediaFailure.WRONG_SIZE: 5,
        MediaFailure.WRONG_HASH: 5,
        MediaFailure.GONE: 3,
        MediaFailure.REFUSED: 5,
    }
)
"""How often it is tried in all; what is missing here may pass, and is tried to the end."""
RETRY: Final = RetryPolicy(
    base=timedelta(seconds=2), cap=timedelta(hours=1), retries=None, factor=4
)


class MediaNotFound(NotFoundException):
    """The file does not exist in this tenant."""

    code = "media_not_found"
    title = "No media with this id exists in this tenant"


class MediaNotReady(Conflict):
    """The file is still being fetched from Meta; try again."""

    code = "media_not_ready"
    retryable = True
    title = "The file is still being fetched; try again"


class MediaNotAvailable(TellwireError):
    """There is no file: it could not be fetched, or its time is over; the detail says which."""

    code = "media_not_available"
    status = 410
    title = "There is no file any more, or never was one"


class InvalidMedia(InvalidInput):
    """A file cannot be used like this."""

    code = "invalid_media"
    title = "The media cannot be used like this"


class MediaTrouble(TellwireError):
    """A file did not pass between Meta and Tellwire; it is tried again, or recorded as failed."""

    code = "media_trouble"
    status = 503
    retryable = True
    title = "A file did not pass between Meta and Tellwire"

    def __init__(self, failure: MediaFailure) -> None:
        super().__init__(failure.value)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class MediaKey:
    """The place of a file's bytes in a store: below its tenant, named by what it holds.

    The media's own id is part of the name, so that no two media share bytes and either can be
    removed without asking for the other. Nothing in it comes from outside.
    """

    tenant_id: UUID
    media_id: UUID
    sha256: bytes

    @property
    def parts(self) -> tuple[str, str, str]:
        """Directories and name."""
        digest = self.sha256.hex()
        return str(self.tenant_id), digest[:2], f"{digest}-{self.media_id}"


@dataclass(slots=True, kw_only=True)
class Media:
    """A file of one tenant; what it holds is in a `MediaStore` while it is `stored`.

    Inbound media is unique by channel and `provider_media_id`, and came with the inbound message
    `message_id`. Outbound media is unique by content and type. `sha256` is that of the stored
    bytes, or before that what Meta claims.
    """

    tenant_id: UUID
    direction: MediaDirection
    kind: MediaKind
    id: UUID = field(default_factory=new_id)
    status: MediaStatus = MediaStatus.PENDING
    channel_id: UUID | None = None
    message_id: UUID | None = None
    provider_media_id: str | None = field(default=None, repr=False)
    mime_type: str | None = None
    filename: str | None = field(default=None, repr=False)
    size: int | None = None
    sha256: bytes | None = field(default=None, repr=False)
    failure: str | None = None
    created_at: datetime = field(default_factory=utc_now)
    used_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.filename is not None:
            self.filename = safe_filename(self.filename)

    @property
    def place(self) -> MediaKey:
        """Where the bytes lie, if they are in the store at all."""
        return MediaKey(self.tenant_id, self.id, self.sha256 or b"")

    @property
    def key(self) -> MediaKey:
        """Where the bytes can be read; MediaNotReady or MediaNotAvailable where there are none."""
        match self.status:
            case MediaStatus.STORED:
                return self.place
            case MediaStatus.PENDING:
                raise MediaNotReady
            case MediaStatus.FAILED:
                raise MediaNotAvailable(self.failure or "")
            case _:
                raise MediaNotAvailable("It was removed when its time was over")

    def ensure_sendable(self, kind: MediaKind, at: str) -> None:
        """Raise where a message of `kind` cannot carry this file; `at` names the field."""
        if self.direction is not MediaDirection.OUTBOUND or self.status is not MediaStatus.STORED:
            raise MediaNotFound(field=at)
        if not fits(kind, self.mime_type or ""):
            raise InvalidMedia(f"A {self.kind.value} cannot be sent as {kind.value}", field=at)


@dataclass(frozen=True, slots=True)
class Upload:
    """How far an outbound file has come to Meta for one channel; ready, failed, or under way.

    `settled_at` is when it became ready or failed.
    """

    media_id: UUID
    provider_media_id: str | None = field(repr=False)
    settled_at: datetime | None
    failure: str | None


def safe_filename(given: str) -> str | None:
    """A name without directories and control characters, cut to a sane length; None for nothing."""
    name = given.replace("\\", "/").rpartition("/")[2]
    name = "".join(one for one in name if one.isprintable()).strip(" .")
    return name[-MAX_FILENAME_CHARACTERS:] or None


def wait_after(
    failure: MediaFailure, *, attempts: int, until_end: timedelta, rng: Random
) -> timedelta | None:
    """How long to wait before the next attempt; None where this failure is final.

    `until_end` is how long trying makes sense at all.
    """
    if attempts >= _ATTEMPTS.get(failure, attempts + 1):
        return None
    wait = retry_delay(RETRY, attempt=attempts, rng=rng)
    return wait if wait is not None and wait < until_end else None


def is_media_id(given: str) -> bool:
    """Whether this can be an id of Meta's for a file, and so part of an address and of an index."""
    return _MEDIA_ID.fullmatch(given) is not None


def digest_of(value: object) -> bytes | None:
    """A SHA-256 in hexadecimal or base64 (Meta writes either); None for anything else."""
    if not isinstance(value, str):
        return None
    if _HEX.fullmatch(value):
        return bytes.fromhex(value)
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == _DIGEST_BYTES else None
