"""Files whose time is over: taken out of the store, so that their rows say so."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.media_ports import MediaStore, MediaStoreUnavailable
from whatsapp.application.ports import BeginWork
from whatsapp.domain.media import Media

HANDFUL: Final = 100
MOST_FAILURES: Final = 5
"""After so many in a handful it is the store that is gone, and not a file that it keeps."""
FORGOTTEN: Final = timedelta(hours=6)
"""An upload that old, or a draft, belongs to no living process."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUpMedia:
    """Removes what nobody used for as long as `keep_for`: `await clean_up(tenant_id)`.

    Without it what was to be deleted already or never taken in to the end, and nothing else.
    A file counts as used when it came in, and when a message that sends it was accepted or may go.
    Rows stay, and say `removed`. Dying in between loses nothing: what is marked is removed again.
    """

    begin: BeginWork
    store: MediaStore
    keep_for: timedelta | None
    now: Clock = utc_now

    async def __call__(self, tenant_id: UUID) -> int:
        """How many files of this tenant were removed.

        One that the store does not give up keeps no other; MediaStoreUnavailable at the end.
        """
        removed = 0
        while True:
            before = None if self.keep_for is None else self.now() - self.keep_for
            async with self.begin(tenant_id) as work:
                old = await work.media.take_for_removal(
                    before=before, begun_before=self.now() - FORGOTTEN, limit=HANDFUL
                )
                await work.commit()
            gone, failed = await self._remove(old)
            if gone:
                async with self.begin(tenant_id) as work:
                    removed += await work.media.record_removed(gone)
                    await work.commit()
            if failed and (len(old) < HANDFUL or not gone or failed >= MOST_FAILURES):
                logger.warning("%d files removed, %d not", removed, failed)
                raise MediaStoreUnavailable
            if len(old) < HANDFUL:
                return removed

    async def _remove(self, old: Sequence[Media]) -> tuple[Sequence[UUID], int]:
        """Which of these are gone, and how many would not go; ends where too many would not."""
        gone, failed = list[UUID](), 0
        for media in old:
            try:
                await self.store.remove(media.place)
                gone.append(media.id)
            except MediaStoreUnavailable:
                failed += 1
                if failed == MOST_FAILURES:
                    break
        return gone, failed
