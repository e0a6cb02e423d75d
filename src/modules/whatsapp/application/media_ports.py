"""What moving files needs from outside: a store for bytes, and Meta."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from shared.kernel.errors import Unavailable
from whatsapp.domain.entities import Channel
from whatsapp.domain.media import Media, MediaKey


class MediaStoreUnavailable(Unavailable):
    """The store of media does not take or give a file now; trying again is safe."""

    code = "media_store_unavailable"
    title = "The store of media does not answer; try again"


class MediaDraft(Protocol):
    """A file that is being written; nobody sees it before it is kept."""

    @property
    def size(self) -> int:
        """Bytes so far."""
        ...

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the bytes so far."""
        ...

    @property
    def head(self) -> bytes:
        """The first bytes, by which formats are told apart."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append."""
        ...

    async def keep(self, key: MediaKey, *, mime_type: str) -> None:
        """Make the whole file durable under `key`, at once or not at all; may be repeated."""
        ...


class MediaStore(Protocol):
    """Bytes by key. Every method raises MediaStoreUnavailable where the store does not answer."""

    def drafting(self) -> AbstractAsyncContextManager[MediaDraft]:
        """A new draft; what is not kept when the block is left is gone."""
        ...

    def reading(
        self, key: MediaKey, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes from `start` on, in pieces; MediaNotAvailable where there are none."""
        ...

    async def remove(self, key: MediaKey) -> None:
        """Remove the bytes; nothing where there are none."""
        ...

    async def sweep(self, older_than: timedelta) -> int:
        """Remove drafts that dead processes left behind; gives how many."""
        ...


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What Meta says of a file, with the address where it is for five minutes."""

    url: str = field(repr=False)
    mime_type: str
    size: int | None
    sha256: bytes | None = field(repr=False)


class MediaUrlExpired(Exception):
    """The address of a file is no more; Meta gives a new one."""


class MediaSource(Protocol):
    """Meta's side. What goes wrong is MediaTrouble, with the reason as its failure."""

    async def describe(self, channel: Channel, provider_media_id: str) -> MediaInfo:
        """Ask Meta about a file by its id."""
        ...

    def downloading(
        self, channel: Channel, info: MediaInfo
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes at the address that Meta gave; raises MediaUrlExpired."""
        ...

    async def upload(self, channel: Channel, media: Media, content: AsyncIterator[bytes]) -> str:
        """Upload a whole file for this channel's number; gives Meta's id of it."""
        ...
