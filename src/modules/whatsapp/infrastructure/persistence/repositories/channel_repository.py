"""Channels in PostgreSQL."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Interval,
    LargeBinary,
    Table,
    Uuid,
    bindparam,
    func,
    select,
    type_coerce,
    update,
)

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.arguments import all_given, given
from shared.infrastructure.database.driver_errors import ConstraintErrors
from shared.infrastructure.database.signatures import looks_at_arguments
from shared.infrastructure.encryption import EncryptedString
from shared.kernel.errors import SecretUnreadable
from shared.kernel.secret import Secret
from whatsapp.domain.entities import (
    Channel,
    ChannelAlreadyExists,
    ChannelStatus,
    InvalidChannel,
    MarketingPolicy,
    UnknownPolicy,
    WindowPolicy,
)
from whatsapp.domain.value_objects import AccessToken, UnreadableToken
from whatsapp.infrastructure.persistence.models import ChannelModel

_CHANNELS = cast("Table", ChannelModel.__table__)
_TOKEN = cast("EncryptedString", _CHANNELS.c.access_token.type)
# The token as it is stored: a statement straight to the driver goes past the types of columns.
_OF_TENANT = select(
    *(c if c.type is not _TOKEN else type_coerce(c, LargeBinary).label(c.name) for c in _CHANNELS.c)
).where(_CHANNELS.c.tenant_id == bindparam("tenant"))
_FIND = _OF_TENANT.where(_CHANNELS.c.id == bindparam("id"))
_FIND_MANY = _OF_TENANT.where(_CHANNELS.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid()))))
_FIND_FOR_CHANGE = _FIND.with_for_update()
_REST = (
    update(_CHANNELS)
    .where(_CHANNELS.c.tenant_id == bindparam("tenant"), _CHANNELS.c.id == bindparam("channel"))
    .values(
        rests_until=func.greatest(
            _CHANNELS.c.rests_until, func.now() + bindparam("duration", type_=Interval())
        )
    )
)


@looks_at_arguments()
class SQLAlchemyChannelRepository(SQLAlchemyRepository[Channel, ChannelModel]):
    """The tenant's channels; tokens are ciphertext in the table and `AccessToken` outside.

    A token that does not open concerns its channel alone: `get_by_id` raises DecryptionFailed for
    it; the other methods give it as `UnreadableToken`, and `update` then leaves it as it is.
    Until when a number rests is changed by `rest` alone, so that no `update` takes it back.
    """

    model = ChannelModel
    constraint_errors: ClassVar[ConstraintErrors] = {
        "uq_whatsapp_channels_tenant_id_phone_number_id": ChannelAlreadyExists,
        "ck_whatsapp_channels_messages_per_second": InvalidChannel,
    }

    async def get_by_id(self, entity_id: UUID) -> Channel | None:
        """The channel with this id; raises DecryptionFailed where its token does not open."""
        channel = await self.find(entity_id)
        if channel is not None and isinstance(channel.access_token, UnreadableToken):
            raise channel.access_token.cause
        return channel

    async def find(self, channel_id: UUID, *, for_change: bool = False) -> Channel | None:
        """The channel with this id, whatever its token.

        With `for_change` its row is locked until the transaction ends.
        """
        statement = _FIND_FOR_CHANGE if for_change else _FIND
        row = await self._find(
            statement, {"tenant": self.tenant_id, "id": given(UUID, channel_id, "id")}
        )
        return None if row is None else _entity(row, _TOKEN.open(row.access_token))

    async def find_many(self, channel_ids: Sequence[UUID]) -> Sequence[Channel]:
        """Those of the channels that are there, whatever their tokens, in no particular order."""
        ids = list(all_given(UUID, channel_ids, "channel_ids"))
        rows = await self._fetch(_FIND_MANY, {"tenant": self.tenant_id, "ids": ids})
        return [_entity(row, _TOKEN.open(row.access_token)) for row in rows]

    async def get_by_phone_number_id(self, phone_number_id: str) -> Channel | None:
        """The channel of the number that Meta knows by this id."""
        query = select(ChannelModel).where(
            ChannelModel.tenant_id == self.tenant_id,
            ChannelModel.phone_number_id == given(str, phone_number_id, "phone_number_id"),
        )
        return self._one(await self._execute(query))

    async def get_by_organization(self, organization_id: UUID) -> Sequence[Channel]:
        """All channels of the organisation, oldest first.

        Organisation and tenant are one thing: any other than the session's own gives an empty list.
        """
        query = (
            select(ChannelModel)
            .where(
                ChannelModel.tenant_id == self.tenant_id,
                ChannelModel.tenant_id == given(UUID, organization_id, "organization_id"),
            )
            .order_by(ChannelModel.id)
        )
        rows = await self._execute(query)
        return [self._to_entity(row) for row in rows.scalars()]

    async def get_active_channels(self) -> Sequence[Channel]:
        """The channels that may send, verified and active, oldest first."""
        query = (
            select(ChannelModel)
            .where(
                ChannelModel.tenant_id == self.tenant_id,
                ChannelModel.status == ChannelStatus.ACTIVE,
                ChannelModel.verified_at.is_not(None),
            )
            .order_by(ChannelModel.id)
        )
        rows = await self._execute(query)
        return [self._to_entity(row) for row in rows.scalars()]

    async def rest(self, channel_id: UUID, duration: timedelta) -> None:
        """Keep that the number may not send for `duration` from now; never shortens a rest."""
        parameters = {"tenant": self.tenant_id, "channel": channel_id, "duration": duration}
        await self._run(_REST, parameters)

    def _to_entity(self, row: ChannelModel) -> Channel:
        return _entity(row, row.access_token)

    def _to_model(self, entity: Channel) -> ChannelModel:
        given(AccessToken, entity.access_token, "access_token")
        token = {"access_token": entity.access_token} if entity.access_token.is_readable else {}
        return ChannelModel(
            **token,
            tenant_id=entity.tenant_id,
            id=entity.id,
            name=entity.name,
            phone_number_id=entity.phone_number_id,
            provider_account_id=entity.provider_account_id,
            app_id=entity.app_id,
            display_phone_number=entity.display_phone_number,
            status=entity.status.value,
            messages_per_second=entity.messages_per_second,
            keeps_order=entity.keeps_order,
            window_policy=entity.window_policy.value,
            marketing_policy=entity.marketing_policy.value,
            on_unknown=entity.on_unknown.value,
            quality_rating=entity.quality_rating,
            pause_reason=entity.pause_reason,
            verified_at=entity.verified_at,
        )


def _entity(row: Any, token: Secret) -> Channel:
    return Channel(
        tenant_id=row.tenant_id,
        id=row.id,
        name=row.name,
        phone_number_id=row.phone_number_id,
        provider_account_id=row.provider_account_id,
        app_id=row.app_id,
        display_phone_number=row.display_phone_number,
        access_token=_token(token),
        status=ChannelStatus(row.status),
        messages_per_second=row.messages_per_second,
        keeps_order=row.keeps_order,
        window_policy=WindowPolicy(row.window_policy),
        marketing_policy=MarketingPolicy(row.marketing_policy),
        on_unknown=UnknownPolicy(row.on_unknown),
        quality_rating=row.quality_rating,
        pause_reason=row.pause_reason,
        rests_until=row.rests_until,
        verified_at=row.verified_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _token(stored: Secret) -> AccessToken:
    try:
        return AccessToken(stored.reveal())
    except SecretUnreadable as error:
        return UnreadableToken(error)
