"""What an outbound message says: Meta's own object for its type, checked and kept as given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self, TypedDict, TypeVar, Unpack, cast
from uuid import UUID

from whatsapp.domain.value_objects.message_content.frozen_json import (
    Fault,
    InvalidContent,
    Json,
    canonical,
    freeze,
    kind_of,
    thaw,
)
from whatsapp.domain.value_objects.message_content.interactive import INTERACTIVE
from whatsapp.domain.value_objects.message_content.rules import Rule
from whatsapp.domain.value_objects.message_content.simple_types import (
    AUDIO,
    CONTACTS,
    DOCUMENT,
    IMAGE,
    LOCATION,
    MESSAGE_ID,
    PIN,
    REACTION,
    STICKER,
    TEXT,
    VIDEO,
)
from whatsapp.domain.value_objects.message_content.template import TEMPLATE
from whatsapp.domain.value_objects.message_content.uploads import (
    UploadReference,
    uploads_in,
    with_uploads,
)

MAX_CONTENT_BYTES = 256 * 1024  # Tellwire's own, so that unknown keys cannot carry a film
_QUOTED_AT = "context.message_id"
_ChoiceT = TypeVar("_ChoiceT", bound=StrEnum)


class MessageType(StrEnum):
    """The types of message that can be sent; the values are Meta's."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "location"
    CONTACTS = "contacts"
    INTERACTIVE = "interactive"
    TEMPLATE = "template"
    REACTION = "reaction"
    PIN = "pin"


class RecipientType(StrEnum):
    """Whether a message goes to one person or to a group."""

    INDIVIDUAL = "individual"
    GROUP = "group"


class MediaSource(TypedDict, total=False):
    """Where a file comes from, exactly one of: a link that Meta fetches, the id of an upload.

    The id is Meta's, or ours of a file that was uploaded to Tellwire.
    """

    link: str
    id: str


_RULES: Mapping[MessageType, Rule] = MappingProxyType(
    {
        MessageType.TEXT: TEXT,
        MessageType.IMAGE: IMAGE,
        MessageType.AUDIO: AUDIO,
        MessageType.VIDEO: VIDEO,
        MessageType.DOCUMENT: DOCUMENT,
        MessageType.STICKER: STICKER,
        MessageType.LOCATION: LOCATION,
        MessageType.CONTACTS: CONTACTS,
        MessageType.INTERACTIVE: INTERACTIVE,
        MessageType.TEMPLATE: TEMPLATE,
        MessageType.REACTION: REACTION,
        MessageType.PIN: PIN,
    }
)


