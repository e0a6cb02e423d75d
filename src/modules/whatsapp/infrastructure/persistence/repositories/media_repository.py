"""Media in PostgreSQL: one tenant's files, their uploads, and the jobs that move them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import TextClause, select

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.arguments import zoned
from shared.infrastructure.database.driver_errors import ConstraintErrors, TransactionConflict
from shared.infrastructure.database.signatures import looks_at_arguments
from shared.kernel.ids import new_ids
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.media import Media, MediaDirection, MediaFailure, MediaStatus, Upload
from whatsapp.domain.media_repository import MediaFilter, MediaJob, Stored
from whatsapp.domain.media_type import MediaKind
from whatsapp.infrastructure.persistence.models import MediaModel
from whatsapp.infrastructure.persistence.repositories import media_statements as sql


@looks_at_arguments()
class SQLAlchemyMediaRepository(SQLAlchemyRepository[Media, MediaModel]):
    """The tenant's media; what ends a job is fenced by the job's lease, in one statement."""

    model = MediaModel
    constraint_errors: ClassVar[ConstraintErrors] = {
        "fk_whatsapp_media_whatsapp_channels": ChannelNotFound,
        "fk_whatsapp_media_uploads_whatsapp_channels": ChannelNotFound,
        "pk_whatsapp_media": TransactionConflict,
    }

    async def find_many(self, ids: Sequence[UUID]) -> Sequence[Media]:
        """Those of these ids that exist, in no particular order."""
        query = select(MediaModel).where(
            MediaModel.tenant_id == self.tenant_id, MediaModel.id.in_(ids)
        )
        return [self._to_entity(row) for row in (await self._execute(query)).scalars()]

    async def list_media(
        self, wanted: MediaFilter, *, limit: int, before: UUID | None = None
    ) -> Sequence[Media]:
        """Up to `limit` media older than `before`, newest first."""
        query = (
            select(MediaModel)
            .where(MediaModel.tenant_id == self.tenant_id)
            .order_by(MediaModel.id.desc())
            .limit(limit)
        )
        for column, value in (
            (MediaModel.channel_id, wanted.channel_id),
            (MediaModel.message_id, wanted.message_id),
            (MediaModel.provider_media_id, wanted.provider_media_id),
        ):
            query = query if value is None else query.where(column == value)
        if before is not None:
            query = query.where(MediaModel.id < before)
        return [self._to_entity(row) for row in (await self._execute(query)).scalars()]

    async def expect(self, media: Media) -> bool:
        """Store inbound media with the job that fetches it, once; False if it was known.

        Raises ChannelNotFound, TenantNotFound.
        """
        return bool(await self._rows(sql.EXPECT, _given(media)))

    async def find_same(self, sha256: bytes, mime_type: str, *, at: datetime) -> Media | None:
        """The stored outbound media with this content and type, noted as used at `at`."""
        parameters = {"sha256": sha256, "mime_type": mime_type, "at": at}
        rows = await self._rows(sql.FIND_SAME, parameters)
        return self._to_entity(rows[0]) if rows else None

    async def save_outbound(self, media: Media) -> Media:
        """Store outbound media once by content and type; a repetition gives the stored one.

        What was `pending` under its id is gone. Raises TransactionConflict where it is being
        removed, since its upload took too long.
        """
        return self._to_entity((await self._rows(sql.SAVE_OUTBOUND, _given(media)))[0])

    async def record_stored(self, job: MediaJob, stored: Stored) -> bool:
        """The file is in the store: end the job; False if the lease was lost."""
        parameters = {"size": stored.size, "sha256": stored.sha256, "mime_type": stored.mime_type}
        return bool(await self._rows(sql.RECORD_STORED, _of_job(job) | parameters))

    async def record_failed(self, job: MediaJob, failure: MediaFailure) -> bool:
        """The file will not come, or Meta does not take it: end the job, if the lease holds."""
        return bool(await self._rows(sql.RECORD_FAILED, _of_job(job) | {"failure": failure.value}))

    async def record_uploaded(
        self, job: MediaJob, provider_media_id: str, *, at: datetime, expires_at: datetime
    ) -> bool:
        """Meta has the file and calls it so until `expires_at`: end the job, if the lease holds."""
        parameters = {"provider_media_id": provider_media_id, "at": at, "expires_at": expires_at}
        return bool(await self._rows(sql.RECORD_UPLOADED, _of_job(job) | parameters))

    async def postpone(self, job: MediaJob, wait: timedelta) -> bool:
        """Give the job back, due after `wait`, if the lease holds."""
        return bool(await self._rows(sql.POSTPONE, _of_job(job) | {"wait": wait}))

    async def keep(self, ids: Sequence[UUID], *, needed_at: datetime) -> int:
        """Count these stored media as used until `needed_at`; gives how many were not yet.

        Who wants uploads for several channels in one transaction, or forgets some before, keeps
        the media first: deleting one takes it before its uploads, too.
        """
        parameters = {"ids": sorted(ids), "needed_at": needed_at}
        return len(await self._rows(sql.KEEP, parameters))

    async def want_uploads(
        self, channel_id: UUID, ids: Sequence[UUID], *, at: datetime, needed_at: datetime
    ) -> None:
        """See to it that these stored media get to Meta for this channel, where they are not.

        They count as used until `needed_at`. Raises ChannelNotFound.
        """
        parameters = {
            "tenant": self.tenant_id,
            "channel": channel_id,
            # In one order for all, so that two that want the same wait for, not on, each other.
            "ids": sorted(ids),
            "upload_ids": new_ids(len(ids)),
            "at": at,
            "needed_at": needed_at,
        }
        await self._run(sql.WANT_UPLOADS, parameters)

    async def find_uploads(
        self, channel_id: UUID, ids: Sequence[UUID], *, at: datetime
    ) -> Mapping[UUID, Upload]:
        """How far these media have come for this channel; one that expired is missing."""
        parameters = {"channel": channel_id, "ids": list(ids), "at": at}
        rows = await self._rows(sql.FIND_UPLOADS, parameters)
        return {
            row.media_id: Upload(row.media_id, row.provider_media_id, row.settled_at, row.failure)
            for row in rows
        }

    async def forget_uploads(self, channel_id: UUID, ids: Sequence[UUID]) -> int:
        """Meta does not know these any more, before their time; gives how many there were."""
        parameters = {"channel": channel_id, "ids": sorted(ids)}
        return len(await self._rows(sql.FORGET_UPLOADS, parameters))

    async def take_for_removal(
        self, *, before: datetime | None, begun_before: datetime | None = None, limit: int
    ) -> Sequence[Media]:
        """Mark what nobody used since `before`, if given, as being removed; gives all that is.

        So are uploads that were begun before `begun_before` and never came to an end.
        """
        parameters = {"before": before, "begun_before": begun_before, "limit": limit}
        rows = await self._rows(sql.TAKE_FOR_REMOVAL, parameters)
        return [self._to_entity(row) for row in rows]

    async def mark_for_removal(self, media_id: UUID) -> Media | None:
        """Mark it as being removed if it is stored, and forget its uploads; gives it as it is."""
        rows = await self._rows(sql.MARK_FOR_REMOVAL, {"id": media_id})
        return self._to_entity(rows[0]) if rows else None

    async def record_removed(self, ids: Sequence[UUID]) -> int:
        """Their bytes are gone."""
        return len(await self._rows(sql.RECORD_REMOVED, {"ids": list(ids)}))

    async def _rows(self, statement: TextClause, parameters: dict[str, Any]) -> Sequence[Any]:
        result = await self._run(statement, {"tenant": self.tenant_id, **parameters})
        return result.all()

    def _to_entity(self, row: MediaModel) -> Media:
        return Media(
            tenant_id=row.tenant_id,
            id=row.id,
            direction=MediaDirection(row.direction),
            kind=MediaKind(row.kind),
            status=MediaStatus(row.status),
            channel_id=row.channel_id,
            message_id=row.message_id,
            provider_media_id=row.provider_media_id,
            mime_type=row.mime_type,
            filename=row.filename,
            size=row.size,
            sha256=None if row.sha256 is None else bytes(row.sha256),
            failure=row.failure,
            created_at=row.created_at,
            used_at=row.used_at,
        )

    def _to_model(self, entity: Media) -> MediaModel:
        values = _given(entity)
        names = {"tenant": "tenant_id", "at": "used_at"}
        return MediaModel(**{names.get(name, name): value for name, value in values.items()})


def _given(media: Media) -> dict[str, Any]:
    values = {
        "tenant": media.tenant_id,
        "id": media.id,
        "direction": media.direction.value,
        "kind": media.kind.value,
        "status": media.status.value,
        "channel_id": media.channel_id,
        "message_id": media.message_id,
        "provider_media_id": media.provider_media_id,
        "mime_type": media.mime_type,
        "filename": media.filename,
        "size": media.size,
        "sha256": media.sha256,
        "failure": media.failure,
        "created_at": media.created_at,
        "at": media.used_at,
    }
    return zoned(values)


def _of_job(job: MediaJob) -> dict[str, Any]:
    return {"job": job.id, "token": job.lease_token}
