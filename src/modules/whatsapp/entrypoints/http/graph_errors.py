"""Our refusals in Meta's form, under the codes by which clients of the Cloud API branch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Scope

from shared.infrastructure.http.problem import REQUEST_ID, RETRY_AFTER_SECONDS
from shared.kernel.errors import InvalidInput, TellwireError, Unavailable
from whatsapp.domain.outcome import Deferred, Rejected, Throttled
from whatsapp.domain.value_objects import InvalidContent
from whatsapp.domain.value_objects.message_content.frozen_json import Fault

GRAPH_PATH: Final = re.compile(
    r"/v(?!1/)(?s:[^.]*\.[^/]*/.*)|/(?!v1/)[^/]+/[^/]+/(?:messages|media)"
)
"""Where clients of Meta's endpoint call, rightly or not. Read once from end to end: it is asked of
every address that anybody thinks of."""
_OBJECT_MISSING_SUBCODE: Final = 33


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one kind of refusal looks at Meta (Meta, Cloud API error codes)."""

    status: int
    code: int
    title: str
    kind: str = "OAuthException"
    subcode: int | None = None
    is_bare: bool = False
    """Errors of Graph itself do not have their code in the message."""


_MISSING: Final = _Shape(400, 131008, "Required parameter is missing")
_WRONG: Final = _Shape(400, 131009, "Parameter value is not valid")
_OF_GRAPH: Final = _Shape(400, 100, "Invalid parameter")
_BY_FAULT: Final[Mapping[Fault, _Shape]] = MappingProxyType(
    {
        Fault.WRONG: _WRONG,
        Fault.MISSING: _MISSING,
        Fault.TOO_LONG: _OF_GRAPH,
        Fault.UNEXPECTED: _OF_GRAPH,
    }
)
_GONE: Final = _Shape(503, 2, "Service temporarily unavailable", is_bare=True)
_FAULT: Final = _Shape(500, 131000, "Something went wrong")
_BY_CODE: Final[Mapping[str, _Shape]] = MappingProxyType(
    {
        "unauthenticated": _Shape(401, 190, "Invalid OAuth access token.", is_bare=True),
        "forbidden": _Shape(403, 10, "Application does not have permission for this action"),
        "channel_not_found": _Shape(
            400,
            100,
            "Unsupported post request. Object with this ID does not exist, cannot be loaded due "
            "to missing permissions, or does not support this operation",
            kind="GraphMethodException",
            subcode=_OBJECT_MISSING_SUBCODE,
            is_bare=True,
        ),
        "channel_not_active": _Shape(400, 133010, "Phone number not registered"),
        "marketing_stopped": _Shape(400, 131050, "User has stopped marketing messages"),
        "service_window_closed": _Shape(400, 131047, "Re-engagement message"),
        "media_not_found": _Shape(
            400,
            100,
            "Unsupported get request. Object with this ID does not exist, cannot be loaded due "
            "to missing permissions, or does not support this operation",
            kind="GraphMethodException",
            subcode=_OBJECT_MISSING_SUBCODE,
            is_bare=True,
        ),
        "media_not_available": _Shape(400, 131052, "Media download error"),
        "media_type_refused": _OF_GRAPH,
        "media_too_large": _OF_GRAPH,
        "invalid_media": _OF_GRAPH,
        "bad_request": _OF_GRAPH,
        "malformed_body": _OF_GRAPH,
        "invalid_graph_request": _OF_GRAPH,
        "route_not_found": _Shape(404, 2500, "Unknown path components", is_bare=True),
        "method_not_allowed": _Shape(405, 100, "Unsupported request", is_bare=True),
        "body_too_large": _Shape(413, 100, "Invalid parameter"),
        "encoding_refused": _Shape(415, 100, "Invalid parameter"),
    }
)


def graph_error_response(error: TellwireError, scope: Scope, **headers: str) -> Response:
    """The answer that Meta would give; `error_data.details` says what our own document would."""
    shape = _shape(error)
    body: dict[str, Any] = {
        "message": shape.title if shape.is_bare else f"(#{shape.code}) {shape.title}",
        "type": shape.kind,
        "code": shape.code,
        "error_data": {"messaging_product": "whatsapp", "details": _details(error)},
    }
    if shape.subcode is not None:
        body["error_subcode"] = shape.subcode
    if error.retryable:
        body["is_transient"] = True
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    body["fbtrace_id"] = scope.get(REQUEST_ID, "")
    return JSONResponse({"error": body}, shape.status, headers)


def _shape(error: TellwireError) -> _Shape:
    refusal = getattr(error, "refusal", None)
    if isinstance(refusal, Rejected | Deferred | Throttled) and refusal.code is not None:
        # What Meta said itself begins with the code already.
        title = refusal.title.removeprefix(f"(#{refusal.code}) ")
        return _Shape(503 if error.retryable else 400, refusal.code, title)
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, Unavailable) or error.retryable:
        return _GONE
    if isinstance(error, InvalidInput) or error.status < 500:  # noqa: PLR2004  # HTTP's own boundary
        return _of_input(error)
    return _FAULT


def _of_input(error: TellwireError) -> _Shape:
    if error.field == "type":
        return _OF_GRAPH
    return _BY_FAULT[error.fault] if isinstance(error, InvalidContent) else _WRONG


def _details(error: TellwireError) -> str:
    if _shape(error) is _FAULT:
        return "It was logged under the trace id"
    refusal = getattr(error, "refusal", None)
    detail = getattr(refusal, "details", "") or error.detail
    return detail if error.field is None else f"{error.field}: {detail}"
