"""The short way of a webhook through the API: nearly all requests of a busy installation are these.

Routing, dependencies and a log line for each cost several times what checking a signature and
writing a body down do. What is in order is answered here; everything else goes the long way.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.infrastructure.http.body import BodyLimit, declared_length, replay
from shared.infrastructure.http.deadlines import Deadlines
from shared.infrastructure.http.request_context import REQUEST_ID_HEADER
from shared.infrastructure.observability import HttpMetrics
from shared.kernel.ids import new_id_texts
from whatsapp.entrypoints.http.services import HttpServices
from whatsapp.entrypoints.http.webhooks import PREFIX, REFUSAL, signatures_in

IDS_AT_ONCE: Final = 64
"""One by one, their ids would cost as much as checking the signatures of webhooks."""
_START: Final = f"{PREFIX}/"
_ROUTE: Final = f"{PREFIX}/{{app_id}}"
_OK: Final[Message] = {"type": "http.response.body", "body": b""}
_LENGTH: Final = (b"content-length", b"0")
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()


class WebhookIntake:
    """Stands in front of the whole app: stores a webhook and answers 200, or passes it on.

    Passed on are bodies whose length is not declared or too large, what is refused or fails (with
    the reason, so that nothing is done twice), and every other request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        services: Callable[[], HttpServices],
        limit_of: Callable[[str], BodyLimit],
        metrics: HttpMetrics,
    ) -> None:
        self._app = app
        self._services = services
        self._limit_of = limit_of
        self._deadlines = Deadlines()
        self._starts = _starts()
        self._observe = metrics.observer(method="POST", route=_ROUTE, status=200)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not (
            scope["type"] == "http"
            and scope["path"].startswith(_START)
            and scope["method"] == "POST"
            and 0 <= declared_length(scope) <= (limit := self._limit_of(scope["path"])).max_bytes
        ):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        try:
            with self._deadlines.within(limit.within.total_seconds()):
                body = await _read(receive)
        except TimeoutError:
            await self._app(scope, _too_slow, send)
            return
        if body is None:
            return
        services, app_id = self._services(), scope["path"][len(_START) :]
        try:
            await services.receive_webhook(app_id, body, signatures_in(scope))
        except Exception as error:  # noqa: BLE001  # raised again where errors become answers
            scope[REFUSAL] = error
            await self._app(scope, replay(body, receive), send)
            return
        services.metrics.webhook_stored(len(body))
        self._observe(time.perf_counter() - began)
        await send(next(self._starts))
        await send(_OK)


async def _read(receive: Receive) -> bytes | None:
    """The body, which the server holds to its declared length; None if the client has gone."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _too_slow() -> Message:
    raise TimeoutError


def _starts() -> Iterator[Message]:
    """The beginnings of answers, each with an id of its own."""
    while True:
        for request_id in new_id_texts(IDS_AT_ONCE):
            headers = [_LENGTH, (_REQUEST_ID, request_id.encode()), _NOSNIFF]
            yield {"type": "http.response.start", "status": 200, "headers": headers}
