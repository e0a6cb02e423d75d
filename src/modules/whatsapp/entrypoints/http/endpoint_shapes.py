"""What callers say and see of webhook endpoints; a secret is shown once, when it is made."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.kernel.secret import Secret
from whatsapp.application.change_endpoint import EndpointChange
from whatsapp.application.create_endpoint import NewEndpoint
from whatsapp.domain.events import (
    DeliveryOutcome,
    DeliveryRecord,
    EndpointFormat,
    EventType,
    WebhookEndpoint,
)
from whatsapp.domain.events.endpoint import (
    DEFAULT_OVERLAP,
    MAX_CHANNELS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_OVERLAP,
    MAX_URL_CHARACTERS,
)
from whatsapp.entrypoints.http.requests import Instant

MAX_REPLAYED_IDS = 1000
_Url = Annotated[
    str,
    StringConstraints(max_length=MAX_URL_CHARACTERS),
    Field(examples=["https://example.com/tellwire"]),
]
_Description = Annotated[
    str, StringConstraints(max_length=MAX_DESCRIPTION_CHARACTERS, pattern=r"^[^\u0000]*$")
]
_Types = Annotated[
    frozenset[EventType], Field(description="What it wants to hear; none means everything.")
]
_Channels = Annotated[
    frozenset[UUID],
    Field(max_length=MAX_CHANNELS, description="Of which channels; none means all of them."),
]


class CreateEndpointRequest(BaseModel):
    """An endpoint to deliver events to."""

    model_config = ConfigDict(extra="forbid")

    url: _Url
    description: _Description = ""
    event_types: _Types = frozenset()
    channel_ids: _Channels = frozenset()
    format: EndpointFormat = Field(
        EndpointFormat.TELLWIRE,
        description="`meta`: bodies look as Meta's own webhooks do, and bear its signature too.",
    )

    def to_wanted(self) -> NewEndpoint:
        """What the use case takes."""
        return NewEndpoint(
            url=self.url,
            description=self.description,
            event_types=self.event_types,
            channel_ids=self.channel_ids,
            format=self.format,
        )


class ChangeEndpointRequest(BaseModel):
    """What is to be different; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    url: _Url | None = None
    description: _Description | None = None
    event_types: _Types | None = None
    channel_ids: _Channels | None = None
    enabled: StrictBool | None = None

    def to_change(self) -> EndpointChange:
        """What the use case takes."""
        return EndpointChange(
            url=self.url,
            description=self.description,
            event_types=self.event_types,
            channel_ids=self.channel_ids,
            is_enabled=self.enabled,
        )


class RotateSecretRequest(BaseModel):
    """How long the secret before signs as well."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: Annotated[StrictInt, Field(ge=0, le=int(MAX_OVERLAP.total_seconds()))] = int(
        DEFAULT_OVERLAP.total_seconds()
    )

    @property
    def overlap(self) -> timedelta:
        """As a duration."""
        return timedelta(seconds=self.overlap_seconds)


class ReplayRequest(BaseModel):
    """Which events to deliver again: by id, or all that were recorded in a time."""

    model_config = ConfigDict(extra="forbid")

    event_ids: list[UUID] | None = Field(None, min_length=1, max_length=MAX_REPLAYED_IDS)
    since: Instant | None = None
    until: Instant | None = None
    after: StrictInt = Field(0, ge=0, le=2**63 - 1, description="The `last` of the answer before.")

    @model_validator(mode="after")
    def _ids_or_a_time(self) -> Self:
        if (self.event_ids is None) == (self.since is None):
            raise PydanticCustomError("one_of", "either event_ids or since is needed")
        return self


class EndpointResponse(BaseModel):
    """An endpoint without its secret."""

    id: UUID
    url: str
    description: str
    event_types: list[EventType]
    channel_ids: list[UUID]
    format: EndpointFormat
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None = Field(
        description="The first failure since it last took something."
    )
    previous_secret_until: datetime | None = Field(
        description="Until when the secret before the current one signs as well."
    )
    created_at: datetime | None

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> Self:
        """What may be seen of `endpoint`."""
        return cls(**_shown(endpoint))


class EndpointWithSecretResponse(EndpointResponse):
    """An endpoint with its new secret, which cannot be had again."""

    secret: str = Field(description="`whsec_...`; keep it, it is not shown again.")

    @classmethod
    def with_secret(cls, endpoint: WebhookEndpoint, secret: Secret) -> Self:
        """The one answer that shows it."""
        return cls(**_shown(endpoint), secret=secret.reveal())


def _shown(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": sorted(endpoint.event_types),
        "channel_ids": sorted(endpoint.channel_ids),
        "format": endpoint.format,
        "enabled": endpoint.is_enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": endpoint.failing_since,
        "previous_secret_until": endpoint.previous_secret_until,
        "created_at": endpoint.created_at,
    }


class EndpointPageResponse(BaseModel):
    """A page of endpoints."""

    data: list[EndpointResponse]
    next_cursor: str | None


class DeliveryResponse(BaseModel):
    """One attempt to deliver an event."""

    id: UUID
    event_id: UUID
    event_type: str
    attempt: int
    outcome: DeliveryOutcome
    status: int | None = Field(description="The HTTP status of the answer, if there was one.")
    error: str | None = Field(description="Why there was no answer.")
    answer: str = Field(description="The beginning of the answer's body.")
    milliseconds: int
    at: datetime
    next_attempt_at: datetime | None

    @classmethod
    def of(cls, record: DeliveryRecord) -> Self:
        """The attempt as the log has it."""
        return cls(
            id=record.id,
            event_id=record.event_id,
            event_type=record.event_type,
            attempt=record.attempt,
            outcome=record.outcome,
            status=record.status,
            error=record.error,
            answer=record.excerpt,
            milliseconds=int(record.took / timedelta(milliseconds=1)),
            at=record.at,
            next_attempt_at=record.next_attempt_at,
        )


class DeliveryPageResponse(BaseModel):
    """A page of attempts, newest first."""

    data: list[DeliveryResponse]
    next_cursor: str | None


class TestEventResponse(BaseModel):
    """The test event that is on its way."""

    event_id: UUID


class ReplayResponse(BaseModel):
    """How many events are delivered again."""

    queued: int
    last: int | None = Field(
        description="Where there may be more: the number to go on behind, as `after`."
    )
    incomplete: bool = Field(
        description="Some events of that time have been deleted for their age, or some of these "
        "ids are not there (any more): read your messages instead."
    )
