"""A file in a form: what stands before it, its bytes as they come, and what stands behind it."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self

from starlette.requests import ClientDisconnect, Request

from shared.infrastructure.http.errors import BadRequest
from shared.infrastructure.http.multipart import Form, Part, boundary_of
from whatsapp.domain.media import InvalidMedia
from whatsapp.domain.media_type import essence

_UNTOLD: Final = frozenset({"", "application/octet-stream"})
"""Content types by which clients say that they do not know."""

FORM_SCHEMA: Final[dict[str, Any]] = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "type": {"type": "string", "description": "Its MIME type, if the part has none."},
        },
    }
}


class MediaForm:
    """The form of one request, up to its file; `told_behind` reads on to its end."""

    def __init__(self, form: Form, file: Part, fields: dict[str, str]) -> None:
        self._form = form
        self._fields = fields
        self.filename = file.filename or None
        own = file.content_type if essence(file.content_type) not in _UNTOLD else None
        self.mime_type = fields.get("type") or own

    @classmethod
    async def open(cls, request: Request, content_type: str) -> Self:
        """Read up to the file; raises BadRequest, and InvalidMedia where there is none."""
        boundary = boundary_of(content_type)
        if boundary is None:
            raise BadRequest("A form names its boundary in Content-Type")
        form, fields = Form(body_of(request), boundary), dict[str, str]()
        while (part := await form.next_part()) is not None:
            if part.name == "file":
                return cls(form, part, fields)
            fields[part.name] = await form.value()
        raise InvalidMedia("is required", field="file")

    @property
    def content(self) -> AsyncIterator[bytes]:
        """The file's bytes."""
        return self._form.content()

    async def told_behind(self) -> str | None:
        """The type, if a field behind the file says it; raises where the form is not sound."""
        while (part := await self._form.next_part()) is not None:
            if part.name == "file":
                raise InvalidMedia("One file at a time", field="file")
            self._fields[part.name] = await self._form.value()
        return self._fields.get("type")

    def ensuring(self, check: Callable[[dict[str, str]], None]) -> Callable[[], Any]:
        """As `told_behind`, after which `check` sees all fields before the file is kept."""

        async def told_behind() -> str | None:
            told = await self.told_behind()
            check(self._fields)
            return told

        return told_behind


def is_form(content_type: str) -> bool:
    """Whether the body says that it is a form."""
    return essence(content_type) == "multipart/form-data"


async def body_of(request: Request) -> AsyncIterator[bytes]:
    """The pieces of the body; BadRequest where the client hangs up."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise BadRequest("The body ended early") from None
