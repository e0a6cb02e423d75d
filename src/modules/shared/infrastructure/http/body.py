"""Bodies come in whole, within a size and a time, before anything else happens with a request."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.infrastructure.http.errors import (
    BadRequest,
    BodyTooLarge,
    EncodingRefused,
    RequestTimedOut,
)
from shared.infrastructure.http.problem import problem_response
from shared.kernel.errors import TellwireError

UNDECLARED: Final = -1
UNREADABLE: Final = -2
_AS_IT_IS: Final = frozenset({b"", b"identity"})


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """How large a body may be, and how long all of it together may take to arrive.

    A streamed one is passed on piece by piece within the same bounds, for files. One that is
    signed counts as its bytes are, whatever its headers say.
    """

    max_bytes: int
    within: timedelta
    is_streamed: bool = False
    is_signed: bool = False


class _ClientGone(Exception):
    """The client hung up while it was sending."""


class BoundedBody:
    """Middleware that reads the body by the limit of its path; answers 413, 408 and 415 itself.

    A declared length is refused before a byte is read, an undeclared one as soon as it is passed;
    the connection is closed then, so that nobody goes on sending. So is a body of somebody whom
    `admit` refuses: one that is signed proves itself, for all others a caller has to be known
    before their megabytes are kept and read. Servers set no time for a
    request's arrival as a whole, and every byte renews their patience: this does set one.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit_of: Callable[[str], BodyLimit],
        admit: Callable[[Scope], Awaitable[None]],
    ) -> None:
        self._app = app
        self._limit_of = limit_of
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        try:
            _refuse_declared(scope, limit)
            if not limit.is_signed and _has_body(scope):
                await self._admit(scope)
            if limit.is_streamed:
                await self._app(scope, _bounded(receive, limit), send)
                return
            body = await _read(receive, limit)
        except _ClientGone:
            return
        except TellwireError as error:
            await problem_response(error, scope, Connection="close")(scope, receive, send)
            return
        await self._app(scope, replay(body, receive), send)


async def _read(receive: Receive, limit: BodyLimit) -> bytes:
    chunks, size = list[bytes](), 0
    try:
        async with asyncio.timeout(limit.within.total_seconds()):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientGone
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                if size > limit.max_bytes:
                    raise BodyTooLarge(f"At most {limit.max_bytes} bytes")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise RequestTimedOut from None


def _bounded(receive: Receive, limit: BodyLimit) -> Receive:
    """The same pieces; raises BodyTooLarge and RequestTimedOut into whoever reads them."""
    size, ends, is_whole = 0, time.monotonic() + limit.within.total_seconds(), False

    async def bounded() -> Message:
        nonlocal size, is_whole
        if is_whole:
            return await receive()  # What comes after a body may take its time.
        try:
            async with asyncio.timeout(ends - time.monotonic()):
                message = await receive()
        except TimeoutError:
            raise RequestTimedOut from None
        size += len(message.get("body", b""))
        if size > limit.max_bytes:
            raise BodyTooLarge(f"At most {limit.max_bytes} bytes")
        is_whole = not message.get("more_body", False)
        return message

    return bounded


def _refuse_declared(scope: Scope, limit: BodyLimit) -> None:
    if declared_length(scope) > limit.max_bytes:
        raise BodyTooLarge(f"At most {limit.max_bytes} bytes")
    if declared_length(scope) == UNREADABLE:
        raise BadRequest("Content-Length is a number")
    if not limit.is_signed and any(
        name == b"content-encoding" and value.strip().lower() not in _AS_IT_IS
        for name, value in scope["headers"]
    ):
        raise EncodingRefused(field="Content-Encoding")


def _has_body(scope: Scope) -> bool:
    return declared_length(scope) > 0 or any(
        name == b"transfer-encoding" for name, _ in scope["headers"]
    )


def declared_length(scope: Scope) -> int:
    """What the client says that it sends; UNDECLARED, or UNREADABLE where it is no number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value[:20]) if value.isdigit() else UNREADABLE
    return UNDECLARED


def replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, and then whatever comes after a body."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
