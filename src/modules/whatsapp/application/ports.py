"""What the use cases need from outside; `whatsapp.infrastructure` provides it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias
from uuid import UUID

from whatsapp.application.conversation_views import ConversationViews
from whatsapp.application.message_views import MessageViews
from whatsapp.domain.account import AccountRepository
from whatsapp.domain.conversation import ConversationRepository
from whatsapp.domain.entities import Channel, OutboundMessage
from whatsapp.domain.events import DeliveryLog, EndpointRepository, EventLog
from whatsapp.domain.media_repository import MediaRepository
from whatsapp.domain.outcome import Outcome
from whatsapp.domain.repositories import ChannelRepository, MessageRepository


class Work(Protocol):
    """One transaction for one tenant; what is not committed is undone."""

    @property
    def channels(self) -> ChannelRepository:
        """The tenant's channels."""
        ...

    @property
    def conversations(self) -> ConversationRepository:
        """The tenant's conversations."""
        ...

    @property
    def media(self) -> MediaRepository:
        """The tenant's files."""
        ...

    @property
    def messages(self) -> MessageRepository:
        """The tenant's messages."""
        ...

    @property
    def views(self) -> MessageViews:
        """The tenant's messages as they are looked up."""
        ...

    @property
    def conversation_views(self) -> ConversationViews:
        """The tenant's conversations and contacts as they are looked up."""
        ...

    @property
    def events(self) -> EventLog:
        """What the tenant is told."""
        ...

    @property
    def endpoints(self) -> EndpointRepository:
        """Where the tenant is told."""
        ...

    @property
    def deliveries(self) -> DeliveryLog:
        """What waits for the tenant's endpoints, and what was tried."""
        ...

    @property
    def accounts(self) -> AccountRepository:
        """What Meta reports about the tenant's numbers, accounts and templates."""
        ...

    async def commit(self) -> None:
        """Make it durable."""
        ...


class BeginWork(Protocol):
    """Opens a transaction for a tenant: `async with begin(tenant_id) as work: ...`."""

    def __call__(
        self, tenant_id: UUID, user_id: UUID | None = None
    ) -> AbstractAsyncContextManager[Work]:
        """A transaction that sees and takes the rows of `tenant_id` only."""
        ...


class NotLeaving(Exception):
    """A request that was ready to leave and was not let go: nothing of it has left."""


Go: TypeAlias = Callable[[], None]
"""Writes a request that is ready, in the moment in which it is called."""

Leave: TypeAlias = Callable[[Go], Awaitable[None]]
"""Awaited when all but the first byte of a request is done; it calls what it is given when the
request may leave, at most once. What it raises without having called that keeps the request here.
"""


async def leave_at_once(go: Go) -> None:
    """Let a request go as soon as it is ready."""
    go()


class Sender(Protocol):
    """Sends one message to Meta."""

    async def send(
        self,
        channel: Channel,
        message: OutboundMessage,
        attempt: int,
        *,
        leave: Leave = leave_at_once,
    ) -> Outcome:
        """One request, never repeated; what became of it. Never raises for the network's sake.

        `leave` is awaited once there is a connection, and what it is given writes the request; what
        it raises before that comes out of here as it is, and nothing has left.
        """
        ...
