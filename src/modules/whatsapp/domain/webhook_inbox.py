"""The webhook inbox: verified bodies, durable before Meta's 200, until they are processed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One body as it came, leased to this processor; `attempts` counts this one too."""

    id: UUID
    app_id: str
    body: bytes = field(repr=False)
    attempts: int
    lease_token: UUID


@dataclass(frozen=True, slots=True)
class Route:
    """Whose number it is."""

    tenant_id: UUID
    channel_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An element that nobody could be given, with the reason."""

    inbox_id: UUID
    app_id: str
    reason: str
    phone_number_id: str | None
    raw: bytes = field(repr=False)


class WebhookInbox(Protocol):
    """What a processor does with the inbox; it sees bodies and routes, and no tenant's tables."""

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[InboxEntry]:
        """Lease up to `limit` entries, the oldest first; other processors never get the same."""
        ...

    async def read_until(self) -> datetime:
        """Everything that came in before this moment has been processed."""
        ...

    async def routes(self, phone_number_ids: Collection[str]) -> Mapping[str, Sequence[Route]]:
        """The verified channels of each number; a number that nobody has is missing."""
        ...

    async def release(self, entries: Sequence[InboxEntry]) -> None:
        """Give leased entries back for anybody, as if never leased."""
        ...

    async def finish(
        self, entries: Sequence[InboxEntry], quarantined: Sequence[Quarantined]
    ) -> None:
        """Take processed entries out and keep what could not be placed, both or neither."""
        ...
