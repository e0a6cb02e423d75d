"""What callers send about channels, and what they get to see of them; never a token."""

from datetime import datetime
from typing import Annotated, Any, Final, Self, cast
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    StringConstraints,
)

from shared.kernel.clock import utc_now
from whatsapp.application.message_views import QueueDepth
from whatsapp.domain.entities import (
    Channel,
    ChannelChanges,
    ChannelStatus,
    MarketingPolicy,
    UnknownPolicy,
    WindowPolicy,
)
from whatsapp.domain.entities.channel import DEFAULT_MESSAGES_PER_SECOND, MAX_MESSAGES_PER_SECOND
from whatsapp.domain.phone_number_info import PhoneNumberInfo
from whatsapp.domain.rate_limit import RateLimitState
from whatsapp.domain.value_objects import AccessToken, InvalidAccessToken

_NO_NUL: Final = r"^[^\u0000]*$"
_Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=_NO_NUL),
    Field(description="What people call it."),
]
_MetaId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_NO_NUL)]
_Account = Annotated[_MetaId, Field(description="Id of the WhatsApp Business Account.")]
_App = Annotated[_MetaId, Field(description="Id of the Meta app whose webhooks speak of it.")]
_Rate = Annotated[
    StrictInt,
    Field(
        ge=1,
        le=MAX_MESSAGES_PER_SECOND,
        description="What Meta grants the number per second, in and out together.",
    ),
]
_KeepsOrder = Annotated[
    StrictBool,
    Field(description="Whether messages to one recipient keep their order, also by retries."),
]
_Window = Annotated[
    WindowPolicy,
    Field(
        description="`enforce`: free-form messages outside the 24-hour window are refused; "
        "`allow`: Meta decides."
    ),
]
_Marketing = Annotated[
    MarketingPolicy,
    Field(
        description="`enforce`: marketing templates for people who told Meta that they want none "
        "are refused, where Meta has reported the template's category; `allow`: Meta decides."
    ),
]
_OnUnknown = Annotated[
    UnknownPolicy,
    Field(
        description="What silence leads to where nobody knows whether a message was sent: `fail`, "
        "`resend` once, `hold` until somebody decides, or by `category`: free-form messages and "
        "utility templates are sent once more, other templates fail."
    ),
]
_NULLABLE: Final = frozenset({"provider_account_id", "app_id"})


class CreateChannelRequest(BaseModel):
    """A number that Meta knows, with the token that speaks for it."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    phone_number_id: str = Field(
        pattern=r"^[0-9]{1,64}$", description="Meta's id of the number, not the number itself."
    )
    access_token: SecretStr = Field(description="Encrypted when it is stored, and never shown.")
    provider_account_id: _Account | None = None
    app_id: _App | None = None
    messages_per_second: _Rate = DEFAULT_MESSAGES_PER_SECOND
    keeps_order: _KeepsOrder = True
    window_policy: _Window = WindowPolicy.ENFORCE
    marketing_policy: _Marketing = MarketingPolicy.ENFORCE
    on_unknown: _OnUnknown = UnknownPolicy.CATEGORY

    def to_channel(self, tenant_id: UUID) -> Channel:
        """The channel that is asked for; raises the domain's errors with the wrong field."""
        return Channel(
            tenant_id=tenant_id,
            name=self.name,
            phone_number_id=self.phone_number_id,
            access_token=read_token(self.access_token),
            provider_account_id=self.provider_account_id,
            app_id=self.app_id,
            messages_per_second=self.messages_per_second,
            keeps_order=self.keeps_order,
            window_policy=self.window_policy,
            marketing_policy=self.marketing_policy,
            on_unknown=self.on_unknown,
        )


