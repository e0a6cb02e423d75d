"""The HTTP client to Meta's Cloud API: one request, never repeated, and what became of it.

Whether a failed request may be repeated depends on one fact: did a byte of it leave this machine?
aiohttp's trace signals do not tell: `on_request_headers_sent` fires before the headers are written.
So the body itself takes note: aiohttp holds the headers back until the body comes and writes both
at once, which makes the body's turn the moment of departure.
"""

import asyncio
import errno
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, AbstractStreamWriter
from aiohttp.http import StreamWriter
from yarl import URL

from shared.kernel.errors import InvalidInput, Misconfigured, TellwireError, Unavailable
from whatsapp.application.ports import Leave, leave_at_once
from whatsapp.domain.outcome import Outcome, Refusal, Rejected, Unknown, Unreachable
from whatsapp.domain.phone_number_info import PhoneNumberInfo
from whatsapp.domain.value_objects import AccessToken
from whatsapp.infrastructure.cloud_api.fields import mapping, read_json, text
from whatsapp.infrastructure.cloud_api.outcomes import outcome_of_response, refusal_of_response
from whatsapp.infrastructure.cloud_api.payloads import read_payload

MAX_ANSWER_BYTES = 1024 * 1024  # Meta's are some hundred bytes

_VERSION = re.compile(r"v[1-9][0-9]?\.[0-9]")
_MAX_ID_CHARACTERS = 64
_INFO_FIELDS = (
    "display_phone_number,verified_name,quality_rating,code_verification_status,name_status,"
    "status,platform_type,throughput,account_mode,health_status,webhook_configuration"
)
_JSON = "application/json"


class MetaRefused(TellwireError):
    """Meta refused the call and will refuse it again; the detail is Meta's own, without numbers."""

    code = "meta_refused"
    status = 422
    title = "Meta refused the call"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(_in_words(refusal))
        self.refusal = refusal


class MetaBusy(Unavailable):
    """Meta did not take the call for now: a limit or trouble of its own."""

    code = "meta_busy"
    title = "Meta does not take the call for now; try again later"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(_in_words(refusal))
        self.refusal = refusal


class MetaUnreachable(Unavailable):
    """No answer from Meta: the network, or nothing that Meta would say."""

    code = "meta_unreachable"
    title = "Meta cannot be reached; try again later"


@dataclass(slots=True)
class Departure:
    """How a request leaves, and whether it has; for whoever cancels it has to know that.

    `leave` is awaited when all but the first byte is done, with what writes the request. Where it
    raises instead, nothing leaves, and `refusal` is what it raised. The time in which an answer has
    to come begins when the request is written.
    """

    leave: Leave = leave_at_once
    has_left: bool = False
    refusal: Exception | None = None
    answer_seconds: float | None = None
    limit: asyncio.Timeout | None = None

    def begin_waiting(self) -> None:
        """The request leaves: from now on the answer is waited for."""
        if self.limit is not None and self.answer_seconds is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + self.answer_seconds)


class _Body(aiohttp.BytesPayload):
    """A request's body that waits to be let go, and notes the moment in which it leaves.

    Whoever lets it go writes it by that, in the same step of the loop: a task that is woken up runs
    after all that is due already, which on a busy loop is later than a slot may be used.
    """

    def __init__(self, value: bytes, departure: Departure) -> None:
        super().__init__(value, content_type=_JSON)
        self._departure = departure

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002  # aiohttp's protocol; it is all that there is
    ) -> None:
        departure, is_called = self._departure, False

        def go() -> None:
            nonlocal is_called
            is_called = True
            if not isinstance(writer, StreamWriter):
                raise TypeError("aiohttp writes requests by other means than before")
            # A transport that is closing already is not written to: aiohttp raises before it.
            transport = writer.transport
            departure.has_left = transport is not None and not transport.is_closing()
            departure.begin_waiting()
            _run_to_its_end(writer.write(self._value, drain=False))

        try:
            await departure.leave(go)
        except Exception as refusal:
            if not is_called:
                departure.refusal = refusal
            raise


