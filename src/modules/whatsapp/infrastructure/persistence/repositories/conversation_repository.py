"""Conversations in PostgreSQL."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from shared.infrastructure.database import SQLAlchemyRepository
from shared.infrastructure.database.driver_errors import ConstraintErrors
from shared.infrastructure.database.signatures import looks_at_arguments
from whatsapp.domain.conversation import Conversation, ConversationNotFound, Person, Reached
from whatsapp.domain.entities import ChannelNotFound
from whatsapp.domain.value_objects import PhoneNumber, Recipient, UserId
from whatsapp.infrastructure.persistence.models import ConversationModel
from whatsapp.infrastructure.persistence.repositories import conversation_statements as sql
from whatsapp.infrastructure.persistence.repositories.message_rows import (
    other_address,
    recipient_of,
    recipient_text,
)
from whatsapp.infrastructure.persistence.repositories.person_rows import people_arrays
from whatsapp.infrastructure.persistence.repositories.person_statements import (
    HOLD_PEOPLE,
    KNOW_PEOPLE,
    LOCK_PEOPLE,
    MARK_READ,
    MERGE_PEOPLE,
    RECALL_SENT,
)


@looks_at_arguments()
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
    ) -> Sequence[Person]:
        """Note what was sent last; gives whom Meta names otherwise than we know them.

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
        return [_respelled(row) for row in rows]

    async def lock_people(self, channel_id: UUID) -> None:
        """Keep everybody else from changing who is who on a channel until the transaction ends.

        Before anything that finds or makes several conversations, and before any other lock.
        """
        await self._run(LOCK_PEOPLE, {"channel": channel_id})

    async def know(self, channel_id: UUID, people: Sequence[Person]) -> Sequence[Sequence[UUID]]:
        """Let all names of each person lead to them; gives each one's conversations.

        The first of them is to stay, the others to be merged into it. No name may be two people's.
        """
        parameters = {"tenant": self.tenant_id, "channel": channel_id} | people_arrays(people)
        rows: Any = await self._run(KNOW_PEOPLE, parameters)
        return [row.conversation_ids for row in rows]

    async def hold(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        """Lock conversations and what leads to them; gives those that are still there, in order."""
        parameters = {"tenant": self.tenant_id, "ids": list(ids)}
        return list((await self._run(HOLD_PEOPLE, parameters)).scalars())

    async def merge(self, ids: Sequence[UUID]) -> Conversation:
        """Make one conversation of several that are held, under the first id.

        The others' ids lead to it from now on. Raises ConversationNotFound.
        """
        parameters = {"tenant": self.tenant_id, "ids": list(ids), "kept": ids[0]}
        row: Any = (await self._run(MERGE_PEOPLE, parameters)).one_or_none()
        if row is None:
            raise ConversationNotFound
        return self._to_entity(row)

    async def recall_sent(self, ids: Sequence[UUID]) -> None:
        """Note what went out to conversations under names that were not known as theirs yet.

        Those that merged are found as well.
        """
        await self._run(RECALL_SENT, {"tenant": self.tenant_id, "ids": list(ids)})

    async def mark_read(self, conversation_id: UUID) -> None:
        """Nothing of a conversation that is held is unread any more."""
        await self._run(MARK_READ, {"tenant": self.tenant_id, "id": conversation_id})

    def _to_entity(self, row: ConversationModel) -> Conversation:
        return Conversation(
            tenant_id=row.tenant_id,
            id=row.id,
            channel_id=row.channel_id,
            phone=PhoneNumber(row.phone) if row.phone else None,
            user_id=UserId(row.user_id) if row.user_id else None,
            profile_name=row.profile_name,
            username=row.username,
            last_inbound_at=row.last_inbound_at,
            last_outbound_at=row.last_outbound_at,
            unread_count=row.unread_count,
            last_message_id=row.last_message_id,
            last_message_at=row.last_message_at,
            marketing_stopped=row.marketing_stopped,
            marketing_at=row.marketing_at,
            created_at=row.created_at,
        )

    def _to_model(self, entity: Conversation) -> ConversationModel:
        return ConversationModel(
            tenant_id=entity.tenant_id,
            id=entity.id,
            channel_id=entity.channel_id,
            phone=entity.phone and entity.phone.e164,
            user_id=entity.user_id and entity.user_id.value,
            profile_name=entity.profile_name,
            username=entity.username,
            last_inbound_at=entity.last_inbound_at,
            last_outbound_at=entity.last_outbound_at,
            unread_count=entity.unread_count,
            last_message_id=entity.last_message_id,
            last_message_at=entity.last_message_at,
            marketing_stopped=entity.marketing_stopped,
            marketing_at=entity.marketing_at,
        )


def _respelled(row: Any) -> Person:
    phone = PhoneNumber(row.phone) if row.phone else None
    user_id = UserId(row.user_id) if row.user_id else None
    names = (recipient_of(row.recipient), phone, user_id)
    return Person(
        names=tuple(name for name in names if name is not None),
        phone=phone,
        user_id=user_id,
        at=row.at,
        message_id=row.message_id,
    )