class ChangeChannelRequest(BaseModel):
    """What to change; what is left out stays, and null takes an id away."""

    model_config = ConfigDict(extra="forbid")

    name: _Name | None = None
    provider_account_id: _Account | None = None
    app_id: _App | None = None
    messages_per_second: _Rate | None = None
    keeps_order: _KeepsOrder | None = None
    window_policy: _Window | None = None
    marketing_policy: _Marketing | None = None
    on_unknown: _OnUnknown | None = None

    def to_changes(self) -> ChannelChanges:
        """The changes that are asked for."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        named = {k: v for k, v in given.items() if v is not None or k in _NULLABLE}
        return cast("ChannelChanges", named)


class PauseChannelRequest(BaseModel):
    """Why the channel stops sending."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=500, pattern=_NO_NUL),
        Field(description="Shown with the channel; holds no secret."),
    ] = "Paused by an operator"


class RotateTokenRequest(BaseModel):
    """The token that speaks for the channel from now on."""

    model_config = ConfigDict(extra="forbid")

    access_token: SecretStr = Field(description="Encrypted when it is stored, and never shown.")


class ChannelResponse(BaseModel):
    """A channel; its token is never shown."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    phone_number_id: str
    provider_account_id: str | None
    app_id: str | None
    display_phone_number: str | None
    status: ChannelStatus
    messages_per_second: int
    keeps_order: _KeepsOrder
    window_policy: _Window
    marketing_policy: _Marketing
    on_unknown: _OnUnknown
    quality_rating: str | None
    pause_reason: str | None
    rests_until: datetime | None = Field(
        description="Until then Meta has restricted the number, and it sends nothing; it goes on "
        "by itself. Null where it does not rest."
    )
    token_readable: bool = Field(
        description="Whether the stored token opens; if not, rotate it and resume the channel."
    )
    verified_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None

    @classmethod
    def of(cls, channel: Channel) -> Self:
        """What may be seen of `channel`."""
        return cls.model_validate(_shown(channel))


class VerifiedChannelResponse(ChannelResponse):
    """A channel that Meta lets send, and what deserves a look."""

    warnings: list[str]

    @classmethod
    def after(cls, channel: Channel, info: PhoneNumberInfo) -> Self:
        """What may be seen of `channel` after Meta was asked about it."""
        return cls.model_validate({**_shown(channel), "warnings": list(info.warnings)})


class ChannelPageResponse(BaseModel):
    """Channels, oldest first."""

    data: list[ChannelResponse]
    next_cursor: str | None


class QueueResponse(BaseModel):
    """Messages of the channel that have not settled."""

    model_config = ConfigDict(from_attributes=True)

    high: int
    normal: int
    bulk: int
    retrying: int = Field(description="Wait for their next attempt.")
    unknown: int = Field(description="Wait for proof of whether they were sent.")


class ChannelLimitsResponse(BaseModel):
    """A channel's rate and how much of it is in use at this moment."""

    messages_per_second: int
    available: bool = Field(description="Whether a message could leave now.")
    remaining: int = Field(description="How many could leave within the second that begins now.")
    retry_after_seconds: float = Field(description="When the next could leave; 0 for now.")
    queue: QueueResponse

    @classmethod
    def of(cls, channel: Channel, state: RateLimitState, depth: QueueDepth) -> Self:
        """The limits of `channel` as the limiter and the queue tell them."""
        return cls(
            messages_per_second=channel.messages_per_second,
            available=state.available,
            remaining=state.remaining,
            retry_after_seconds=state.retry_after.total_seconds(),
            queue=QueueResponse.model_validate(depth),
        )


def read_token(given: SecretStr) -> AccessToken:
    """The token that a caller brought; InvalidAccessToken names the field."""
    try:
        return AccessToken(given.get_secret_value())
    except InvalidAccessToken as error:
        detail = error.detail
    raise InvalidAccessToken(detail, field="access_token")


def _shown(channel: Channel) -> dict[str, Any]:
    names = set(ChannelResponse.model_fields) - {"token_readable"}
    shown = {name: getattr(channel, name) for name in names}
    rests_until = channel.rests_until if channel.rest_at(utc_now()) else None
    return {
        **shown,
        "rests_until": rests_until,
        "token_readable": channel.access_token.is_readable,
    }
