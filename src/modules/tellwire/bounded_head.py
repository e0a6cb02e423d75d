"""Connections whose request does not begin to arrive, or never ceases to, are closed.

Bodies have their own bounds in the app. What comes before a body does not reach it, and the server
by itself waits for a head without end, in time and in size, with all that a request needs.
"""

import asyncio
from typing import Any, ClassVar, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_WITHIN_SECONDS: Final = 10.0
"""From the connection, or from the first byte of a later request, to the end of its head."""
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADS_BYTES: Final = 32 * 1024 * 1024
"""Of all heads together that have begun and not ended."""

_END: Final = b"\r\n\r\n"
_REFUSAL: Final = "HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LATE: Final = "408 Request Timeout"
_TOO_LARGE: Final = "431 Request Header Fields Too Large"


class BoundedHead(asyncio.Protocol):
    """Stands at the door until the head of the first request is there: 408 and 431.

    uvicorn's own protocol takes over then. Until then a connection costs almost nothing.
    """

    __slots__ = ("_given", "_head", "_timer", "_transport")
    _held: ClassVar[int] = 0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._given = (config, server_state, app_state)
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        self._transport: Any = transport
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HEAD_WITHIN_SECONDS, self._refuse, _TOO_LATE)
        self._given[1].connections.add(self)  # type: ignore[arg-type]  # closed with the others

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        del exc
        self._leave()

    def data_received(self, data: bytes) -> None:
        """Hand over as soon as the head has ended, and at once what can be none."""
        head = self._head + data
        if _END in head or not head[:1].isalpha():
            self._hand_over(head)
            return
        BoundedHead._held += len(data)
        self._head = head
        if len(head) > MAX_HEAD_BYTES or BoundedHead._held > MAX_HEADS_BYTES:
            self._refuse(_TOO_LARGE)

    def shutdown(self) -> None:
        """The server stops."""
        self._transport.close()

    def _hand_over(self, head: bytes) -> None:
        self._leave()
        config, server_state, app_state = self._given
        protocol = _BoundedHeads(config, server_state, app_state)
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        protocol.data_received(head)

    def _leave(self) -> None:
        self._timer.cancel()
        BoundedHead._held -= len(self._head)
        self._head = b""
        self._given[1].connections.discard(self)

    def _refuse(self, status: str) -> None:
        self._transport.write(_REFUSAL.format(status).encode())
        self._transport.close()


class _BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, with the same bounds for the heads of later requests."""

    _waiting: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0
    _coming = 0
    _is_too_large = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._coming = len(data)
        super().data_received(data)
        if (
            self._in_head and not self._is_too_large
        ):  # Nearly every head comes in one piece, and needs no timer.
            if self._waiting is None:
                self._waiting = self.loop.call_later(HEAD_WITHIN_SECONDS, self._refuse, _TOO_LATE)
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        # Heads that come whole are measured only where so much came at all.
        if self._head_bytes + self._coming > MAX_HEAD_BYTES and self._size() > MAX_HEAD_BYTES:
            self._is_too_large = True
            raise ValueError("too large")  # What the parser is told to go no further by.
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if self._is_too_large:
            self._refuse(_TOO_LARGE)
        else:
            super().send_400_response(msg)

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, status: str) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            # One that waits behind a request which is being answered gets no answer in between.
            cycle: Any = self.cycle
            if cycle is None or cycle.response_complete:
                self.transport.write(_REFUSAL.format(status).encode())
            self.transport.close()
