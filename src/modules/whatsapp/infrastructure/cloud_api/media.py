"""Files at Meta: asked for by id, downloaded from the address Meta gives, uploaded for a number.

Source: Meta, Cloud API reference, media. A download goes to another host than the Graph API's, with
the same token; only an address that the API itself has just given is ever called.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import aiohttp
from yarl import URL

from whatsapp.application.media_ports import MediaInfo, MediaUrlExpired
from whatsapp.domain.entities import Channel
from whatsapp.domain.media import Media, MediaFailure, MediaTrouble, digest_of, is_media_id
from whatsapp.domain.media_type import essence
from whatsapp.domain.outcome import RejectAction, Rejected
from whatsapp.infrastructure.cloud_api.client import (
    checked_id,
    create_http_session,
    graph_root,
    read_answer,
)
from whatsapp.infrastructure.cloud_api.fields import (
    identifier,
    integer,
    mapping,
    read_json,
    text,
)
from whatsapp.infrastructure.cloud_api.file_addresses import (
    PublicNames,
    is_name,
    is_public_address,
)
from whatsapp.infrastructure.cloud_api.outcomes import refusal_of_response

CHUNK_BYTES: Final = 256 * 1024
_OK, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _GONE = 200, 401, 403, 404, 410
_UNKNOWN_OBJECT: Final = 100

logger = logging.getLogger(__name__)


def create_media_session(
    base_url: str, *, within: timedelta, max_connections: int = 100
) -> aiohttp.ClientSession:
    """A session fit for `CloudApiMedia`: what is not the Graph API itself must be public.

    A file has `within` for everything, and may be silent for half a minute.
    """
    return create_http_session(
        total_timeout=within,
        read_timeout=timedelta(seconds=30),
        max_connections=max_connections,
        resolver=PublicNames(URL(base_url).raw_host or ""),
    )


class CloudApiMedia:
    """The port `MediaSource`: speaks for each channel with the channel's own token."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        version: str,
    ) -> None:
        self._http = http
        self._root = graph_root(base_url, version)

    async def describe(self, channel: Channel, provider_media_id: str) -> MediaInfo:
        """Ask Meta about a file by its id; raises MediaTrouble."""
        if not is_media_id(provider_media_id):
            raise MediaTrouble(MediaFailure.GONE)
        url = (self._root / provider_media_id).with_query(phone_number_id=channel.phone_number_id)
        found = await self._ask("GET", url, channel)
        address = text(found.get("url"))
        if address is None:
            raise MediaTrouble(MediaFailure.UNREACHABLE)
        return MediaInfo(
            url=address,
            mime_type=text(found.get("mime_type")) or "",
            size=integer(found.get("file_size")),
            sha256=digest_of(found.get("sha256")),
        )

    @asynccontextmanager
    async def downloading(
        self, channel: Channel, info: MediaInfo
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The bytes at the address that Meta gave; raises MediaUrlExpired and MediaTrouble."""
        try:
            async with self._http.get(
                self._checked(info.url),
                headers={**_authorisation(channel), "Accept": "*/*"},
                allow_redirects=False,
            ) as response:
                _ensure_file(response, info)
                yield response.content.iter_chunked(CHUNK_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            logger.info("a download of media was cut off: %s", type(error).__name__)
            raise MediaTrouble(MediaFailure.UNREACHABLE) from None

    async def upload(self, channel: Channel, media: Media, content: AsyncIterator[bytes]) -> str:
        """Upload a whole file for this channel's number; gives Meta's id of it."""
        mime_type = media.mime_type or ""
        form = aiohttp.MultipartWriter("form-data")
        for name, value in (("messaging_product", "whatsapp"), ("type", mime_type)):
            form.append(value).set_content_disposition("form-data", name=name)
        part = _Stream(content, size=media.size or 0, content_type=mime_type)
        # Meta wants a name; the one that people see goes along with the message.
        part.set_content_disposition("form-data", name="file", filename=f"{media.id}")
        form.append_payload(part)
        url = self._root / checked_id(channel.phone_number_id) / "media"
        found = identifier((await self._ask("POST", url, channel, form)).get("id"))
        if found is None:
            raise MediaTrouble(MediaFailure.UNREACHABLE)
        return found

    async def _ask(
        self, method: str, url: URL, channel: Channel, form: aiohttp.MultipartWriter | None = None
    ) -> dict[str, Any]:
        try:
            async with self._http.request(
                method, url, data=form, headers=_authorisation(channel), allow_redirects=False
            ) as response:
                status, headers = response.status, response.headers
                answer = await read_answer(response)
        except (aiohttp.ClientError, OSError) as error:
            logger.info("no answer about media from Meta: %s", type(error).__name__)
            raise MediaTrouble(MediaFailure.UNREACHABLE) from None
        refusal = refusal_of_response(status, answer, headers)
        if refusal is None:
            return mapping(read_json(answer))
        logger.info("Meta refused a call about media: code %s", refusal.code)
        raise MediaTrouble(_failure_of(refusal, asked=method == "GET"))

    def _checked(self, address: str) -> URL:
        """The address, if a token may go there: as safe as the Graph API's own, and a public one.

        What a name leads to is judged by the session (`PublicNames`), when it is looked up. Where
        the API itself is a machine in the neighbourhood (a simulator, a proxy), files may be.
        """
        try:
            url = URL(address)
        except ValueError:
            raise MediaTrouble(MediaFailure.UNREACHABLE) from None
        as_safe = url.scheme in {"https", self._root.scheme}
        ours = url.host == self._root.host
        if (
            not as_safe
            or not url.host
            or url.user
            or not (ours or is_name(url.host) or is_public_address(url.host))
        ):
            raise MediaTrouble(MediaFailure.REFUSED)
        return url


class _Stream(aiohttp.AsyncIterablePayload):
    """A part whose length is known beforehand: Meta is told it, as a browser would."""

    def __init__(self, content: AsyncIterator[bytes], *, size: int, content_type: str) -> None:
        super().__init__(content, content_type=content_type)
        self._size = size


def _ensure_file(response: aiohttp.ClientResponse, info: MediaInfo) -> None:
    """Raise unless this answer brings a file and not a page about one."""
    if response.status in {_NOT_FOUND, _GONE}:
        raise MediaUrlExpired
    if response.status in {_UNAUTHORISED, _FORBIDDEN}:
        raise MediaTrouble(MediaFailure.TOKEN_REFUSED)
    if response.status != _OK:
        raise MediaTrouble(MediaFailure.UNREACHABLE)
    if response.content_type == "text/html" and essence(info.mime_type) != "text/html":
        raise MediaTrouble(MediaFailure.WRONG_TYPE)


def _failure_of(refusal: Any, *, asked: bool) -> MediaFailure:
    if not isinstance(refusal, Rejected):
        return MediaFailure.UNREACHABLE
    if refusal.code == _UNKNOWN_OBJECT and asked:
        return MediaFailure.GONE
    if refusal.action is RejectAction.PAUSE_CHANNEL:
        return MediaFailure.TOKEN_REFUSED
    return MediaFailure.REFUSED


def _authorisation(channel: Channel) -> dict[str, str]:
    return {"Authorization": f"Bearer {channel.access_token.reveal()}"}
