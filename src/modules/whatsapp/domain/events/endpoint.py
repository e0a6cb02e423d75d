"""Webhook endpoints: where a tenant's own system hears what happened."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from shared.kernel.errors import Conflict, InvalidInput, NotFoundException
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret
from whatsapp.domain.events.addresses import AddressPolicy
from whatsapp.domain.events.event import EventType
from whatsapp.domain.events.signature import SECRET_PREFIX

MAX_ENDPOINTS: Final = 20
"""Of one tenant: each event is stored once more for each that wants it."""
MAX_URL_CHARACTERS: Final = 2048
MAX_DESCRIPTION_CHARACTERS: Final = 200
MAX_CHANNELS: Final = 100
SECRET_BYTES: Final = 32
DEFAULT_OVERLAP: Final = timedelta(hours=24)
MAX_OVERLAP: Final = timedelta(days=7)
GIVE_UP_AFTER: Final = timedelta(days=3)
"""So long a delivery is tried, and an endpoint that took nothing in all that time is disabled."""
_SLACK: Final = timedelta(hours=6)
RECOVERED_AFTER: Final = timedelta(minutes=1)
"""An endpoint that failed for longer than this gets what it missed at once when it answers."""


class InvalidEndpoint(InvalidInput):
    """A property of an endpoint is not what it may be."""

    code = "invalid_webhook_endpoint"
    title = "The webhook endpoint is not valid"


class EndpointNotFound(NotFoundException):
    """The endpoint does not exist in this tenant."""

    code = "webhook_endpoint_not_found"
    title = "No webhook endpoint with this id exists in this tenant"


class EndpointLimitReached(Conflict):
    """The tenant has as many endpoints as it may have."""

    code = "webhook_endpoint_limit_reached"
    title = f"A tenant has at most {MAX_ENDPOINTS} webhook endpoints"


class EndpointNotEnabled(Conflict):
    """Nothing is delivered to an endpoint that is disabled; enable it first."""

    code = "webhook_endpoint_not_enabled"
    title = "The webhook endpoint is disabled; enable it first"


class EndpointFormat(StrEnum):
    """How bodies look: Tellwire's own, or as Meta's webhooks do."""

    TELLWIRE = "tellwire"
    META = "meta"


def new_secret() -> Secret:
    """A secret made of fresh random bytes, as the Standard Webhooks scheme writes it."""
    return Secret(SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


@dataclass(slots=True, kw_only=True)
class WebhookEndpoint:
    """A URL and what it wants to hear; no types or no channels mean all of them.

    `failing_since` is the first failure after the last success. The URL may hold a secret of the
    tenant's and is in no repr.
    """

    tenant_id: UUID
    url: str = field(repr=False)
    secret: Secret
    description: str = ""
    event_types: frozenset[EventType] = frozenset()
    channel_ids: frozenset[UUID] = frozenset()
    format: EndpointFormat = EndpointFormat.TELLWIRE
    previous_secret: Secret | None = None
    previous_secret_until: datetime | None = None
    is_enabled: bool = True
    disabled_reason: str | None = None
    failing_since: datetime | None = None
    id: UUID = field(default_factory=new_id)
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def ensure_valid(self, policy: AddressPolicy) -> None:
        """Raise InvalidEndpoint, naming the field, unless it could be delivered to."""
        _check_url(self.url, policy)
        if len(self.description) > MAX_DESCRIPTION_CHARACTERS or "\0" in self.description:
            raise InvalidEndpoint(
                f"At most {MAX_DESCRIPTION_CHARACTERS} characters", field="description"
            )
        if len(self.channel_ids) > MAX_CHANNELS:
            raise InvalidEndpoint(f"At most {MAX_CHANNELS} channels", field="channel_ids")

    def secrets_at(self, at: datetime) -> Sequence[Secret]:
        """The secrets that sign now, the current one first."""
        until = self.previous_secret_until
        if self.previous_secret is None or until is None or until <= at:
            return (self.secret,)
        return (self.secret, self.previous_secret)

    def rotate(self, secret: Secret, *, at: datetime, overlap: timedelta) -> None:
        """Sign with `secret` from now on, and with the one before for `overlap` as well."""
        if not timedelta() <= overlap <= MAX_OVERLAP:
            raise InvalidEndpoint("At most seven days", field="overlap_seconds")
        self.previous_secret = self.secret if overlap else None
        self.previous_secret_until = at + overlap if overlap else None
        self.secret = secret

    def enable(self) -> None:
        """Deliver again, from the next event on; what it missed can be replayed."""
        if not self.is_enabled:
            self.is_enabled, self.disabled_reason, self.failing_since = True, None, None

    def disable(self, reason: str) -> None:
        """Deliver nothing more until somebody enables it."""
        self.is_enabled, self.disabled_reason = False, reason

    def has_failed_for_good(self, at: datetime) -> bool:
        """Whether it has taken nothing for as long as deliveries are tried."""
        since = self.failing_since
        return since is not None and at - since >= GIVE_UP_AFTER - _SLACK

    def has_recovered(self, at: datetime) -> bool:
        """Whether this success ends a failure of some length."""
        return self.failing_since is not None and at - self.failing_since >= RECOVERED_AFTER


def _check_url(url: str, policy: AddressPolicy) -> None:
    schemes = ("https", "http") if policy.allows_plain_http else ("https",)
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidEndpoint(f"At most {MAX_URL_CHARACTERS} ASCII characters", field="url")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in schemes or not host:
        raise InvalidEndpoint(f"A URL with {' or '.join(schemes)}", field="url")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidEndpoint("Without user, password and fragment", field="url")
    if _is_literal(host) and not policy.admits(host):
        raise InvalidEndpoint("Not an address that webhooks may go to", field="url")


def _is_literal(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class EndpointRepository(Protocol):
    """The webhook endpoints of one tenant."""

    async def get_by_id(self, entity_id: UUID) -> WebhookEndpoint | None:
        """The endpoint with this id."""
        ...

    async def list(
        self, *, limit: int = 100, after: UUID | None = None
    ) -> Sequence[WebhookEndpoint]:
        """Endpoints in order of their ids, from behind `after`."""
        ...

    async def add(self, entity: WebhookEndpoint) -> WebhookEndpoint:
        """Store a new endpoint."""
        ...

    async def update(self, entity: WebhookEndpoint) -> WebhookEndpoint:
        """Store what changed."""
        ...

    async def get_for_change(self, endpoint_id: UUID) -> WebhookEndpoint | None:
        """As `get_by_id`, and nobody else changes it until the transaction ends."""
        ...

    async def note_failing(self, endpoint_id: UUID, at: datetime) -> None:
        """Note the first failure after a success; a later one changes nothing."""
        ...

    async def note_working(self, endpoint_id: UUID) -> None:
        """Note that it took something."""
        ...

    async def disable(self, endpoint_id: UUID, reason: str) -> bool:
        """Switch it off; False where it was already."""
        ...

    async def delete(self, entity_id: UUID) -> bool:
        """Forget the endpoint, what waits for it and its log; False if there was none."""
        ...
