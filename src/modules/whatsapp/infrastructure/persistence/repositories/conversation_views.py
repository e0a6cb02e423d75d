"""Read-only views of conversations: the latest, what was said in one, and who the contacts are."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from shared.infrastructure.database.signatures import looks_at_arguments
from whatsapp.application.conversation_views import (
    ConversationPage,
    ConversationView,
    Place,
    ThreadMessage,
    ThreadPage,
)
from whatsapp.domain.conversation import Conversation
from whatsapp.domain.entities import InboundMessage
from whatsapp.domain.value_objects import Recipient
from whatsapp.infrastructure.persistence.repositories import conversation_view_statements as sql
from whatsapp.infrastructure.persistence.repositories.conversation_repository import (
    SQLAlchemyConversationRepository,
)
from whatsapp.infrastructure.persistence.repositories.message_rows import (
    inbound_of,
    other_address,
    recipient_text,
    with_amendments,
)
from whatsapp.infrastructure.persistence.repositories.message_views import SQLAlchemyMessageViews

MAX_PAGE: Final = 1000
_LATEST: Final = {
    (of_channel, is_unread): sql.list_latest(of_channel=of_channel, is_unread=is_unread)
    for of_channel in (False, True)
    for is_unread in (False, True)
}
_CONTACTS: Final = {
    of_channel: sql.list_contacts(of_channel=of_channel) for of_channel in (False, True)
}
_LAST_ID: Final = UUID(int=(1 << 128) - 1)
_FIRST_ID: Final = UUID(int=0)
_FROM_THE_LATEST: Final = Place(datetime(9999, 1, 1, tzinfo=UTC), _LAST_ID)


@looks_at_arguments()
class SQLAlchemyConversationViews(SQLAlchemyConversationRepository):
    """A tenant's conversations as its people look at them; as many statements whatever the page."""

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session)
        self._messages = SQLAlchemyMessageViews(session)

    async def get_view(self, conversation_id: UUID) -> ConversationView | None:
        """The conversation with its last message, also by the id of one that merged into it."""
        parameters = {"tenant": self.tenant_id, "id": conversation_id}
        row: Any = (await self._run(sql.GET_VIEW, parameters)).one_or_none()
        return None if row is None else (await self._views([self._to_entity(row)]))[0]

    async def list_latest(
        self,
        *,
        limit: int,
        channel_id: UUID | None = None,
        is_unread: bool = False,
        before: Place | None = None,
    ) -> ConversationPage:
        """Up to `limit` (at most 1000) conversations that have messages, the latest first.

        One that moves up between two pages is missing in the second, and first on a new first one.
        """
        limit, before = min(limit, MAX_PAGE), before or _FROM_THE_LATEST
        parameters: dict[str, Any] = {"tenant": self.tenant_id, "limit": limit + 1}
        parameters |= {"before_at": before.at, "before_id": before.id}
        if channel_id is not None:
            parameters["channel"] = channel_id
        rows: Any = await self._run(_LATEST[channel_id is not None, is_unread], parameters)
        found = [self._to_entity(row) for row in rows]
        page = found[:limit]
        following = _place_of(page[-1]) if len(found) > limit else None
        return ConversationPage(await self._views(page), following)

    async def list_messages(
        self, conversation_id: UUID, *, limit: int, before: UUID | None = None
    ) -> ThreadPage:
        """Up to `limit` (at most 1000) messages in both directions, newest first.

        In the order in which Tellwire took them in, which is that of their ids.
        """
        limit = min(limit, MAX_PAGE)
        parameters = {
            "tenant": self.tenant_id,
            "id": conversation_id,
            "before": before or _LAST_ID,
            "limit": limit + 1,
        }
        ids = list((await self._run(sql.LIST_THREAD, parameters)).scalars())
        messages = await self._load(ids[:limit])
        page = [messages[one] for one in ids[:limit] if one in messages]
        return ThreadPage(page, ids[limit - 1] if len(ids) > limit else None)

    async def get_newest_inbound(self, conversation_id: UUID) -> InboundMessage | None:
        """What the contact wrote last; notices of the system are nobody's words."""
        parameters = {"tenant": self.tenant_id, "id": conversation_id}
        row: Any = (await self._run(sql.GET_NEWEST_INBOUND, parameters)).one_or_none()
        return None if row is None else inbound_of(row)

    async def list_amended(
        self, channel_id: UUID, wamids: Sequence[str]
    ) -> Sequence[InboundMessage]:
        """Which of these messages of a channel were edited or removed, each with what amends it."""
        parameters = {"tenant": self.tenant_id, "channel": channel_id, "wamids": list(wamids)}
        rows: Any = await self._run(sql.LIST_AMENDED, parameters)
        return [one for one in with_amendments([inbound_of(row) for row in rows]) if one.amendments]

    async def list_contacts(
        self,
        *,
        limit: int,
        channel_id: UUID | None = None,
        known_as: Recipient | None = None,
        after: UUID | None = None,
    ) -> Sequence[Conversation]:
        """Up to `limit` (at most 1000) contacts in order of their ids, from behind `after`.

        `known_as` finds those whom that address leads to, in any spelling of it.
        """
        parameters: dict[str, Any] = {"tenant": self.tenant_id, "limit": min(limit, MAX_PAGE)}
        parameters["after"] = after or _FIRST_ID
        if channel_id is not None or known_as is not None:
            parameters["channel"] = channel_id
        statement = _CONTACTS[channel_id is not None]
        if known_as is not None:
            parameters["address"] = recipient_text(known_as)
            parameters["other_address"] = other_address(known_as)
            statement = sql.FIND_CONTACTS
        rows: Any = await self._run(statement, parameters)
        return [self._to_entity(row) for row in rows]

    async def _views(self, conversations: Sequence[Conversation]) -> Sequence[ConversationView]:
        wanted = [one.last_message_id for one in conversations if one.last_message_id is not None]
        messages = await self._load(wanted)
        return [
            ConversationView(one, messages.get(one.last_message_id or _FIRST_ID))
            for one in conversations
        ]

    async def _load(self, ids: Sequence[UUID]) -> dict[UUID, ThreadMessage]:
        """The messages with these ids, in two statements; an id may be of either direction."""
        if not ids:
            return {}
        parameters = {"tenant": self.tenant_id, "ids": list(ids)}
        rows: Any = await self._run(sql.GET_INBOUND_MANY, parameters)
        found = with_amendments([inbound_of(row) for row in rows])
        heard: dict[UUID, ThreadMessage] = {one.id: one for one in found if one.id in set(ids)}
        if len(heard) == len(ids):
            return heard
        return heard | {one.id: one for one in await self._messages.get_outbound_many(ids)}


def _place_of(one: Conversation) -> Place | None:
    return None if one.last_message_at is None else Place(one.last_message_at, one.id)
