"""What the domain asks of storage about media: rows and jobs; the bytes are in a `MediaStore`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from shared.kernel.ids import NIL
from whatsapp.domain.media import Media, MediaFailure, Upload


class MediaJobKind(StrEnum):
    """Fetch what a person sent, or upload what a tenant wants sent."""

    FETCH = "fetch"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class MediaJob:
    """One file to move that this worker alone may move until its lease ends.

    `attempts` counts this one too; `lease_token` fences what is written about it.
    """

    tenant_id: UUID
    id: UUID
    kind: MediaJobKind
    media_id: UUID
    channel_id: UUID
    attempts: int
    lease_token: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a fetched file turned out to be."""

    size: int
    sha256: bytes
    mime_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFilter:
    """Which media are wanted; everything given must hold."""

    channel_id: UUID | None = None
    message_id: UUID | None = None
    provider_media_id: str | None = None


class MediaQueue(Protocol):
    """Hands out jobs of all tenants, each to one worker at a time; times are the database's."""

    async def claim(
        self,
        *,
        limit: int,
        per_tenant: int,
        lease: timedelta,
        after: UUID = NIL,
        without: Collection[UUID] = (),
    ) -> Sequence[MediaJob]:
        """Claim up to `limit` due jobs, of each tenant behind `after` at most `per_tenant`.

        Of the tenants in `without` none.
        """
        ...


class MediaRepository(Protocol):
    """The media of one tenant."""

    async def get_by_id(self, entity_id: UUID) -> Media | None:
        """The media with this id."""
        ...

    async def find_many(self, ids: Sequence[UUID]) -> Sequence[Media]:
        """Those of these ids that exist, in no particular order."""
        ...

    async def list_media(
        self, wanted: MediaFilter, *, limit: int, before: UUID | None = None
    ) -> Sequence[Media]:
        """Up to `limit` media older than `before`, newest first."""
        ...

    async def expect(self, media: Media) -> bool:
        """Store inbound media with the job that fetches it, once; False if it was known."""
        ...

    async def find_same(self, sha256: bytes, mime_type: str, *, at: datetime) -> Media | None:
        """The stored outbound media with this content and type, noted as used at `at`."""
        ...

    async def add(self, entity: Media) -> Media:
        """Store it as it is: outbound media as `pending`, before its bytes go to the store."""
        ...

    async def delete(self, entity_id: UUID) -> bool:
        """Forget it; False where there is none."""
        ...

    async def save_outbound(self, media: Media) -> Media:
        """Store outbound media once by content and type; a repetition gives the stored one.

        What was `pending` under its id is gone. Raises TransactionConflict where it is being
        removed, since its upload took too long.
        """
        ...

    async def record_stored(self, job: MediaJob, stored: Stored) -> bool:
        """The file is in the store: end the job; False if the lease was lost."""
        ...

    async def record_failed(self, job: MediaJob, failure: MediaFailure) -> bool:
        """The file will not come, or Meta does not take it: end the job, if the lease holds."""
        ...

    async def record_uploaded(
        self, job: MediaJob, provider_media_id: str, *, at: datetime, expires_at: datetime
    ) -> bool:
        """Meta has the file and calls it so until `expires_at`: end the job, if the lease holds."""
        ...

    async def postpone(self, job: MediaJob, wait: timedelta) -> bool:
        """Give the job back, due after `wait`, if the lease holds."""
        ...

    async def keep(self, ids: Sequence[UUID], *, needed_at: datetime) -> int:
        """Count these stored media as used until `needed_at`; gives how many were not yet."""
        ...

    async def want_uploads(
        self, channel_id: UUID, ids: Sequence[UUID], *, at: datetime, needed_at: datetime
    ) -> None:
        """See to it that these stored media get to Meta for this channel, where they are not."""
        ...

    async def find_uploads(
        self, channel_id: UUID, ids: Sequence[UUID], *, at: datetime
    ) -> Mapping[UUID, Upload]:
        """How far these media have come for this channel; one that expired is missing."""
        ...

    async def forget_uploads(self, channel_id: UUID, ids: Sequence[UUID]) -> int:
        """Meta does not know these any more, before their time; gives how many there were."""
        ...

    async def take_for_removal(
        self, *, before: datetime | None, begun_before: datetime | None = None, limit: int
    ) -> Sequence[Media]:
        """Mark what nobody used since `before`, if given, as being removed; gives all that is.

        So are uploads that were begun before `begun_before` and never came to an end.
        """
        ...

    async def mark_for_removal(self, media_id: UUID) -> Media | None:
        """Mark it as being removed if it is stored, and forget its uploads; gives it as it is."""
        ...

    async def record_removed(self, ids: Sequence[UUID]) -> int:
        """Their bytes are gone."""
        ...
