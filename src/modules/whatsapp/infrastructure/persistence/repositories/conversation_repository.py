"""Conversations in PostgreSQL."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.driver_errors import ConstraintErrors
from shared.kernel.ids import new_id
from whatsapp.domain.conversation import Conversation, Reached, Respelled
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.value_objects import PhoneNumber, Recipient, UserId
from whatsapp.infrastructure.persistence.models import ConversationModel
from whatsapp.infrastructure.persistence.repositories import conversation_statements as sql
from whatsapp.infrastructure.persistence.repositories.message_rows import (
    addresses_of,
    other_address,
    recipient_of,
    recipient_text,
)


class SQLAlchemyConversationRepository(SQLAlchemyRepository[Conversation, ConversationModel]):
    """The tenant's conversations; `save_inbound` of the messages opens them and counts."""

    model = ConversationModel
    constraint_errors: ClassVar[ConstraintErrors] = {
        "fk_whatsapp_conversations_whatsapp_channels": ChannelNotFound,
    }

    async def get_by_address(self, channel_id: UUID, address: Recipient) -> Conversation | None:
        """The conversation of whoever is reached by this address, in any spelling of it."""
        parameters = {
            "tenant": self.tenant_id,
            "channel": channel_id,
            "address": recipient_text(address),
            "other_address": other_address(address),
        }
        result = await self._run(sql.GET_CONVERSATION_BY_ADDRESS, parameters)
        row: Any = result.one_or_none()
        return None if row is None else self._to_entity(row)

    async def record_reached(
        self, channel_id: UUID, reached: Sequence[Reached]
    ) -> Sequence[Respelled]:
        """Note what was sent last; gives whom Meta names otherwise than they were dialled.

        Conversations that do not exist are not made: whoever never answered has none.
        """
        parameters = {
            "tenant": self.tenant_id,
            "channel": channel_id,
            "message_ids": [one.message_id for one in reached],
            "phones": [one.phone and one.phone.e164 for one in reached],
            "user_ids": [one.user_id and one.user_id.value for one in reached],
            "times": [one.at for one in reached],
        }
        rows: Any = await self._run(sql.RECORD_REACHED, parameters)
        return [
            Respelled(
                dialled=recipient_of(row.recipient),
                phone=PhoneNumber(row.phone) if row.phone else None,
                user_id=UserId(row.user_id) if row.user_id else None,
                message_id=row.message_id,
                at=row.at,
            )
            for row in rows
        ]

    async def join(self, channel_id: UUID, respelled: Respelled) -> Conversation:
        """Let the dialled address lead to the conversation of whom Meta names; made if need be."""
        addresses = addresses_of(respelled.dialled, respelled.phone, respelled.user_id)
        parameters = {
            "tenant": self.tenant_id,
            "channel": channel_id,
            "addresses": addresses,
            "address_ids": [new_id() for _ in addresses],
            "new_id": new_id(),
            "phone": respelled.phone and respelled.phone.e164,
            "user_id": respelled.user_id and respelled.user_id.value,
            "at": respelled.at,
            "message_id": respelled.message_id,
        }
        row: Any = (await self._run(sql.JOIN_CONVERSATION, parameters)).one()
        return self._to_entity(row)

    def _to_entity(self, row: ConversationModel) -> Conversation:
        return Conversation(
            tenant_id=row.tenant_id,
            id=row.id,
            channel_id=row.channel_id,
            phone=PhoneNumber(row.phone) if row.phone else None,
            user_id=UserId(row.user_id) if row.user_id else None,
            profile_name=row.profile_name,
            last_inbound_at=row.last_inbound_at,
            last_outbound_at=row.last_outbound_at,
            unread_count=row.unread_count,
            last_message_id=row.last_message_id,
            last_message_at=row.last_message_at,
        )

    def _to_model(self, entity: Conversation) -> ConversationModel:
        return ConversationModel(
            tenant_id=entity.tenant_id,
            id=entity.id,
            channel_id=entity.channel_id,
            phone=entity.phone and entity.phone.e164,
            user_id=entity.user_id and entity.user_id.value,
            profile_name=entity.profile_name,
            last_inbound_at=entity.last_inbound_at,
            last_outbound_at=entity.last_outbound_at,
            unread_count=entity.unread_count,
            last_message_id=entity.last_message_id,
            last_message_at=entity.last_message_at,
        )
