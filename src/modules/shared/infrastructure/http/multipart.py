"""Forms with files (RFC 7578) read as they come: never more than a piece of a file in memory."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from shared.infrastructure.http.errors import BadRequest

MAX_PARTS: Final = 32
MAX_HEAD_BYTES: Final = 8 * 1024
"""Of the headers of one part."""
MAX_FIELD_BYTES: Final = 8 * 1024
MAX_BETWEEN_BYTES: Final = 1024
"""Of padding before the first part and behind a boundary."""

_BOUNDARY: Final = re.compile(
    r"""multipart/form-data\s*(?:;[^;]*)*?;\s*boundary=
        (?:"(?P<quoted>[^"\\]{1,70})"|(?P<bare>[^\s;"]{1,70}))\s*(?:;.*)?""",
    re.IGNORECASE | re.VERBOSE,
)
_PARAMETER: Final = re.compile(r';\s*([A-Za-z0-9*_-]{1,32})=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a Content-Type names; None for everything that is no form with files."""
    found = _BOUNDARY.fullmatch(content_type.strip())
    if found is None:
        return None
    return (found["quoted"] or found["bare"]).encode("latin-1", "replace")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: a field, or a file where it has a `filename`."""

    name: str
    filename: str | None
    content_type: str


class Form:
    """Reads a form part by part: `await next_part()`, then `content()` or `value()` of that part.

    What is left of a part is passed over when the next one is asked for. Raises BadRequest where
    the body is no such form, or ends before its last boundary.
    """

    def __init__(self, pieces: AsyncIterator[bytes], boundary: bytes) -> None:
        self._pieces = pieces
        self._delimiter = b"\r\n--" + boundary
        # The first boundary has no line before it that it could end.
        self._waiting = bytearray(b"\r\n")
        self._parts = 0
        self._is_inside = True
        self._has_ended = False

    async def next_part(self) -> Part | None:
        """The next part, or None behind the last one."""
        size = 0
        async for piece in self.content():
            size += len(piece) if not self._parts else 0
            if size > MAX_BETWEEN_BYTES:
                raise BadRequest("The form does not begin with its boundary")
        if self._has_ended or await self._is_last():
            self._has_ended = True
            return None
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadRequest(f"A form has at most {MAX_PARTS} parts")
        part = _part((await self._until(b"\r\n\r\n", MAX_HEAD_BYTES)).decode("utf-8", "replace"))
        self._is_inside = True
        return part

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of the part in pieces."""
        kept = len(self._delimiter) - 1
        while self._is_inside:
            at = self._waiting.find(self._delimiter)
            if at >= 0:
                self._is_inside = False
                piece = bytes(self._waiting[:at])
                del self._waiting[: at + len(self._delimiter)]
            else:
                piece = bytes(self._waiting[: max(len(self._waiting) - kept, 0)])
                del self._waiting[: len(piece)]
                await self._more()
            if piece:
                yield piece

    async def value(self) -> str:
        """The text of a field; a long one raises BadRequest."""
        value = b""
        async for piece in self.content():
            value += piece
            if len(value) > MAX_FIELD_BYTES:
                raise BadRequest(f"A field of a form has at most {MAX_FIELD_BYTES} bytes")
        return value.decode("utf-8", "replace")

    async def _is_last(self) -> bool:
        while len(self._waiting) < 2:  # noqa: PLR2004  # the two dashes behind the last boundary
            await self._more()
        if self._waiting.startswith(b"--"):
            return True
        padding = await self._until(b"\r\n", MAX_BETWEEN_BYTES)
        if padding.strip(b" \t"):
            raise BadRequest("Something stands behind a boundary of the form")
        return False

    async def _until(self, end: bytes, most: int) -> bytes:
        while (at := self._waiting.find(end)) < 0:
            if len(self._waiting) > most:
                raise BadRequest("The head of a part of the form is too long")
            await self._more()
        found = bytes(self._waiting[:at])
        del self._waiting[: at + len(end)]
        return found

    async def _more(self) -> None:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise BadRequest("The form ended early")
        self._waiting += piece


def _part(head: str) -> Part:
    headers = dict[str, str]()
    for line in head.split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("A part of the form has a line that is no header")
        headers[name.strip().lower()] = value.strip()
    kind, _, _ = headers.get("content-disposition", "").partition(";")
    given = _parameters(headers.get("content-disposition", ""))
    if kind.strip().lower() != "form-data" or "name" not in given:
        raise BadRequest("A part of the form has no name")
    return Part(given["name"], given.get("filename"), headers.get("content-type", ""))


def _parameters(disposition: str) -> dict[str, str]:
    """As clients write them: quotes escaped in either way, names raw or encoded."""
    found = dict[str, str]()
    for name, quoted, bare in _PARAMETER.findall(disposition):
        value = quoted.replace('\\"', '"').replace("%22", '"') if quoted else bare
        found.setdefault(name.lower(), value)
    charset, _, encoded = found.pop("filename*", "").partition("''")
    if encoded and charset.lower() == "utf-8":
        found["filename"] = unquote(encoded)
    return found
