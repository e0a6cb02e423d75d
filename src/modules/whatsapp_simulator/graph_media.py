"""Media calls: upload, metadata with a short-lived URL, download, delete."""

import asyncio
from typing import Any

from aiohttp import BodyPartReader, web

from whatsapp_simulator.graph_call import json_answer
from whatsapp_simulator.graph_errors import GraphError, unknown_object
from whatsapp_simulator.media import MAX_BYTES, Media, MediaFaults
from whatsapp_simulator.simulator import Simulator, bearer_of

_MAX_MEDIA_BYTES = 100 * 1024 * 1024
_PIECE = 256 * 1024
_STEP_S = 0.05


async def upload(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """Take in a file after Meta's checks of its type and size."""
    number = sim.authorised_number(request, request.match_info["id"])
    if request.content_type != "multipart/form-data":
        raise GraphError(100, "The parameter file is required.")
    given: dict[str, str] = {}
    content: bytes | None = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise GraphError(100, "The form is not valid")
        if part.name == "file":
            given.setdefault("type", part.headers.get("Content-Type", ""))
            content = await _read_file(part)
        else:
            given[str(part.name)] = (await part.text())[:256]
    if given.get("messaging_product") != "whatsapp":
        raise GraphError(100, "The parameter messaging_product is required.")
    if content is None:
        raise GraphError(100, "The parameter file is required.")
    mime_type = given["type"]
    limit = MAX_BYTES.get(mime_type.partition(";")[0].strip().lower())
    if limit is None:
        raise GraphError(100, "Param file must be a file with one of the supported types")
    if len(content) > limit:
        raise GraphError(131053, "The file is larger than its type allows")
    if sim.media.faults.take("upload_errors"):
        raise GraphError(131000)
    sim.media.uploads += 1
    media = sim.media.add(content, mime_type=mime_type, phone_number_id=number.phone_number_id)
    return json_answer({"id": media.media_id})


async def _read_file(part: BodyPartReader) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        content += chunk
        if len(content) > _MAX_MEDIA_BYTES:
            raise GraphError(131053, "The file is larger than any type allows")
    return bytes(content)


def require_owner(media: Media, request: web.Request) -> None:
    """Refuse a file that belongs to another number than the one named."""
    wanted = request.query.get("phone_number_id", media.phone_number_id)
    if wanted != media.phone_number_id:
        raise unknown_object(media.media_id, request.method)


def media_values(sim: Simulator, media: Media, request: web.Request) -> dict[str, Any]:
    """The metadata of a file with a URL that lives five minutes."""
    sim.require_known(bearer_of(request))
    require_owner(media, request)
    if sim.media.faults.take("missing"):
        raise unknown_object(media.media_id, request.method)
    return {
        "messaging_product": "whatsapp",
        "url": f"{request.scheme}://{request.host}/_media/{sim.media.link(media)}",
        "mime_type": media.mime_type,
        "sha256": media.sha256,
        "file_size": len(media.content),
        "id": media.media_id,
    }


async def download(sim: Simulator, request: web.Request) -> web.StreamResponse:
    """The bytes behind a URL; 404 once it has expired, as Meta does."""
    sim.require_known(bearer_of(request))
    media = sim.media.follow(request.match_info["key"])
    if media is None:
        return web.Response(status=404, text="Not Found")
    return await _send(sim.media.faults, media, request)


async def _send(faults: MediaFaults, media: Media, request: web.Request) -> web.StreamResponse:
    if faults.take("errors"):
        return web.Response(status=503, text="Service Unavailable")
    if faults.take("pages"):
        return web.Response(text="<!DOCTYPE html><title>Log in</title>", content_type="text/html")
    content = media.content
    if faults.take("wrong_hash"):
        content = content[:-1] + bytes([content[-1] ^ 1])
    response = web.StreamResponse(headers={"Content-Type": media.mime_type})
    if faults.take("endless"):
        content *= 3
        response.enable_chunked_encoding()
    else:
        response.content_length = len(content)
    await response.prepare(request)
    if faults.take("truncated"):
        await response.write(content[: len(content) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    await _write(response, content, faults.bytes_per_second)
    media.downloads += 1
    return response


async def _write(response: web.StreamResponse, content: bytes, pace: int | None) -> None:
    piece = _PIECE if pace is None else max(1, int(pace * _STEP_S))
    for start in range(0, len(content), piece):
        if start and pace is not None:  # Who has the last is counted at once.
            await asyncio.sleep(_STEP_S)
        await response.write(content[start : start + piece])
    await response.write_eof()
