"""What callers may send; the content of a message is checked by the domain, with its own paths."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    StrictInt,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from whatsapp.application.accept_message import NewMessage
from whatsapp.application.message_views import MessageFilter
from whatsapp.domain.value_objects import (
    IdempotencyKey,
    InvalidContent,
    InvalidIdempotencyKey,
    InvalidPhoneNumber,
    MessageContent,
    MessageStatus,
    MessageType,
    Priority,
    Recipient,
    parse_recipient,
)

MAX_BATCH: Final = 1000
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.")


def _spelled_out(given: object) -> object:
    if isinstance(given, str) and _DATE.match(given) is not None:
        return given
    raise PydanticCustomError("time_form", "a time with its zone is needed: 2026-12-01T09:00:00Z")


_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def _in_utc(given: datetime) -> datetime:
    """The same moment; at the ends of the calendar, where UTC has no day for it, the nearest."""
    try:
        return given.astimezone(UTC)
    except OverflowError:
        return _FIRST if given.year == _FIRST.year else _LAST


Instant: TypeAlias = Annotated[
    AwareDatetime, BeforeValidator(_spelled_out), AfterValidator(_in_utc)
]
"""A time as the API takes it, in UTC; a number would have to be guessed at, seconds or not."""
_MetaObject = dict[str, Any] | None
_T = MessageType
SendableType: TypeAlias = Literal[
    _T.TEXT,
    _T.IMAGE,
    _T.AUDIO,
    _T.VIDEO,
    _T.DOCUMENT,
    _T.STICKER,
    _T.LOCATION,
    _T.CONTACTS,
    _T.INTERACTIVE,
    _T.TEMPLATE,
    _T.REACTION,
]
"""The types that go to a person; a pin is for groups."""
NO_NUL: Final = r"^[^\u0000]*$"
"""The one character that PostgreSQL keeps in no text; refused by its field's name."""
MetadataText = Annotated[str, StringConstraints(max_length=2000, pattern=NO_NUL)]


def _content(kind: str) -> Any:
    return Field(None, description=f"Meta's `{kind}` object, where `type` is `{kind}`.")


class MessageContext(BaseModel):
    """The message that this one quotes."""

    model_config = ConfigDict(extra="forbid")

    message_id: str = Field(description="Its id at Meta (wamid).")


class SendMessageRequest(BaseModel):
    """A message to send: who it goes to, and Meta's own object under the name of its type."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "channel_id": "0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60",
                    "to": "+4915550000001",
                    "type": "text",
                    "text": {"body": "Your order is on its way."},
                },
                {
                    "channel_id": "0198f2c4-6b1e-7c3a-9a53-2f1d8e4b7a60",
                    "to": "+4915550000001",
                    "type": "template",
                    "template": {"name": "order_sent", "language": {"code": "en"}},
                    "priority": "high",
                    "metadata": {"order": "1234"},
                },
            ]
        },
    )

    channel_id: UUID = Field(description="The channel to send from.")
    to: str | None = Field(None, description="A phone number with + and country code.")
    recipient: str | None = Field(
        None, description="A business-scoped user id, where no number is known."
    )
    type: SendableType = MessageType.TEXT
    text: _MetaObject = _content("text")
    image: _MetaObject = _content("image")
    audio: _MetaObject = _content("audio")
    video: _MetaObject = _content("video")
    document: _MetaObject = _content("document")
    sticker: _MetaObject = _content("sticker")
    location: _MetaObject = _content("location")
    contacts: list[dict[str, Any]] | None = _content("contacts")
    interactive: _MetaObject = _content("interactive")
    template: _MetaObject = _content("template")
    reaction: _MetaObject = _content("reaction")
    context: MessageContext | None = None
    send_at: Instant | None = Field(
        None, description="Not before this time; at most 366 days ahead."
    )
    expires_at: Instant | None = Field(
        None, description="Not after this time: a message still waiting then is not sent."
    )
    priority: Priority = Field(Priority.NORMAL, description="The lane in the channel's queue.")
    metadata: dict[MetadataText, MetadataText] = Field(
        default_factory=dict[str, str],
        description="Up to 20 entries of your own, 2000 characters together; given back as stored.",
    )

    def to_message(self, key: IdempotencyKey | None) -> NewMessage:
        """The message that is asked for; raises the domain's errors with the field that is wrong.

        An object of another type than `type` names is refused: whoever sends it means something.
        """
        return NewMessage(
            channel_id=self.channel_id,
            recipient=parse_recipient(to=self.to, recipient=self.recipient),
            content=MessageContent.from_payload(self._payload()),
            idempotency_key=key,
            priority=self.priority,
            send_at=self.send_at,
            expires_at=self.expires_at,
            metadata=self.metadata,
        )

    def _payload(self) -> dict[str, Any]:
        for kind in get_args(SendableType):
            if kind is not self.type and getattr(self, kind) is not None:
                raise InvalidContent(f"`type` is {self.type}, so that this is not sent", field=kind)
        payload: dict[str, Any] = {
            "type": self.type,
            self.type.value: getattr(self, self.type),
        }
        if self.context is not None:
            payload["context"] = {"message_id": self.context.message_id}
        return payload


class BatchEntry(SendMessageRequest):
    """One message of a batch, with an idempotency key of its own."""

    idempotency_key: str | None = Field(
        None, description="As the header `Idempotency-Key` of a single message."
    )


class SendBatchRequest(BaseModel):
    """Up to 1000 messages; each is judged by itself."""

    model_config = ConfigDict(extra="forbid")

    # Entries are documented here and validated one by one, so that a fault in one is not a fault
    # of all.
    messages: Annotated[list[SkipValidation[BatchEntry]], Field(min_length=1, max_length=MAX_BATCH)]


class RetryDeadLettersRequest(BaseModel):
    """Which dead letters to send again; everything given must hold."""

    model_config = ConfigDict(extra="forbid")

    channel_id: UUID | None = None
    status: Literal["failed", "expired"] | None = None
    code: StrictInt | None = Field(
        None, ge=0, le=2**31 - 1, description="Meta's code of the failure."
    )
    created_from: Instant | None = None
    created_before: Instant | None = None
    limit: StrictInt = Field(MAX_BATCH, ge=1, le=MAX_BATCH, description="At most so many at once.")
    cursor: str | None = Field(None, max_length=64, description="Where the last call ended.")

    def to_filter(self) -> MessageFilter:
        """The filter that is asked for."""
        return MessageFilter(
            is_dead=True,
            channel_id=self.channel_id,
            status=None if self.status is None else MessageStatus(self.status),
            code=self.code,
            created_from=self.created_from,
            created_before=self.created_before,
        )


def read_key(text: str | None, field: str) -> IdempotencyKey | None:
    """The key that a caller brought; InvalidIdempotencyKey names `field`."""
    if text is None:
        return None
    try:
        return IdempotencyKey(text)
    except InvalidIdempotencyKey as error:
        detail = error.detail
    raise InvalidIdempotencyKey(detail, field=field)


def read_recipient(text: str | None, field: str) -> Recipient | None:
    """Somebody to look for; InvalidPhoneNumber names `field`."""
    if text is None:
        return None
    try:
        return parse_recipient(to=text)
    except InvalidPhoneNumber as error:
        detail = error.detail
    raise InvalidPhoneNumber(detail, field=field)