def _run_to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what has nothing to wait for, here and now."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("writing a request without draining has waited for something")


def create_http_session(
    *,
    total_timeout: timedelta = timedelta(seconds=30),
    connect_timeout: timedelta = timedelta(seconds=5),
    read_timeout: timedelta | None = None,
    keep_alive: timedelta = timedelta(seconds=20),
    dns_cache: timedelta = timedelta(minutes=5),
    max_connections: int = 2000,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """A session fit for `CloudApiClient`; to be called in a running loop and closed by the caller.

    `connect_timeout` covers the wait for a free connection too, `read_timeout` any silence of the
    other side while it answers. Connections that were idle longer
    than `keep_alive` are not used again: a message on a connection that the other side is just
    closing would be one that nobody knows about. No redirect, cookie or proxy of the environment.
    """
    connector = aiohttp.TCPConnector(
        limit=max_connections,
        keepalive_timeout=keep_alive.total_seconds(),
        ttl_dns_cache=int(dns_cache.total_seconds()),
        resolver=resolver,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(
            total=total_timeout.total_seconds(),
            connect=connect_timeout.total_seconds(),
            sock_read=None if read_timeout is None else read_timeout.total_seconds(),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "tellwire", "Accept": _JSON, "Accept-Encoding": "identity"},
        trust_env=False,
    )


class CloudApiClient:
    """Speaks to Meta with the token it is given per call; holds no state of any channel.

    Tokens go into the Authorization header and nowhere else; no body, token or number is logged.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        version: str,
    ) -> None:
        self._http = http
        self._root = graph_root(base_url, version)
        # Connecting has a limit of its own, and whoever lets a request leave waits as they please.
        self._untimed = aiohttp.ClientTimeout(
            total=None, connect=http.timeout.connect, sock_read=http.timeout.sock_read
        )
        self._messages_url = lru_cache(maxsize=4096)(self._build_messages_url)

    async def send(
        self,
        *,
        phone_number_id: str,
        token: AccessToken,
        payload: Mapping[str, Any],
        departure: Departure | None = None,
    ) -> Outcome:
        """Send one message, once; the network's troubles are outcomes, not errors.

        A cancellation passes through; `departure` then says whether the message may be out
        (`has_left`: `Unknown`) or cannot be (`Unreachable`). So does what `departure.leave` raises.
        """
        left = departure or Departure()
        left.answer_seconds = self._http.timeout.total
        body = _Body(orjson.dumps(payload), left)
        try:
            async with asyncio.timeout(None) as left.limit:
                status, answer, headers = await self._exchange(
                    "POST", self._messages_url(phone_number_id), token, body, self._untimed
                )
        except Exception as error:
            if left.refusal is not None:
                raise left.refusal from None
            if left.has_left:
                return Unknown(_reason(error))  # Whatever it was, the message may be out.
            if isinstance(error, aiohttp.ClientError | OSError):
                return Unreachable(_reason(error))
            raise
        return outcome_of_response(status, answer, headers)

    async def mark_as_read(
        self, *, phone_number_id: str, token: AccessToken, wamid: str, is_typing: bool = False
    ) -> None:
        """Show the customer that the message, and all before it, were read; may be repeated.

        Raises `MetaRefused` (an unknown wamid, for one), `MetaBusy`, `MetaUnreachable`.
        """
        body = _Body(orjson.dumps(read_payload(wamid, is_typing=is_typing)), Departure())
        await self._call("POST", self._messages_url(phone_number_id), token, body)

    async def get_phone_number(
        self, *, phone_number_id: str, token: AccessToken
    ) -> PhoneNumberInfo:
        """What Meta knows about the number; proves that the token may use it.

        Raises `MetaRefused`, `MetaBusy`, `MetaUnreachable`.
        """
        url = (self._root / checked_id(phone_number_id)).with_query(fields=_INFO_FIELDS)
        found = mapping(read_json(await self._call("GET", url, token)))
        if text(found.get("id")) != phone_number_id:
            raise MetaUnreachable("The answer is not about this number")
        return _info(phone_number_id, found)

    async def _call(
        self, method: str, url: URL, token: AccessToken, body: _Body | None = None
    ) -> bytes:
        """The answer to a call that may be repeated, or one of our errors."""
        try:
            status, answer, headers = await self._exchange(method, url, token, body)
        except (aiohttp.ClientError, OSError) as error:
            raise MetaUnreachable(f"No answer from Meta: {_reason(error)}") from None
        match refusal_of_response(status, answer, headers):
            case None:
                return answer
            case Rejected() as refusal:
                raise MetaRefused(refusal)
            case refusal:
                raise MetaBusy(refusal)

    async def _exchange(
        self,
        method: str,
        url: URL,
        token: AccessToken,
        body: _Body | None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109  # aiohttp's own
    ) -> tuple[int, bytes, Mapping[str, str]]:
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        async with self._http.request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=timeout or self._http.timeout,
        ) as response:
            return response.status, await read_answer(response), response.headers

    def _build_messages_url(self, phone_number_id: str) -> URL:
        return self._root / checked_id(phone_number_id) / "messages"


def graph_root(base_url: str, version: str) -> URL:
    """The address that every call begins with; raises Misconfigured."""
    if _VERSION.fullmatch(version) is None:
        raise Misconfigured("The Graph API version looks like v26.0")
    base = URL(base_url)
    if base.scheme not in {"http", "https"} or not base.host or base.query or base.user:
        raise Misconfigured("The base URL of the Graph API looks like https://host")
    return base / version


def checked_id(phone_number_id: str) -> str:
    """The id, which becomes part of a path; raises for anything but digits."""
    is_number = phone_number_id.isascii() and phone_number_id.isdigit()
    if not is_number or len(phone_number_id) > _MAX_ID_CHARACTERS:
        raise InvalidInput("Meta's phone number id is made of digits", field="phone_number_id")
    return phone_number_id


async def read_answer(response: aiohttp.ClientResponse) -> bytes:
    """The whole answer; nothing of one that is too large to be Meta's."""
    answer = b""
    while not response.content.at_eof():
        answer += await response.content.readany()
        if len(answer) > MAX_ANSWER_BYTES:
            return b""
    return answer


def _reason(error: BaseException) -> str:
    """The kind of a network error; its text could name addresses and is left out."""
    number = getattr(error, "errno", None)
    name = errno.errorcode.get(number) if isinstance(number, int) else None
    return f"{type(error).__name__} {name}" if name else type(error).__name__


def _in_words(refusal: Refusal) -> str:
    return " - ".join(filter(None, (refusal.title, refusal.details)))


def _info(phone_number_id: str, found: Mapping[str, Any]) -> PhoneNumberInfo:
    webhooks = mapping(found.get("webhook_configuration"))
    return PhoneNumberInfo(
        phone_number_id=phone_number_id,
        display_phone_number=text(found.get("display_phone_number")),
        verified_name=text(found.get("verified_name")),
        quality_rating=text(found.get("quality_rating")),
        code_verification_status=text(found.get("code_verification_status")),
        name_status=text(found.get("name_status")),
        status=text(found.get("status")),
        platform_type=text(found.get("platform_type")),
        throughput_level=text(mapping(found.get("throughput")).get("level")),
        account_mode=text(found.get("account_mode")),
        can_send_message=text(mapping(found.get("health_status")).get("can_send_message")),
        # The narrowest override wins (Meta, Cloud API, webhook overrides).
        webhook_url=text(webhooks.get("phone_number"))
        or text(webhooks.get("whatsapp_business_account"))
        or text(webhooks.get("application")),
    )
