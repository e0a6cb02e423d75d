"""Routes of media: files that people sent, and files that a tenant wants to send."""

import mimetypes
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Final, Self
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from shared.infrastructure.http.errors import RangeNotSatisfiable
from whatsapp.domain.media import MAX_FILENAME_CHARACTERS, Media
from whatsapp.domain.media_repository import MediaFilter
from whatsapp.domain.media_type import essence
from whatsapp.entrypoints.http.caller import Reader, Sender
from whatsapp.entrypoints.http.cursor import read_cursor, write_cursor
from whatsapp.entrypoints.http.documentation import Responses, made, problems
from whatsapp.entrypoints.http.media_forms import FORM_SCHEMA, MediaForm, body_of, is_form
from whatsapp.entrypoints.http.requests import NO_NUL
from whatsapp.entrypoints.http.services import Services

PREFIX: Final = "/v1/media"
_RANGE: Final = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")
_TAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_ANY: Final = "application/octet-stream"
_BYTES: Final = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_TEXT: Final = {"schema": {"type": "string"}}
_OF_FILE: Final = dict.fromkeys(
    (
        *("Content-Disposition", "Accept-Ranges", "ETag", "Cache-Control"),
        "Content-Security-Policy",
    ),
    _TEXT,
)
_HEAD: Final[Responses] = {200: {"description": "The file is there", "headers": _OF_FILE}}
_FILE: Final[Responses] = {
    200: {"description": "The file", "content": _BYTES, "headers": _OF_FILE},
    206: {
        "description": "The part that was asked for",
        "content": _BYTES,
        "headers": {**_OF_FILE, "Content-Range": _TEXT},
    },
}
_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "The file itself, its type in Content-Type; or a form with it.",
        "content": {
            "*/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": FORM_SCHEMA,
        },
    }
}

router = APIRouter(prefix=PREFIX, tags=["Media"])
"""Declares routes and holds nothing else."""


class MediaResponse(BaseModel):
    """A file: `content` is under `/v1/media/{id}/content` once it is `stored`."""

    id: UUID
    direction: str
    type: str
    status: str
    mime_type: str | None
    filename: str | None
    size: int | None
    sha256: str | None
    channel_id: UUID | None
    message_id: UUID | None
    provider_media_id: str | None
    failure: str | None
    created_at: datetime

    @classmethod
    def of(cls, media: Media) -> Self:
        """As the API shows it."""
        return cls(
            id=media.id,
            direction=media.direction.value,
            type=media.kind.value,
            # That it is being removed is nobody's business but ours.
            status="removed" if media.status.value == "removing" else media.status.value,
            mime_type=media.mime_type,
            filename=media.filename,
            size=media.size,
            sha256=media.sha256.hex() if media.sha256 is not None else None,
            channel_id=media.channel_id,
            message_id=media.message_id,
            provider_media_id=media.provider_media_id,
            failure=media.failure,
            created_at=media.created_at,
        )


class MediaPageResponse(BaseModel):
    """Files, newest first; follow `next_cursor` until it is null."""

    data: list[MediaResponse]
    next_cursor: str | None


_KNOWN: Final[Responses] = {
    200: {"description": "The same file was there already", "model": MediaResponse}
}


@router.post(
    "", status_code=201, responses=_KNOWN | made("Taken in") | problems(415), openapi_extra=_BODY
)
async def upload_media(
    request: Request,
    response: Response,
    services: Services,
    caller: Sender,
    content_type: Annotated[str, Header(max_length=255)] = "",
    filename: Annotated[str | None, Query(max_length=MAX_FILENAME_CHARACTERS)] = None,
) -> MediaResponse:
    """Take in a file to send; the same file again is the same media (200)."""
    if is_form(content_type):
        form = await MediaForm.open(request, content_type)
        media, is_new = await services.store_media(
            caller.tenant_id,
            form.content,
            mime_type=form.mime_type,
            told_behind=form.told_behind,
            filename=filename or form.filename,
            user_id=caller.key_id,
        )
    else:
        media, is_new = await services.store_media(
            caller.tenant_id,
            body_of(request),
            mime_type=content_type,
            filename=filename,
            user_id=caller.key_id,
        )
    services.metrics.media_uploaded(media, is_new=is_new)
    response.status_code = 201 if is_new else 200
    if is_new:
        response.headers["Location"] = f"{PREFIX}/{media.id}"
    return MediaResponse.of(media)


