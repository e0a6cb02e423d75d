"""What Meta reports about numbers, accounts and templates, in PostgreSQL."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    TEXT,
    Boolean,
    DateTime,
    Integer,
    Table,
    Uuid,
    bindparam,
    column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.driver_errors import ConstraintErrors
from shared.infrastructure.database.signatures import looks_at_arguments
from shared.kernel.ids import MAX, NIL, new_id
from whatsapp.domain.account import (
    AccountEvent,
    AccountEventPage,
    ChannelState,
    Template,
    TemplateReported,
)
from whatsapp.domain.entities import ChannelNotFound, ChannelStatus
from whatsapp.infrastructure.persistence.models import AccountEventModel, TemplateModel
from whatsapp.infrastructure.persistence.repositories.storable import storable_json, storable_text

MOST_BYTES_OF_PAGE: Final = 4 * 1024 * 1024
"""What a page may hold of reports, but for its last: histories of numbers come in megabytes."""
_EVENTS: Final = cast("Table", AccountEventModel.__table__)
_TEMPLATES: Final = cast("Table", TemplateModel.__table__)
_KEEP: Final = text(
    """
    INSERT INTO whatsapp_account_events
        (tenant_id, id, channel_id, provider_account_id, field, reason, digest, raw, reported_at,
         subject, came_as, place)
    SELECT :tenant, g.id, g.channel_id, g.account_id, g.field, g.reason, g.digest, g.raw,
           g.reported_at, g.subject, g.came_as, g.place
    FROM (
        SELECT u.id, u.channel_id, u.account_id, u.field, u.reason, u.digest,
               CAST(u.raw AS jsonb) AS raw, u.reported_at, u.subject, u.came_as, u.place
        FROM unnest(
            CAST(:ids AS uuid[]), CAST(:channels AS uuid[]), CAST(:accounts AS text[]),
            CAST(:fields AS text[]), CAST(:reasons AS text[]), CAST(:digests AS uuid[]),
            CAST(:raws AS text[]), CAST(:times AS timestamptz[]), CAST(:subjects AS uuid[]),
            CAST(:arrivals AS uuid[]), CAST(:places AS integer[])
        ) WITH ORDINALITY AS u(id, channel_id, account_id, field, reason, digest, raw,
                               reported_at, subject, came_as, place, nth)
        ORDER BY u.nth
    ) g
    -- Of a volatile function: it is asked row by row, and sees those before it as stored.
    WHERE CASE WHEN g.subject IS NULL OR g.reported_at IS NOT NULL THEN true
          ELSE NOT whatsapp_was_told(:tenant, g.subject, g.came_as, g.place, g.raw) END
    ON CONFLICT (tenant_id, digest) DO NOTHING
    RETURNING digest
    """
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("channels", type_=ARRAY(Uuid())),
    bindparam("accounts", type_=ARRAY(TEXT())),
    bindparam("fields", type_=ARRAY(TEXT())),
    bindparam("reasons", type_=ARRAY(TEXT())),
    bindparam("digests", type_=ARRAY(Uuid())),
    bindparam("raws", type_=ARRAY(TEXT())),
    bindparam("times", type_=ARRAY(DateTime(timezone=True))),
    bindparam("subjects", type_=ARRAY(Uuid())),
    bindparam("arrivals", type_=ARRAY(Uuid())),
    bindparam("places", type_=ARRAY(Integer())),
)
# Sizes are those on disk, which are known without reading what is large.
_LIST: Final = (
    text(
        """
    SELECT {columns}, e.found FROM (
        SELECT found.*, count(*) OVER () AS found, sum(pg_column_size(found.raw)) OVER (
            ORDER BY found.id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
        FROM (
            SELECT {columns} FROM whatsapp_account_events e
            WHERE e.tenant_id = :tenant
              AND e.id < :before
              AND (CAST(:field AS text) IS NULL OR e.field = CAST(:field AS text))
              AND (NOT CAST(:unread AS boolean) OR e.reason IS NOT NULL)
            ORDER BY e.id DESC LIMIT :limit
        ) found
    ) e
    WHERE coalesce(e.bytes_before, 0) < :bytes
    ORDER BY e.id DESC
    """.replace("{columns}", ", ".join(f"e.{c.name}" for c in _EVENTS.c))
    )
    .bindparams(
        bindparam("tenant", type_=Uuid()),
        bindparam("before", type_=Uuid()),
        bindparam("limit", type_=Integer()),
        bindparam("bytes", MOST_BYTES_OF_PAGE, type_=Integer()),
    )
    .columns(*_EVENTS.c, column("found", Integer()))
)
_TEMPLATE: Final = text(
    """
    INSERT INTO whatsapp_templates AS t
        (tenant_id, id, provider_account_id, name, language, template_id,
         status, status_reason, status_at, quality, quality_at, category, category_at)
    VALUES (:tenant, :id, :account, :name, :language, :template_id,
            :status, :reason, CASE WHEN CAST(:status AS text) IS NOT NULL THEN :at END,
            :quality, CASE WHEN CAST(:quality AS text) IS NOT NULL THEN :at END,
            :category, CASE WHEN CAST(:category AS text) IS NOT NULL THEN :at END)
    ON CONFLICT (tenant_id, provider_account_id, name, language) DO UPDATE SET
        template_id = coalesce(excluded.template_id, t.template_id),
        status = CASE WHEN excluded.status_at >= coalesce(t.status_at, '-infinity')
            THEN excluded.status ELSE t.status END,
        status_reason = CASE WHEN excluded.status_at >= coalesce(t.status_at, '-infinity')
            THEN excluded.status_reason ELSE t.status_reason END,
        status_at = greatest(excluded.status_at, t.status_at),
        quality = CASE WHEN excluded.quality_at >= coalesce(t.quality_at, '-infinity')
            THEN excluded.quality ELSE t.quality END,
        quality_at = greatest(excluded.quality_at, t.quality_at),
        category = CASE WHEN excluded.category_at >= coalesce(t.category_at, '-infinity')
            THEN excluded.category ELSE t.category END,
        category_at = greatest(excluded.category_at, t.category_at)
    """
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("id", type_=Uuid()),
    *(
        bindparam(name, type_=TEXT())
        for name in ("account", "name", "language", "template_id", "status", "reason", "quality")
    ),
    bindparam("category", type_=TEXT()),
    bindparam("at", type_=DateTime(timezone=True)),
)
_LIST_TEMPLATES: Final = (
    text(
        """
    SELECT {columns} FROM whatsapp_templates t
    WHERE t.tenant_id = :tenant
      AND t.id > :after
    ORDER BY t.id LIMIT :limit
    """.replace("{columns}", ", ".join(f"t.{c.name}" for c in _TEMPLATES.c))
    )
    .bindparams(
        bindparam("tenant", type_=Uuid()),
        bindparam("after", type_=Uuid()),
        bindparam("limit", type_=Integer()),
    )
    .columns(*_TEMPLATES.c)
)
_FIND_STATE: Final = (
    text(
        """
    SELECT status, pause_reason, messages_per_second, quality_rating, display_phone_number,
           verified_at IS NOT NULL AS is_verified, reported
    FROM whatsapp_channels WHERE tenant_id = :tenant AND id = :id
    FOR NO KEY UPDATE
    """
    )
    .bindparams(bindparam("tenant", type_=Uuid()), bindparam("id", type_=Uuid()))
    .columns(
        column("status", TEXT()),
        column("pause_reason", TEXT()),
        column("messages_per_second", Integer()),
        column("quality_rating", TEXT()),
        column("display_phone_number", TEXT()),
        column("is_verified", Boolean()),
        column("reported", JSONB()),
    )
)
_SAVE_STATE: Final = text(
    """
    UPDATE whatsapp_channels
    SET status = :status, pause_reason = :pause_reason, messages_per_second = :rate,
        quality_rating = :quality, reported = :reported, updated_at = now()
    WHERE tenant_id = :tenant AND id = :id
    """
).bindparams(
    bindparam("tenant", type_=Uuid()),
    bindparam("id", type_=Uuid()),
    bindparam("reported", type_=JSONB()),
)


@looks_at_arguments(replaces=["record_template"])
class SQLAlchemyAccountRepository(SQLAlchemyRepository[AccountEvent, AccountEventModel]):
    """The reports of one tenant's accounts; every method is one statement."""

    model = AccountEventModel
    constraint_errors: ClassVar[ConstraintErrors] = {
        "fk_whatsapp_account_events_whatsapp_channels": ChannelNotFound,
    }

    async def record_events(self, events: Sequence[AccountEvent]) -> frozenset[UUID]:
        """Keep each once; gives the digests of those that were new. Raises ChannelNotFound.

        One without a time repeats what was said last about its subject before it came, or next
        after it; it is new where neither says the same.
        """
        if not events:
            return frozenset()
        once = sorted({event.digest: event for event in reversed(events)}.values(), key=_turn)
        rows = await self._run(
            _KEEP,
            {
                "tenant": self.tenant_id,
                "ids": [event.id for event in once],
                "channels": [event.channel_id for event in once],
                "accounts": [storable_text(event.provider_account_id) for event in once],
                "fields": [storable_text(event.field) for event in once],
                "reasons": [storable_text(event.reason) for event in once],
                "digests": [event.digest for event in once],
                "raws": [json.dumps(storable_json(event.raw)) for event in once],
                "times": [event.reported_at for event in once],
                "subjects": [event.subject for event in once],
                "arrivals": [event.came_as for event in once],
                "places": [event.place for event in once],
            },
        )
        return frozenset(rows.scalars())

    async def list_events(
        self,
        *,
        limit: int,
        before: UUID | None = None,
        field: str | None = None,
        unread_only: bool = False,
    ) -> AccountEventPage:
        """The newest first, from before `before`; of one field, or only what nobody understood.

        Fewer than `limit` where they are large: Meta may tell megabytes at once.
        """
        given: dict[str, Any] = {
            "tenant": self.tenant_id,
            "limit": limit + 1,
            "before": before or MAX,
            "field": field,
            "unread": unread_only,
        }
        result: Any = await self._run(_LIST, given)
        rows = result.all()[:limit]
        is_last = not rows or rows[0].found == len(rows)
        return AccountEventPage(
            [self._to_entity(row) for row in rows], None if is_last else rows[-1].id
        )

    async def record_template(
        self, provider_account_id: str, reported: TemplateReported, at: datetime
    ) -> None:
        """Note what is newer than what is known, each of its facts by itself."""
        given = {
            "tenant": self.tenant_id,
            "id": new_id(),
            "account": storable_text(provider_account_id),
            "name": storable_text(reported.name),
            "language": storable_text(reported.language),
            "template_id": storable_text(reported.template_id),
            "status": storable_text(reported.status),
            "reason": storable_text(reported.reason),
            "quality": storable_text(reported.quality),
            "category": storable_text(reported.category),
            "at": at,
        }
        await self._run(_TEMPLATE, given)

    async def list_templates(self, *, limit: int, after: UUID | None = None) -> Sequence[Template]:
        """Templates in order of their ids."""
        rows = await self._run(
            _LIST_TEMPLATES, {"tenant": self.tenant_id, "limit": limit, "after": after or NIL}
        )
        return [_template(row) for row in rows]

    async def find_state(self, channel_id: UUID) -> ChannelState | None:
        """The channel's state, locked until the transaction ends."""
        row = (
            await self._run(_FIND_STATE, {"tenant": self.tenant_id, "id": channel_id})
        ).one_or_none()
        if row is None:
            return None
        return ChannelState(
            status=ChannelStatus(row.status),
            pause_reason=row.pause_reason,
            messages_per_second=row.messages_per_second,
            quality_rating=row.quality_rating,
            display_phone_number=row.display_phone_number,
            is_verified=row.is_verified,
            reported=row.reported,
        )

    async def save_state(self, channel_id: UUID, state: ChannelState) -> None:
        """Store it, and nothing else of the channel."""
        given = {
            "tenant": self.tenant_id,
            "id": channel_id,
            "status": state.status.value,
            "pause_reason": state.pause_reason,
            "rate": state.messages_per_second,
            "quality": storable_text(state.quality_rating),
            "reported": storable_json(state.reported),
        }
        await self._run(_SAVE_STATE, given)

    def _to_entity(self, row: AccountEventModel) -> AccountEvent:
        return AccountEvent(
            tenant_id=row.tenant_id,
            id=row.id,
            channel_id=row.channel_id,
            provider_account_id=row.provider_account_id,
            field=row.field,
            reason=row.reason,
            digest=row.digest,
            raw=row.raw,
            reported_at=row.reported_at,
            received_at=row.received_at,
            subject=row.subject,
            came_as=row.came_as,
            place=row.place,
        )

    def _to_model(self, entity: AccountEvent) -> AccountEventModel:
        return AccountEventModel(
            tenant_id=entity.tenant_id,
            id=entity.id,
            channel_id=entity.channel_id,
            provider_account_id=entity.provider_account_id,
            field=entity.field,
            reason=entity.reason,
            digest=entity.digest,
            raw=entity.raw,
            reported_at=entity.reported_at,
            subject=entity.subject,
            came_as=entity.came_as,
            place=entity.place,
        )


def _turn(event: AccountEvent) -> tuple[bool, UUID, int, UUID]:
    """Last those that are compared with others, as they came; the others so that none deadlock."""
    if event.may_repeat:
        return True, event.came_as or NIL, event.place or 0, event.digest
    return False, NIL, 0, event.digest


def _template(row: Any) -> Template:
    return Template(
        id=row.id,
        provider_account_id=row.provider_account_id,
        name=row.name,
        language=row.language,
        template_id=row.template_id,
        status=row.status,
        status_reason=row.status_reason,
        quality=row.quality,
        category=row.category,
    )
