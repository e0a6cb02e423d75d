"""Moving files between Meta and the store: fetch what came in, upload what goes out.

A job is one file. Nothing is open in the database while bytes move, and what came of it is
recorded in one statement that ends the job only if the worker still holds its lease. A worker that
dies leaves a draft, or bytes that nobody refers to under a name that the next worker writes again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Final

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.media_ports import (
    MediaDraft,
    MediaInfo,
    MediaSource,
    MediaStore,
    MediaStoreUnavailable,
    MediaUrlExpired,
)
from whatsapp.application.ports import BeginWork
from whatsapp.application.whole_file import WholeFile
from whatsapp.domain.entities import Channel
from whatsapp.domain.media import (
    INBOUND_LIFE,
    UPLOAD_LIFE,
    Media,
    MediaFailure,
    MediaKey,
    MediaNotAvailable,
    MediaStatus,
    MediaTrouble,
    wait_after,
)
from whatsapp.domain.media_repository import MediaJob, MediaJobKind, Stored
from whatsapp.domain.media_type import MAX_INBOUND_BYTES, essence, may_carry
from whatsapp.domain.value_objects import AccessTokenUnreadable

MAX_ADDRESSES: Final = 3
"""How many addresses are asked for in one attempt, where they expire before they are followed."""
MAX_UPLOAD_ATTEMPTS: Final = 30
"""About a day."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """How long one attempt may take, how large a file may be, whether Meta's hash must be right."""

    transfer: timedelta = timedelta(seconds=120)
    max_bytes: int = MAX_INBOUND_BYTES
    verify_hash: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveMedia:
    """Does one job: `await move(job)`; gives what came of it, None for success."""

    begin: BeginWork
    source: MediaSource
    store: MediaStore
    limits: MediaLimits = field(default_factory=MediaLimits)
    now: Clock = utc_now
    rng: Random = field(default_factory=Random)

    async def __call__(self, job: MediaJob) -> MediaFailure | None:
        """Move the file and end the job, or put it off; raises what the database raises."""
        async with self.begin(job.tenant_id) as work:
            media = await work.media.get_by_id(job.media_id)
            channel = await work.channels.find(job.channel_id)
        if media is None or channel is None:
            return MediaFailure.GONE  # Deleted meanwhile, and the job with them.
        try:
            async with asyncio.timeout(self.limits.transfer.total_seconds()):
                if job.kind is MediaJobKind.FETCH:
                    await self._fetch(job, media, channel)
                else:
                    await self._upload(job, media, channel)
        except MediaTrouble as trouble:
            failure = trouble.failure
        except TimeoutError:
            failure = MediaFailure.UNREACHABLE
        except MediaStoreUnavailable:
            failure = MediaFailure.STORE_FAILED
        except MediaNotAvailable:
            failure = MediaFailure.GONE
        except AccessTokenUnreadable:
            failure = MediaFailure.TOKEN_REFUSED
        else:
            return None
        await self._failed(job, media, failure)
        return failure

    async def _fetch(self, job: MediaJob, media: Media, channel: Channel) -> None:
        if media.status is not MediaStatus.PENDING or media.provider_media_id is None:
            raise MediaTrouble(MediaFailure.GONE)
        async with self.store.drafting() as draft:
            info = await self._download(draft, media, channel)
            stored = Stored(
                size=draft.size,
                sha256=draft.sha256,
                mime_type=info.mime_type or media.mime_type or "application/octet-stream",
            )
            key = MediaKey(job.tenant_id, media.id, stored.sha256)
            await draft.keep(key, mime_type=stored.mime_type)
        async with self.begin(job.tenant_id) as work:
            if await work.media.record_stored(job, stored):
                await work.commit()

    async def _download(self, draft: MediaDraft, media: Media, channel: Channel) -> MediaInfo:
        """All the bytes into the draft, checked; asks for another address where one expired."""
        for _ in range(MAX_ADDRESSES):
            info = await self.source.describe(channel, media.provider_media_id or "")
            self._ensure_wanted(media, info)
            try:
                async with self.source.downloading(channel, info) as chunks:
                    await self._copy(chunks, draft, info)
            except MediaUrlExpired:
                continue
            self._ensure_right(draft, media, info)
            return info
        raise MediaTrouble(MediaFailure.UNREACHABLE)

    async def _copy(self, chunks: AsyncIterator[bytes], draft: MediaDraft, info: MediaInfo) -> None:
        """Stop at the first byte that is too many, whoever said how many there are."""
        async for chunk in chunks:
            size = draft.size + len(chunk)
            if info.size is not None and size > info.size:
                raise MediaTrouble(MediaFailure.WRONG_SIZE)
            if size > self.limits.max_bytes:
                raise MediaTrouble(MediaFailure.TOO_LARGE)
            await draft.write(chunk)

    def _ensure_wanted(self, media: Media, info: MediaInfo) -> None:
        if info.size is not None and info.size > self.limits.max_bytes:
            raise MediaTrouble(MediaFailure.TOO_LARGE)
        mime_type = essence(info.mime_type or media.mime_type)
        if not mime_type or not may_carry(media.kind, mime_type):
            raise MediaTrouble(MediaFailure.WRONG_TYPE)

    def _ensure_right(self, draft: MediaDraft, media: Media, info: MediaInfo) -> None:
        if info.size is not None and draft.size != info.size:
            raise MediaTrouble(MediaFailure.WRONG_SIZE)
        claimed = info.sha256 or media.sha256
        if self.limits.verify_hash and claimed is not None and draft.sha256 != claimed:
            raise MediaTrouble(MediaFailure.WRONG_HASH)

    async def _upload(self, job: MediaJob, media: Media, channel: Channel) -> None:
        async with self.store.reading(media.key) as pieces:
            content = WholeFile(pieces, media.size)
            try:
                provider_media_id = await self.source.upload(channel, media, aiter(content))
            except MediaTrouble:
                if content.trouble is not None:  # Meta had no part in it.
                    raise content.trouble from None
                raise
        at = self.now()
        async with self.begin(job.tenant_id) as work:
            await work.media.record_uploaded(
                job, provider_media_id, at=at, expires_at=at + UPLOAD_LIFE
            )
            await work.commit()

    async def _failed(self, job: MediaJob, media: Media, failure: MediaFailure) -> None:
        """Try again later, or record that there is no use in it."""
        until_end = media.created_at + INBOUND_LIFE - self.now()
        if job.kind is MediaJobKind.UPLOAD:
            until_end = INBOUND_LIFE if job.attempts < MAX_UPLOAD_ATTEMPTS else timedelta()
        wait = wait_after(failure, attempts=job.attempts, until_end=until_end, rng=self.rng)
        async with self.begin(job.tenant_id) as work:
            if wait is None:
                await work.media.record_failed(job, failure)
            else:
                await work.media.postpone(job, wait)
            await work.commit()
        logger.log(
            logging.WARNING if wait is None else logging.INFO,
            "a file was not moved (%s, attempt %d): %s",
            job.kind.value,
            job.attempts,
            failure.value,
        )