_WITH_FILES = frozenset(
    {
        MessageType.IMAGE,
        MessageType.AUDIO,
        MessageType.VIDEO,
        MessageType.DOCUMENT,
        MessageType.STICKER,
        MessageType.TEMPLATE,
        MessageType.INTERACTIVE,
    }
)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MessageContent:
    """The content of an outbound message; immutable, equal by value, shows its type only.

    `parse`, `from_payload` and the constructors named like the types check every limit of Meta's
    that is known. The plain constructor only copies and freezes: it is for content that passed
    before and is read back, which must stay readable when a limit changes.
    """

    type: MessageType
    body: Any
    context_message_id: str | None = None
    recipient_type: RecipientType = RecipientType.INDIVIDUAL
    _body_json: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", MessageType(self.type))
        object.__setattr__(self, "body", freeze(self.body, self.type))
        object.__setattr__(self, "recipient_type", RecipientType(self.recipient_type))

    @classmethod
    def parse(
        cls,
        kind: object,
        body: object,
        *,
        context_message_id: object = None,
        recipient_type: object = RecipientType.INDIVIDUAL,
    ) -> Self:
        """The content of type `kind`, if Meta would take it; otherwise only ever `InvalidContent`.

        `body` is Meta's object (an array for contacts) under the type's name. Unknown keys in it
        are kept. `context_message_id` is the wamid of the message that this one quotes.
        """
        message_type = _choose(MessageType, kind, "type")
        content = cls(
            message_type,
            body,
            _quoted(context_message_id, message_type),
            _choose(RecipientType, recipient_type, "recipient_type"),
        )
        _RULES[message_type](content.body, message_type)
        content._check_whole()
        return content

    @classmethod
    def from_payload(cls, payload: object) -> Self:
        """The content of a whole request in Meta's form; whom it goes to is not looked at.

        `type` may be left out of a text message, as Meta allows. Raises `InvalidContent` only.
        """
        if not isinstance(payload, Mapping):
            raise InvalidContent(f"an object is needed, found {kind_of(payload)}")
        fields = cast("Mapping[object, object]", payload)
        message_type = _choose(MessageType, _given(fields, "type", MessageType.TEXT), "type")
        body = fields.get(message_type.value)
        if body is None:
            raise InvalidContent("is required", field=message_type, fault=Fault.MISSING)
        return cls.parse(
            message_type,
            body,
            context_message_id=_message_id_of(fields.get("context")),
            recipient_type=_given(fields, "recipient_type", RecipientType.INDIVIDUAL),
        )

    @classmethod
    def text(cls, body: str, *, preview_url: bool = False) -> Self:
        """A text of at most 4096 characters."""
        return cls.parse(MessageType.TEXT, {"body": body, "preview_url": preview_url})

    @classmethod
    def template(
        cls, name: str, language: str, components: Sequence[Mapping[str, object]] = ()
    ) -> Self:
        """An approved template with its parameters; the only type that needs no open window."""
        body: dict[str, object] = {"name": name, "language": {"code": language}}
        if components:
            body["components"] = list(components)
        return cls.parse(MessageType.TEMPLATE, body)

    @classmethod
    def image(cls, *, caption: str | None = None, **source: Unpack[MediaSource]) -> Self:
        """A picture."""
        return cls._media(MessageType.IMAGE, source, caption=caption)

    @classmethod
    def video(cls, *, caption: str | None = None, **source: Unpack[MediaSource]) -> Self:
        """A film."""
        return cls._media(MessageType.VIDEO, source, caption=caption)

    @classmethod
    def document(
        cls,
        *,
        caption: str | None = None,
        filename: str | None = None,
        **source: Unpack[MediaSource],
    ) -> Self:
        """A file, with the name that people see."""
        return cls._media(MessageType.DOCUMENT, source, caption=caption, filename=filename)

    @classmethod
    def audio(cls, *, voice: bool | None = None, **source: Unpack[MediaSource]) -> Self:
        """A sound; `voice` makes it a voice note, which must be OGG with Opus."""
        return cls._media(MessageType.AUDIO, source, voice=voice)

    @classmethod
    def sticker(cls, **source: Unpack[MediaSource]) -> Self:
        """A sticker in WebP."""
        return cls._media(MessageType.STICKER, source)

    @classmethod
    def location(
        cls, latitude: float, longitude: float, *, name: str = "", address: str = ""
    ) -> Self:
        """A place on the map, in degrees."""
        named = {key: value for key, value in (("name", name), ("address", address)) if value}
        return cls.parse(
            MessageType.LOCATION, {"latitude": latitude, "longitude": longitude, **named}
        )

    @classmethod
    def contacts(cls, contacts: Sequence[Mapping[str, object]]) -> Self:
        """Address cards, in Meta's form."""
        return cls.parse(MessageType.CONTACTS, list(contacts))

    @classmethod
    def interactive(cls, body: Mapping[str, object]) -> Self:
        """Buttons, lists, flows, products and the like, in Meta's form."""
        return cls.parse(MessageType.INTERACTIVE, body)

    @classmethod
    def reaction(cls, message_id: str, emoji: str) -> Self:
        """An emoji on a message of the last 30 days; an empty one takes it back."""
        return cls.parse(MessageType.REACTION, {"message_id": message_id, "emoji": emoji})

    def replying_to(self, message_id: str) -> Self:
        """The same content as a quoted reply to the message with this wamid."""
        return self.parse(
            self.type,
            self.body,
            context_message_id=message_id,
            recipient_type=self.recipient_type,
        )

    @property
    def refers_to(self) -> str | None:
        """The id of the message that this one quotes or reacts to, as it was given."""
        if self.type is MessageType.REACTION:
            return str(self.body["message_id"])
        return self.context_message_id

    def referring_to(self, message_id: str) -> Self:
        """The same content about the message with this id instead; for one that refers to any."""
        if self.type is MessageType.REACTION:
            body = {**self.body, "message_id": message_id}
            return type(self)(self.type, body, None, self.recipient_type)
        return type(self)(self.type, self.body, message_id, self.recipient_type)

    @property
    def uploads(self) -> tuple[UploadReference, ...]:
        """The files in it that the tenant uploaded to Tellwire."""
        if self.type not in _WITH_FILES:
            return ()
        return tuple(uploads_in({self.type.value: self.body}))

    def with_uploads(self, known: Mapping[UUID, str]) -> Self:
        """The same content with Meta's ids of those files."""
        whole = with_uploads({self.type.value: self.body}, known)
        body = cast("Mapping[str, Json]", whole)[self.type.value]
        return type(self)(self.type, body, self.context_message_id, self.recipient_type)

    @property
    def requires_open_window(self) -> bool:
        """Whether Meta takes it only within 24 hours of the person's last message (code 131047)."""
        return self.type is not MessageType.TEMPLATE

    def ensure_to_a_person(self) -> None:
        """Raise InvalidContent for a group's message: who it goes to would be lost on the way."""
        if self.recipient_type is not RecipientType.INDIVIDUAL:
            raise InvalidContent("messages to groups are not taken", field="recipient_type")

    def to_dict(self) -> dict[str, Any]:
        """The message in Meta's form, as new dicts and lists; without recipient and product."""
        return cast("dict[str, Any]", thaw(self._frozen()))

    def canonical_json(self) -> str:
        """`to_dict()` in its one spelling, for hashing: equal contents give equal texts."""
        parts = {"type": f'"{self.type.value}"', self.type.value: self.body_json()}
        if self.context_message_id is not None:
            parts["context"] = canonical({"message_id": self.context_message_id})
        if self.recipient_type is not RecipientType.INDIVIDUAL:
            parts["recipient_type"] = f'"{self.recipient_type.value}"'
        return "{" + ",".join(f'"{name}":{parts[name]}' for name in sorted(parts)) + "}"

    def body_json(self) -> str:
        """The object (or array) under the type's name in its one spelling; spelt once."""
        if self._body_json is None:
            object.__setattr__(self, "_body_json", canonical(self.body))
        return cast("str", self._body_json)

    def _frozen(self) -> dict[str, Json]:
        payload: dict[str, Json] = {"type": self.type.value, self.type.value: self.body}
        if self.context_message_id is not None:
            payload["context"] = {"message_id": self.context_message_id}
        if self.recipient_type is not RecipientType.INDIVIDUAL:
            payload["recipient_type"] = self.recipient_type.value
        return payload

    @classmethod
    def _media(cls, kind: MessageType, source: MediaSource, **more: object) -> Self:
        fields: dict[str, object] = {**source, **more}
        return cls.parse(kind, {key: value for key, value in fields.items() if value is not None})

    def _check_whole(self) -> None:
        if self.type is MessageType.PIN and self.recipient_type is not RecipientType.GROUP:
            raise InvalidContent("only a group has pins", field="recipient_type")
        size = len(self.canonical_json().encode())
        if size > MAX_CONTENT_BYTES:
            raise InvalidContent(f"{size} bytes, at most {MAX_CONTENT_BYTES}", field=self.type)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MessageContent):
            return NotImplemented
        return self.canonical_json() == other.canonical_json()

    def __hash__(self) -> int:
        return hash(self.canonical_json())

    def __repr__(self) -> str:
        return f"MessageContent(type={self.type.value!r})"


def _choose(choices: type[_ChoiceT], value: object, at: str) -> _ChoiceT:
    for choice in choices:
        if choice.value == value:
            return choice
    raise InvalidContent(f"must be one of {', '.join(choices)}", field=at)


def _given(fields: Mapping[object, object], key: str, default: object) -> object:
    value = fields.get(key)
    return default if value is None else value


def _message_id_of(context: object) -> object:
    """The wamid in Meta's `context`, if there is a context at all."""
    if context is None:
        return None
    if not isinstance(context, Mapping):
        raise InvalidContent(f"an object is needed, found {kind_of(context)}", field="context")
    message_id = cast("Mapping[object, object]", context).get("message_id")
    if message_id is None:
        raise InvalidContent("is required", field=_QUOTED_AT, fault=Fault.MISSING)
    return message_id


def _quoted(message_id: object, message_type: MessageType) -> str | None:
    if message_id is None:
        return None
    if message_type is MessageType.REACTION:
        raise InvalidContent("a reaction cannot quote; it names its message", field=_QUOTED_AT)
    frozen = freeze(message_id, _QUOTED_AT)
    MESSAGE_ID(frozen, _QUOTED_AT)
    return str(frozen)
