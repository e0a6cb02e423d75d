"""Files whose time is over: taken out of the store, so that their rows say so."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.kernel.clock import Clock, utc_now
from whatsapp.application.media_ports import MediaStore
from whatsapp.application.ports import BeginWork

HANDFUL: Final = 100
FORGOTTEN: Final = timedelta(hours=6)
"""An upload that old, or a draft, belongs to no living process."""


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
        """How many files of this tenant were removed."""
        removed = 0
        while True:
            before = None if self.keep_for is None else self.now() - self.keep_for
            async with self.begin(tenant_id) as work:
                old = await work.media.take_for_removal(
                    before=before, begun_before=self.now() - FORGOTTEN, limit=HANDFUL
                )
                await work.commit()
            for media in old:
                await self.store.remove(media.place)
            if old:
                async with self.begin(tenant_id) as work:
                    removed += await work.media.record_removed([media.id for media in old])
                    await work.commit()
            if len(old) < HANDFUL:
                return removed
