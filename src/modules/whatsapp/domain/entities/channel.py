"""A channel: one WhatsApp Business number of one tenant, and whether it may send."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self, TypedDict
from uuid import UUID

from shared.kernel.errors import Conflict, InvalidInput, NotFoundException, ensure_type
from shared.kernel.ids import new_id
from whatsapp.domain.value_objects import AccessToken, AccessTokenUnreadable

DEFAULT_MESSAGES_PER_SECOND: Final = 80
"""Meta's default for a number, in and out together (Meta, Cloud API, throughput)."""
MAX_MESSAGES_PER_SECOND: Final = 10_000
_MAX_PROVIDER_ID_CHARACTERS: Final = 64
_KINDS: Final = {
    "name": str,
    "phone_number_id": str,
    "access_token": AccessToken,
    "messages_per_second": int,
}


class ChannelNotFound(NotFoundException):
    """The channel does not exist in this tenant."""

    code = "channel_not_found"
    title = "No channel with this id exists in this tenant"


class ChannelAlreadyExists(Conflict):
    """The tenant has a channel for this number already."""

    code = "channel_already_exists"
    title = "This tenant already has a channel with this phone number id"


class ChannelNotActive(Conflict):
    """The channel is not verified or not active; nothing was accepted for it."""

    code = "channel_not_active"
    title = "The channel is not active: verify or resume it first"


class InvalidChannel(InvalidInput):
    """A property of the channel is out of its bounds."""

    code = "invalid_channel"
    title = "The channel is not valid"


class ChannelStatus(StrEnum):
    """Whether a channel may send: `paused` keeps its messages, `disabled` is for good."""

    PENDING = "pending"
    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class WindowPolicy(StrEnum):
    """What happens to a free-form message while its recipient's 24-hour window is closed."""

    ENFORCE = "enforce"
    """It is refused when it is accepted, as Meta would refuse it later."""
    ALLOW = "allow"
    """It is taken; Meta decides."""


class MarketingPolicy(StrEnum):
    """What happens to a marketing template for somebody who told Meta that they want none."""

    ENFORCE = "enforce"
    """It is refused when it is accepted, where Meta has reported the template's category."""
    ALLOW = "allow"
    """It is taken; Meta decides."""


class UnknownPolicy(StrEnum):
    """What happens to a message of which nobody knows whether it was sent, after enough silence.

    Silence counts only while reports about other messages of the number come in.
    """

    CATEGORY = "category"
    """Free-form messages and utility templates are sent once more, other templates fail.

    A template is of the category of which Meta last reported a price for it; until then it fails.
    """
    FAIL = "fail"
    """It fails and is not sent again: for what must not come twice."""
    RESEND = "resend"
    """It is sent once more: for what must come. A report that comes later still shows a double."""
    HOLD = "hold"
    """It stays `unknown` until a report comes or somebody decides."""


class ChannelChanges(TypedDict, total=False):
    """What an operator may change of a channel; what is not named stays."""

    name: str
    messages_per_second: int
    keeps_order: bool
    window_policy: WindowPolicy
    marketing_policy: MarketingPolicy
    on_unknown: UnknownPolicy
    provider_account_id: str | None
    app_id: str | None


@dataclass(slots=True, kw_only=True)
class Channel:
    """A number that Meta knows as `phone_number_id`, with the token that speaks for it.

    `messages_per_second` is what Meta grants this number (20, 80, 250, 1000 or any other), counting
    both directions. `provider_account_id` is the WhatsApp Business Account; both ids are opaque.
    `keeps_order`: messages to one recipient go out one after the other, also through retries.
    `rests_until`: until then Meta lets the number send nothing; it goes on by itself.
    """

    tenant_id: UUID
    name: str
    phone_number_id: str
    access_token: AccessToken
    id: UUID = field(default_factory=new_id)
    provider_account_id: str | None = None
    app_id: str | None = None
    display_phone_number: str | None = field(default=None, repr=False)
    status: ChannelStatus = ChannelStatus.PENDING
    messages_per_second: int = DEFAULT_MESSAGES_PER_SECOND
    keeps_order: bool = True
    window_policy: WindowPolicy = WindowPolicy.ENFORCE
    marketing_policy: MarketingPolicy = MarketingPolicy.ENFORCE
    on_unknown: UnknownPolicy = UnknownPolicy.CATEGORY
    quality_rating: str | None = None
    pause_reason: str | None = None
    rests_until: datetime | None = None
    verified_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            ensure_type(getattr(self, name), kind, InvalidChannel, field=name)
        if not 0 < self.messages_per_second <= MAX_MESSAGES_PER_SECOND:
            raise InvalidChannel(
                f"Between 1 and {MAX_MESSAGES_PER_SECOND}", field="messages_per_second"
            )
        ident = self.phone_number_id
        if not (ident.isascii() and ident.isdigit() and len(ident) <= _MAX_PROVIDER_ID_CHARACTERS):
            raise InvalidChannel(
                "Meta's phone number id is made of digits", field="phone_number_id"
            )
        if not self.name.strip():
            raise InvalidChannel("A channel needs a name", field="name")

    @property
    def is_active(self) -> bool:
        """Whether it may send: verified, and neither paused nor disabled."""
        return self.status is ChannelStatus.ACTIVE and self.verified_at is not None

    def rest_at(self, now: datetime) -> timedelta:
        """How long the number still has to rest; zero where it need not."""
        return max(timedelta(), self.rests_until - now) if self.rests_until else timedelta()

    def ensure_active(self) -> None:
        """Raise ChannelNotActive unless the channel may send."""
        if not self.is_active:
            raise ChannelNotActive(f"The channel is {self.status}, so that it cannot send")

    def verify(self, at: datetime) -> None:
        """Meta answered for this number with this token: it may send from now on."""
        self.verified_at = at
        if self.status is ChannelStatus.PENDING:
            self.status = ChannelStatus.ACTIVE

    def pause(self, reason: str) -> None:
        """Stop sending and keep the messages; `reason` is shown to operators."""
        if self.status is ChannelStatus.DISABLED:
            raise ChannelNotActive("A disabled channel cannot be paused")
        self.status, self.pause_reason = ChannelStatus.PAUSED, reason

    def resume(self) -> None:
        """Send again after a pause; AccessTokenUnreadable where that would end at once."""
        if self.status is not ChannelStatus.PAUSED:
            raise ChannelNotActive(f"The channel is {self.status}, not paused")
        if not self.access_token.is_readable:
            raise AccessTokenUnreadable
        self.status = ChannelStatus.ACTIVE if self.verified_at else ChannelStatus.PENDING
        self.pause_reason = None

    def changed(self, changes: ChannelChanges) -> Self:
        """The channel with `changes`; raises InvalidChannel."""
        return replace(self, **changes)

    def rotate_token(self, token: AccessToken) -> None:
        """Speak with `token` from now on."""
        self.access_token = token
