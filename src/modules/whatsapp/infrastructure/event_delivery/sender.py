"""One signed request to an endpoint, and what it answered."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from shared.infrastructure.json_bytes import json_bytes
from whatsapp.domain.events import Answer, EndpointFormat, Event, WebhookEndpoint
from whatsapp.domain.events.body import meta_body, tellwire_body
from whatsapp.domain.events.delivery import MAX_EXCERPT_CHARACTERS
from whatsapp.domain.events.signature import hub_signature, signed_headers
from whatsapp.infrastructure.event_delivery.guarded_session import AddressNotAllowed

MAX_ANSWER_BYTES: Final = 2048
"""What is read of an answer; the connection is closed where there is more."""
USER_AGENT: Final = "Tellwire-Webhooks/1"


class HttpEventSender:
    """Posts events; redirects are not followed, and nothing raises for an endpoint's sake.

    An endpoint has `within` for everything together: connecting, reading the event, answering.
    """

    def __init__(self, session: aiohttp.ClientSession, *, within: timedelta) -> None:
        self._session = session
        self._timeout = aiohttp.ClientTimeout(
            total=within.total_seconds(), sock_connect=min(5.0, within.total_seconds())
        )

    async def send(self, endpoint: WebhookEndpoint, event: Event, *, at: datetime) -> Answer:
        """One request; what came of it."""
        body = _body(endpoint, event)
        began = time.monotonic()
        status, error, excerpt, retry_after = None, None, "", None
        try:
            async with self._session.post(
                endpoint.url,
                data=body,
                headers=_headers(endpoint, event, body, at),
                allow_redirects=False,
                timeout=self._timeout,
            ) as answer:
                status, told = answer.status, answer.headers.get("Retry-After")
                retry_after = _wait(told, at)
                excerpt = _shown(await answer.content.read(MAX_ANSWER_BYTES))
                if not answer.content.at_eof():
                    answer.close()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as cause:
            # An answer whose body broke off is an answer: its status came whole.
            error = None if status is not None else _named(cause)
        took = timedelta(seconds=time.monotonic() - began)
        return Answer(
            status=status, error=error, excerpt=excerpt, retry_after=retry_after, took=took
        )


def _body(endpoint: WebhookEndpoint, event: Event) -> bytes:
    is_meta = endpoint.format is EndpointFormat.META
    shown: dict[str, Any] = meta_body(event) if is_meta else tellwire_body(event)
    return json_bytes(shown)


def _headers(endpoint: WebhookEndpoint, event: Event, body: bytes, at: datetime) -> dict[str, str]:
    secrets = endpoint.secrets_at(at)
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    headers |= signed_headers(body, message_id=str(event.id), at=at, secrets=secrets)
    if endpoint.format is EndpointFormat.META:
        headers["X-Hub-Signature-256"] = hub_signature(body, secrets[0])
    return headers


def _shown(answer: bytes) -> str:
    return answer.decode(errors="replace")[:MAX_EXCERPT_CHARACTERS]


def _wait(header: str | None, at: datetime) -> timedelta | None:
    """Retry-After in either of its forms, seconds or a date; None where it is neither, or over."""
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return timedelta(seconds=int(header[:9]))
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    # A date is in GMT, also where it does not say so.
    wait = until.replace(tzinfo=until.tzinfo or UTC) - at
    return wait if wait > timedelta() else None


_NAMES: Final[Mapping[type[BaseException], str]] = {
    TimeoutError: "timed_out",
    aiohttp.ClientConnectorDNSError: "name_not_found",
    aiohttp.ClientSSLError: "tls_failed",
    aiohttp.InvalidURL: "invalid_url",
    aiohttp.ClientConnectorError: "connection_failed",
}


def _named(cause: BaseException) -> str:
    """A few words for the log of deliveries; never the exception's own, which may hold anything."""
    if _is_forbidden(cause):
        return "address_not_allowed"
    names = (name for kind, name in _NAMES.items() if isinstance(cause, kind))
    return next(names, "connection_lost")


def _is_forbidden(cause: BaseException) -> bool:
    """Aiohttp wraps what the making of a socket raised, several times where there were several."""
    if isinstance(cause, AddressNotAllowed):
        return True
    inner = getattr(cause, "os_error", None) or cause.__cause__
    if isinstance(inner, BaseExceptionGroup):
        return any(_is_forbidden(one) for one in inner.exceptions)
    return inner is not None and inner is not cause and _is_forbidden(inner)
