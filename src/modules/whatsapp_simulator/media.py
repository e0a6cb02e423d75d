"""Media: uploaded or arrived, kept in memory, fetched by URLs that live five minutes."""

import hashlib
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from whatsapp_simulator.clock import SECOND_NS, SimulatorClock
from whatsapp_simulator.identity import Names

URL_LIFETIME_S = 300
_CAPACITY_BYTES = 512 * 1024 * 1024
_MEGABYTE = 1024 * 1024

MAX_BYTES: dict[str, int] = {
    **dict.fromkeys(
        ("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"), 16 * _MEGABYTE
    ),
    **dict.fromkeys(("image/jpeg", "image/png"), 5 * _MEGABYTE),
    **dict.fromkeys(("video/mp4", "video/3gpp"), 16 * _MEGABYTE),
    "image/webp": 500 * 1024,
    **dict.fromkeys(
        (
            "text/plain",
            "application/pdf",
            "application/msword",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "application/vnd.ms-excel",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "application/vnd.ms-powerpoint",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ),
        100 * _MEGABYTE,
    ),
}
"""Accepted types and their limits; source: Meta, Cloud API media reference."""


@dataclass(slots=True, kw_only=True)
class MediaFaults:
    """What goes wrong with files; each number counts down with every file that it spoils."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    url_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long an address lives instead of five minutes."""
    expired: Annotated[int, Field(ge=0)] = 0
    """So many addresses have expired when they are followed."""
    missing: Annotated[int, Field(ge=0)] = 0
    """So many times a file is not known."""
    wrong_hash: Annotated[int, Field(ge=0)] = 0
    """So many downloads have another byte than what was hashed."""
    truncated: Annotated[int, Field(ge=0)] = 0
    """So many downloads end in the middle."""
    errors: Annotated[int, Field(ge=0)] = 0
    """So many downloads are answered with 503."""
    pages: Annotated[int, Field(ge=0)] = 0
    """So many downloads are a page of HTML."""
    endless: Annotated[int, Field(ge=0)] = 0
    """So many downloads go on beyond the size that was told, without a length."""
    bytes_per_second: Annotated[int, Field(ge=1)] | None = None
    """How fast files come at most."""
    upload_errors: Annotated[int, Field(ge=0)] = 0
    """So many uploads are answered with 131000."""

    def take(self, name: str) -> bool:
        """Whether this fault strikes now."""
        left: int = getattr(self, name)
        setattr(self, name, max(left - 1, 0))
        return left > 0


class InvalidMediaFaults(Exception):
    """The faults cannot be read; the text says where."""


def parse_media_faults(raw: Any) -> MediaFaults:
    """Read faults from JSON; raises `InvalidMediaFaults`."""
    try:
        return TypeAdapter(MediaFaults).validate_python(raw)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InvalidMediaFaults(where) from None


class Media:
    """One file and the number it is bound to."""

    __slots__ = ("content", "downloads", "media_id", "mime_type", "phone_number_id", "sha256")

    def __init__(
        self, media_id: str, *, phone_number_id: str, mime_type: str, content: bytes
    ) -> None:
        self.media_id = media_id
        self.phone_number_id = phone_number_id
        self.mime_type = mime_type
        self.content = content
        self.downloads = 0
        self.sha256 = hashlib.sha256(content).hexdigest()


class MediaStore:
    """Files by id; the oldest go when the memory set aside for them is full."""

    def __init__(self, names: Names, clock: SimulatorClock) -> None:
        self._names = names
        self._clock = clock
        self._files: dict[str, Media] = {}
        self._order: deque[str] = deque()
        self._bytes = 0
        self._links: dict[str, tuple[str, int]] = {}
        self.faults = MediaFaults()
        self.uploads = 0

    def add(self, content: bytes, *, mime_type: str, phone_number_id: str) -> Media:
        """Keep a file under a new id."""
        media = Media(
            self._names.digits(),
            phone_number_id=phone_number_id,
            mime_type=mime_type,
            content=content,
        )
        self._files[media.media_id] = media
        self._order.append(media.media_id)
        self._bytes += len(content)
        while self._bytes > _CAPACITY_BYTES and len(self._order) > 1:
            self.delete(self._order.popleft())
        return media

    def find(self, media_id: str) -> Media | None:
        """The file, or None if there is none."""
        return self._files.get(media_id)

    def delete(self, media_id: str) -> bool:
        """Forget a file; False if there is none."""
        media = self._files.pop(media_id, None)
        if media is not None:
            self._bytes -= len(media.content)
        return media is not None

    def forget(self) -> None:
        """Forget every file."""
        for media_id in list(self._files):
            self.delete(media_id)

    def link(self, media: Media) -> str:
        """A new key under which the file can be fetched for five minutes."""
        now_ns = self._clock.monotonic_ns()
        for key in [k for k, (_, ends) in self._links.items() if ends <= now_ns]:
            del self._links[key]
        key = secrets.token_urlsafe(16)
        seconds = self.faults.url_seconds
        lifetime_ns = int((URL_LIFETIME_S if seconds is None else seconds) * SECOND_NS)
        if self.faults.take("expired"):
            lifetime_ns = 0
        self._links[key] = (media.media_id, now_ns + lifetime_ns)
        return key

    def follow(self, key: str) -> Media | None:
        """The file behind a key, or None if the key is unknown or has expired."""
        media_id, ends_ns = self._links.get(key, ("", 0))
        return self.find(media_id) if self._clock.monotonic_ns() < ends_ns else None

    def report(self) -> dict[str, Any]:
        """How often files were uploaded, and each downloaded to its end."""
        return {
            "uploads": self.uploads,
            "downloads": {media.media_id: media.downloads for media in self._files.values()},
        }
