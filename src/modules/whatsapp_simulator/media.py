"""Media: uploaded or arrived, kept in memory, fetched by URLs that live five minutes."""

import hashlib
import secrets
from collections import deque

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


class Media:
    """One file and the number it is bound to."""

    __slots__ = ("content", "media_id", "mime_type", "phone_number_id", "sha256")

    def __init__(
        self, media_id: str, *, phone_number_id: str, mime_type: str, content: bytes
    ) -> None:
        self.media_id = media_id
        self.phone_number_id = phone_number_id
        self.mime_type = mime_type
        self.content = content
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

    def link(self, media: Media) -> str:
        """A new key under which the file can be fetched for five minutes."""
        now_ns = self._clock.monotonic_ns()
        for key in [k for k, (_, ends) in self._links.items() if ends <= now_ns]:
            del self._links[key]
        key = secrets.token_urlsafe(16)
        self._links[key] = (media.media_id, now_ns + URL_LIFETIME_S * SECOND_NS)
        return key

    def follow(self, key: str) -> Media | None:
        """The file behind a key, or None if the key is unknown or has expired."""
        media_id, ends_ns = self._links.get(key, ("", 0))
        return self.find(media_id) if self._clock.monotonic_ns() < ends_ns else None