@router.get("", responses=problems(422))
async def list_media(
    services: Services,
    caller: Reader,
    *,
    channel_id: UUID | None = None,
    message_id: Annotated[
        UUID | None, Query(description="The inbound message that brought the file.")
    ] = None,
    provider_media_id: Annotated[
        str | None,
        Query(
            max_length=512, pattern=NO_NUL, description="Meta's id, as inbound messages have it."
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> MediaPageResponse:
    """Files, newest first, by page."""
    wanted = MediaFilter(
        channel_id=channel_id, message_id=message_id, provider_media_id=provider_media_id
    )
    before = read_cursor(cursor)
    async with services.begin(caller.tenant_id, caller.key_id) as work:
        found = await work.media.list_media(wanted, limit=limit + 1, before=before)
    page = found[:limit]
    return MediaPageResponse(
        data=[MediaResponse.of(media) for media in page],
        next_cursor=write_cursor(page[-1].id if len(found) > limit else None),
    )


@router.get("/{media_id}", responses=problems(404))
async def get_media(media_id: UUID, services: Services, caller: Reader) -> MediaResponse:
    """What is known of one file."""
    found = await services.read_media.find(caller.tenant_id, media_id, user_id=caller.key_id)
    return MediaResponse.of(found)


@router.delete("/{media_id}", status_code=204, responses=problems(404, 409))
async def delete_media(media_id: UUID, services: Services, caller: Sender) -> None:
    """Delete the file; a message that still waits to send it fails."""
    await services.remove_media(caller.tenant_id, media_id, user_id=caller.key_id)


@router.get(
    "/{media_id}/content",
    response_class=StreamingResponse,
    responses=_FILE | problems(404, 409, 410, 416),
)
async def get_media_content(
    media_id: UUID,
    services: Services,
    caller: Reader,
    range_: Annotated[str | None, Header(alias="Range", max_length=100)] = None,
) -> StreamingResponse:
    """The file itself, or one range of it; 409 while it is being fetched, 410 once it is gone."""
    media = await services.read_media.find(caller.tenant_id, media_id, user_id=caller.key_id)
    size = media.size or 0
    start, length = _range(range_, size)
    pieces = services.read_media.content(media, start=start, length=length)
    # What can go wrong shows with the first piece, while there is still time to say so.
    first = await anext(pieces, b"")
    headers = _headers(media, size if length is None else length)
    if length is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return StreamingResponse(
        _joined(first, pieces),
        status_code=200 if length is None else 206,
        headers=headers,
        media_type=essence(media.mime_type) or _ANY,
    )


@router.head(
    "/{media_id}/content", response_class=Response, responses=_HEAD | problems(404, 409, 410)
)
async def head_media_content(media_id: UUID, services: Services, caller: Reader) -> Response:
    """Whether the file can be had, how long it is and of which type, without its bytes."""
    media = await services.read_media.find(caller.tenant_id, media_id, user_id=caller.key_id)
    async with aclosing(services.read_media.content(media, length=1)) as pieces:
        await anext(pieces, b"")
    return Response(
        headers=_headers(media, media.size or 0), media_type=essence(media.mime_type) or _ANY
    )


def _headers(media: Media, sent: int) -> dict[str, str]:
    return {
        "Content-Length": str(sent),
        "Content-Disposition": disposition(media),
        "Accept-Ranges": "bytes",
        "ETag": f'"{media.sha256.hex() if media.sha256 else media.id}"',
        "Cache-Control": "private, no-transform",
        # Should a browser show it after all, it may do nothing.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def disposition(media: Media) -> str:
    """A Content-Disposition that downloads, whatever the name of the file tries to be."""
    kind = essence(media.mime_type)
    name = media.filename or f"{media.id}{mimetypes.guess_extension(kind) or ''}"
    tame = _TAME.sub("_", name).strip("._") or "file"
    # The plain name last: there are clients that take all that follows it for a part of it.
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}; filename=\"{tame}\""


def _range(given: str | None, size: int) -> tuple[int, int | None]:
    """Where to begin and how much to send; a form of range that is not known counts as none."""
    found = _RANGE.fullmatch(given or "")
    if found is None:
        return 0, None
    start, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if start >= size:
        raise RangeNotSatisfiable(size)
    return (start, min(last, size - 1) - start + 1) if last >= start else (0, None)


async def _joined(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece
