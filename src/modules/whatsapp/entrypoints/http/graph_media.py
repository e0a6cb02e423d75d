"""Meta's endpoints for files, answered by Tellwire: upload, look up, download, delete.

A file that was uploaded here has an id of ours, in digits as Meta's are, by which messages of any
channel of the tenant may send it. What people sent has the id that Meta's webhook told.
"""

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.convertors import Convertor, register_url_convertor

from whatsapp.application.graph_media import ensure_number
from whatsapp.domain.media import Media, MediaDirection
from whatsapp.domain.value_objects import given_media_id
from whatsapp.entrypoints.http.caller import Reader, Sender
from whatsapp.entrypoints.http.graph import known_version
from whatsapp.entrypoints.http.graph_documentation import (
    GRAPH_MEDIA_DELETED,
    GRAPH_MEDIA_FORM,
    GRAPH_MEDIA_FOUND,
    GRAPH_MEDIA_STORED,
)
from whatsapp.entrypoints.http.graph_requests import InvalidGraphRequest
from whatsapp.entrypoints.http.media import PREFIX
from whatsapp.entrypoints.http.media_forms import MediaForm, is_form
from whatsapp.entrypoints.http.services import Services

UPLOAD_PATH: Final = re.compile(r"/v[1-9][0-9]?\.[0-9]/[^/]+/media")
MAX_ID_CHARACTERS: Final = 512


class _FewDigits(Convertor[int]):
    """Digits of an address. Starlette's own take any number, and raise at thousands of them."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("digits", _FewDigits())
router = APIRouter(tags=["Meta's endpoint"])
"""Declares routes and holds nothing else."""

PhoneNumberId = Annotated[
    str | None,
    Query(max_length=MAX_ID_CHARACTERS, description="Only a file of this number's channel."),
]


@router.post(
    "/{graph_version}/{phone_number_id}/media",
    responses=GRAPH_MEDIA_STORED,
    openapi_extra=GRAPH_MEDIA_FORM,
    dependencies=[Depends(known_version)],
)
async def post_graph_media(
    graph_version: str,  # noqa: ARG001  # judged by the route's dependency
    phone_number_id: str,
    request: Request,
    services: Services,
    caller: Sender,
    content_type: Annotated[str, Header(max_length=255)] = "",
) -> Response:
    """Take in a file to send, in Meta's form; the id is for `image.id` and the like."""
    if not is_form(content_type):
        raise InvalidGraphRequest("must be multipart/form-data", field="Content-Type")
    await ensure_number(services.begin, caller.tenant_id, phone_number_id, caller.key_id)
    form = await MediaForm.open(request, content_type)
    media, is_new = await services.store_media(
        caller.tenant_id,
        form.content,
        mime_type=form.mime_type,
        told_behind=form.ensuring(_is_for_whatsapp),
        filename=form.filename,
        user_id=caller.key_id,
    )
    services.metrics.media_uploaded(media, is_new=is_new)
    return JSONResponse({"id": given_media_id(media.id)})


@router.get("/v{major:digits}.{minor:digits}/{media_id}", responses=GRAPH_MEDIA_FOUND)
async def get_graph_media(
    major: int,  # noqa: ARG001  # any version is welcome
    minor: int,  # noqa: ARG001  # as above
    media_id: str,
    request: Request,
    services: Services,
    caller: Reader,
    phone_number_id: PhoneNumberId = None,
) -> Response:
    """What is known of a file, and where it can be downloaded with the same key."""
    media = await services.find_graph_media(
        caller.tenant_id, media_id, phone_number_id=phone_number_id, user_id=caller.key_id
    )
    _ = media.key  # Raises where there is no file.
    url = f"{request.base_url}{PREFIX.removeprefix('/')}/{media.id}/content"
    return JSONResponse(_shown(media, url))


@router.delete("/v{major:digits}.{minor:digits}/{media_id}", responses=GRAPH_MEDIA_DELETED)
async def delete_graph_media(
    major: int,  # noqa: ARG001  # any version is welcome
    minor: int,  # noqa: ARG001  # as above
    media_id: str,
    services: Services,
    caller: Sender,
    phone_number_id: PhoneNumberId = None,
) -> Response:
    """Delete a file; what still waits to send it fails."""
    media = await services.find_graph_media(
        caller.tenant_id, media_id, phone_number_id=phone_number_id, user_id=caller.key_id
    )
    await services.remove_media(caller.tenant_id, media.id, user_id=caller.key_id)
    return JSONResponse({"success": True})


def _is_for_whatsapp(fields: dict[str, str]) -> None:
    if fields.get("messaging_product") != "whatsapp":
        raise InvalidGraphRequest("is required and is always whatsapp", field="messaging_product")


def _shown(media: Media, url: str) -> dict[str, Any]:
    known = media.provider_media_id if media.direction is MediaDirection.INBOUND else None
    return {
        "messaging_product": "whatsapp",
        "url": url,
        "mime_type": media.mime_type,
        "sha256": media.sha256.hex() if media.sha256 is not None else None,
        "file_size": media.size,
        "id": known or given_media_id(media.id),
    }
