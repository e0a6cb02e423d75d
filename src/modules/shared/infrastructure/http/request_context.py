"""The outermost layer of an app: an id for each request, its log line, its metrics, its 500."""

import re
import time
from collections.abc import Callable
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.infrastructure.http.problem import ERROR_FORM, REQUEST_ID, ErrorForm, problem_response
from shared.infrastructure.observability.metrics import HttpMetrics
from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_id

REQUEST_ID_HEADER: Final = "x-request-id"
_ACCEPTABLE: Final = re.compile(rb"[0-9A-Za-z-]{8,64}")
UNMATCHED: Final = "unmatched"

_log = structlog.stdlib.get_logger("tellwire.http")


class RequestContext:
    """Middleware around everything: nothing that is raised inside reaches the server.

    The id comes from the caller's `X-Request-ID` if that is harmless, and goes back in the same
    header, into every log line of the request and into problem documents. Log lines and metrics
    name the route as it was declared, never the path as it was called.
    """

    def __init__(
        self, app: ASGIApp, metrics: HttpMetrics, form_of: Callable[[str], ErrorForm | None]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._form_of = form_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = _request_id(scope)
        scope[ERROR_FORM] = self._form_of(scope["path"])
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, answer = time.perf_counter(), _Answer(send, request_id)
        try:
            await self._app(scope, receive, answer)
        except Exception:  # noqa: BLE001  # whatever it was, the caller gets a document and we get a log line
            _log.exception("request failed")
            if answer.status is None:
                await problem_response(TellwireError(), scope)(scope, receive, answer)
        finally:
            self._record(scope, answer.status, time.perf_counter() - started)
            structlog.contextvars.clear_contextvars()

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"]
        self._metrics.observe(method=method, route=route, status=status, seconds=seconds)
        _log.info(
            "request answered" if status else "client gone",
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
        )


class _Answer:
    """Sends on, remembers the status and adds the request's id."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [
                *message.get("headers", []),
                (REQUEST_ID_HEADER.encode(), self._request_id),
                (b"x-content-type-options", b"nosniff"),
            ]
            message = {**message, "headers": headers}
        await self._send(message)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER.encode() and _ACCEPTABLE.fullmatch(value):
            return bytes(value).decode()
    return str(new_id())
