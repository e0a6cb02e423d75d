"""A tenant's own files: taken in once by what they hold, and given back as they are stored."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.media_ports import MediaDraft, MediaStore, MediaStoreUnavailable
from whatsapp.application.ports import BeginWork
from whatsapp.application.whole_file import WholeFile
from whatsapp.domain.media import (
    InvalidMedia,
    Media,
    MediaDirection,
    MediaNotFound,
    MediaNotReady,
    MediaStatus,
)
from whatsapp.domain.media_type import (
    MAX_OUTBOUND_BYTES,
    MediaTooLarge,
    ensure_fits,
    essence,
    sendable,
)

ToldBehind: TypeAlias = Callable[[], Awaitable[str | None]]
"""Reads what comes behind a file, and gives the type if it is told there."""


async def _nothing() -> None:
    """Nothing comes behind the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMedia:
    """Takes in a file to send: `await store(tenant_id, content, mime_type=...)`.

    The row is there before the bytes are, as `pending`: what breaks off in between leaves nothing
    in the store that the next cleaning up does not find.
    """

    begin: BeginWork
    store: MediaStore
    now: Clock = utc_now

    async def __call__(
        self,
        tenant_id: UUID,
        content: AsyncIterator[bytes],
        *,
        mime_type: str | None,
        told_behind: ToldBehind = _nothing,
        filename: str | None = None,
        user_id: UUID | None = None,
    ) -> tuple[Media, bool]:
        """The media and whether it is new; the same bytes of the same type are one media.

        Type and size are checked before and while it is read; a type that is only told behind the
        bytes, or differently, is checked then. Raises MediaTypeRefused, MediaTooLarge,
        InvalidMedia, MediaStoreUnavailable.
        """
        at_most = MAX_OUTBOUND_BYTES if mime_type is None else sendable(mime_type)[1]
        async with self.store.drafting() as draft:
            await _copy(content, draft, at_most=at_most)
            mime_type = await told_behind() or mime_type or ""
            kind, _ = sendable(mime_type)
            ensure_fits(kind, draft.size, draft.head)
            at = self.now()
            media = Media(
                tenant_id=tenant_id,
                direction=MediaDirection.OUTBOUND,
                kind=kind,
                mime_type=essence(mime_type),
                filename=filename,
                size=draft.size,
                sha256=draft.sha256,
                created_at=at,
                used_at=at,
            )
            async with self.begin(tenant_id, user_id) as work:
                same = await work.media.find_same(draft.sha256, essence(mime_type), at=at)
                if same is None:
                    await work.media.add(media)
                await work.commit()
            if same is not None:
                return same, False
            await draft.keep(media.place, mime_type=essence(mime_type))
        return await self._settle(media, user_id)

    async def _settle(self, media: Media, user_id: UUID | None) -> tuple[Media, bool]:
        """The bytes are there: so is the media, unless another was earlier with the same file."""
        async with self.begin(media.tenant_id, user_id) as work:
            stored = await work.media.save_outbound(replace(media, status=MediaStatus.STORED))
            if stored.id != media.id:
                await work.media.add(media)  # Until its bytes are gone.
            await work.commit()
        if stored.id == media.id:
            return stored, True
        with suppress(MediaStoreUnavailable):  # Cleaning up sees to it then.
            await self.store.remove(media.place)
            async with self.begin(media.tenant_id, user_id) as work:
                await work.media.delete(media.id)
                await work.commit()
        return stored, False


async def _copy(content: AsyncIterator[bytes], draft: MediaDraft, *, at_most: int) -> None:
    async for chunk in content:
        if draft.size + len(chunk) > at_most:
            raise MediaTooLarge(f"At most {at_most} bytes")
        if chunk:
            await draft.write(chunk)
    if not draft.size:
        raise InvalidMedia("The file is empty", field="body")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMedia:
    """Deletes a file: its bytes are gone when this returns, its row says `removed`."""

    begin: BeginWork
    store: MediaStore

    async def __call__(
        self, tenant_id: UUID, media_id: UUID, *, user_id: UUID | None = None
    ) -> None:
        """A second time changes nothing. Raises MediaNotFound, MediaNotReady.

        Dying in between loses nothing: what is marked is removed by the next cleaning up.
        """
        async with self.begin(tenant_id, user_id) as work:
            media = await work.media.mark_for_removal(media_id)
            await work.commit()
        if media is None:
            raise MediaNotFound
        if media.status is MediaStatus.PENDING:
            raise MediaNotReady
        if media.status is not MediaStatus.REMOVING:
            return
        await self.store.remove(media.place)
        async with self.begin(tenant_id, user_id) as work:
            await work.media.record_removed([media_id])
            await work.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMedia:
    """Gives a tenant its files back."""

    begin: BeginWork
    store: MediaStore

    async def find(self, tenant_id: UUID, media_id: UUID, *, user_id: UUID | None = None) -> Media:
        """The media; raises MediaNotFound."""
        async with self.begin(tenant_id, user_id) as work:
            media = await work.media.get_by_id(media_id)
        if media is None:
            raise MediaNotFound
        return media

    async def content(
        self, media: Media, *, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes in pieces; the first raises MediaNotReady, MediaNotAvailable and the like."""
        size = length if length is not None or media.size is None else media.size - start
        async with self.store.reading(media.key, start=start, length=length) as pieces:
            async for piece in WholeFile(pieces, size):
                yield piece
