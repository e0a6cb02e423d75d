"""Read a tenant's events as they happen, from any point that is still kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from whatsapp.application.ports import BeginWork
from whatsapp.domain.events import Event, EventsForgotten

PAGE: Final = 100
"""What a reader holds at most; it reads on when that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvents:
    """`start` once, then `read` from the number of the last event, again and again."""

    begin: BeginWork

    async def start(self, tenant_id: UUID, after: int | None) -> int:
        """Have events recorded; gives the number to read from, the newest by default.

        Raises EventsForgotten where some behind `after` have been deleted.
        """
        async with self.begin(tenant_id) as work:
            position = await work.events.open()
            await work.commit()
        if after is None:
            return position.last
        # A number that was never given out is from another installation, or made up.
        if 0 < after < position.forgotten or after > position.last:
            raise EventsForgotten
        return after

    async def read(self, tenant_id: UUID, after: int) -> Sequence[Event]:
        """The next events, up to PAGE; none where there is nothing new.

        Raises EventsForgotten where some of them were deleted before they were read.
        """
        async with self.begin(tenant_id) as work:
            page = await work.events.list_after(after, limit=PAGE)
            # Numbers may be left out; only then is it worth asking whether there was an event.
            if page and page[0].number > after + 1:
                position = await work.events.position()
                if 0 < after < position.forgotten:
                    raise EventsForgotten
        return page
