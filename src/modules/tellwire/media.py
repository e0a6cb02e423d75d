"""What moves and keeps files, put together from the settings."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.settings import Settings
from shared.kernel.clock import utc_now
from shared.kernel.errors import Misconfigured
from shared.kernel.secret import Secret
from whatsapp.application.clean_up_media import FORGOTTEN, MOST_FAILURES, CleanUpMedia
from whatsapp.application.media_ports import MediaStore, MediaStoreUnavailable
from whatsapp.application.move_media import MediaLimits, MoveMedia
from whatsapp.application.ports import BeginWork
from whatsapp.domain.media import MediaFailure
from whatsapp.domain.media_repository import MediaJob
from whatsapp.entrypoints.workers.loop import Loop
from whatsapp.entrypoints.workers.media_worker import MediaWorker
from whatsapp.infrastructure.cloud_api.media import CloudApiMedia, create_media_session
from whatsapp.infrastructure.media_store.directory import DirectoryMediaStore
from whatsapp.infrastructure.persistence.repositories import SQLAlchemyMediaQueue, SQLAlchemyOverdue

DIRECTORY: Final = "media"
CLEAN_UP_SECONDS: Final = 3600.0


def open_store(settings: Settings) -> MediaStore:
    """The store that the settings name; Misconfigured where its package is missing."""
    if settings.media_s3_bucket is None:
        return DirectoryMediaStore(settings.media_directory or settings.data_directory / DIRECTORY)
    try:
        # Here, since it comes with an extra that most installations do without.
        from whatsapp.infrastructure.media_store.s3 import (  # noqa: PLC0415  # see above
            S3MediaStore,
            S3Settings,
        )
    except ImportError:
        raise Misconfigured("TELLWIRE_MEDIA_S3_BUCKET needs the extra tellwire[s3]") from None
    secret = settings.media_s3_secret_access_key
    return S3MediaStore(
        S3Settings(
            bucket=settings.media_s3_bucket,
            endpoint=settings.media_s3_endpoint,
            region=settings.media_s3_region,
            access_key_id=settings.media_s3_access_key_id,
            secret_access_key=None if secret is None else Secret(secret.get_secret_value()),
            prefix=settings.media_s3_prefix,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUp:
    """Sees to all tenants: `await clean_up()` gives how many files were removed.

    One with nothing to remove costs a row of an answer: workers do this as often as they start.
    """

    overdue: SQLAlchemyOverdue
    store: MediaStore
    begin: BeginWork
    keep_for: timedelta | None

    async def __call__(self) -> int:
        """Remove what dead processes left, what was deleted in part, what nobody used for so long.

        Whoever deletes a file and dies, or finds the store gone, leaves it marked: that is seen to
        here, also where files are kept for good. A file that cannot be removed keeps no other
        tenant's; MediaStoreUnavailable at the end, or at once where the store is gone for all.
        """
        removed = await self.store.sweep(FORGOTTEN)
        clean_up = CleanUpMedia(begin=self.begin, store=self.store, keep_for=self.keep_for)
        failed, in_a_row, now = 0, 0, utc_now()
        before = None if self.keep_for is None else now - self.keep_for
        async for tenant_id in self.overdue.of_files(before=before, begun_before=now - FORGOTTEN):
            try:
                done = await clean_up(tenant_id)
            except MediaStoreUnavailable:
                failed, in_a_row = failed + 1, in_a_row + 1
                if in_a_row == MOST_FAILURES:
                    raise
            else:
                removed, in_a_row = removed + done, 0 if done else in_a_row
        if failed:
            raise MediaStoreUnavailable
        return removed

    async def turn(self) -> int:
        """As a loop wants it: 0, so that it pauses however much there was to do."""
        await self()
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaWork:
    """What a worker process does with files besides everything else."""

    worker: MediaWorker
    clean_up: Loop


@asynccontextmanager
async def open_media_work(
    settings: Settings,
    begin: BeginWork,
    process: AsyncEngine,
    *,
    stretch: Callable[[], float],
    moved: Callable[[MediaJob, MediaFailure | None], None],
) -> AsyncGenerator[MediaWork]:
    """Ready to move files; its connections to Meta are its own and are closed on leaving."""
    limits = MediaLimits(
        transfer=settings.media_lease * 2 / 3,
        max_bytes=settings.media_max_bytes,
        verify_hash=settings.media_verify_hash,
    )
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            create_media_session(
                settings.graph_base_url,
                within=limits.transfer,
                max_connections=settings.media_concurrency,
            )
        )
        store = open_store(settings)
        move = MoveMedia(
            begin=begin,
            source=CloudApiMedia(
                http, base_url=settings.graph_base_url, version=settings.graph_version
            ),
            store=store,
            limits=limits,
        )
        worker = MediaWorker(
            queue=SQLAlchemyMediaQueue(process),
            move=move,
            lease=settings.media_lease,
            concurrency=settings.media_concurrency,
            stretch=stretch,
            moved=moved,
        )
        clean_up = CleanUp(
            overdue=SQLAlchemyOverdue(process),
            store=store,
            begin=begin,
            keep_for=settings.media_retention,
        )
        loop = Loop(name="clean up media", work=clean_up.turn, pause_seconds=CLEAN_UP_SECONDS)
        yield MediaWork(worker=worker, clean_up=loop)
