"""What the OpenAPI document says of answers that routes do not return themselves."""

from typing import Any, Final

from shared.infrastructure.http.problem import PROBLEM_TYPE
from whatsapp.entrypoints.http.responses import MessageResponse

Responses = dict[int | str, dict[str, Any]]

_MEANINGS: Final = {
    400: "The request cannot be understood",
    401: "No valid API key",
    403: "The key lacks the scope",
    404: "Nothing with this id exists in this tenant",
    408: "The request did not arrive in time",
    409: "The stored state does not allow it",
    410: "It is there no more, or never was",
    413: "The body is too large",
    415: "The body is compressed; of a file also: WhatsApp takes none of this type",
    416: "The file ends before the range begins",
    422: "The request is not valid; `field` says where, if it is one part of it",
    429: "Too much at once; `Retry-After` says when to try again",
    500: "A fault of Tellwire or of its installation; the log has it under `instance`",
    503: "Something does not answer; `Retry-After` says when to try again",
}
_ALWAYS: Final = (400, 401, 403, 408, 413, 415, 422, 500, 503)
_TEXT: Final = {"type": "string"}
RETRY_AFTER: Final = {
    "Retry-After": {"description": "In so many seconds.", "schema": {"type": "integer"}}
}
BEARER_WANTED: Final = {"WWW-Authenticate": {"schema": {"type": "string", "enum": ["Bearer"]}}}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: BEARER_WANTED,
    408: RETRY_AFTER,
    416: {"Content-Range": {"description": "How long the file is: `bytes */40`.", "schema": _TEXT}},
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}
_SCHEMA: Final = {"$ref": "#/components/schemas/ProblemResponse"}


def problems(*codes: int) -> Responses:
    """Problem documents for these statuses and for those that every route may answer."""
    return {
        code: {
            "description": _MEANINGS[code],
            "content": {PROBLEM_TYPE: {"schema": _SCHEMA}},
            **({"headers": _HEADERS[code]} if code in _HEADERS else {}),
        }
        for code in sorted({*codes, *_ALWAYS})
    }


def made(what: str) -> Responses:
    """201 with the address of what was made."""
    headers = {"Location": {"description": "Its address, as a path.", "schema": _TEXT}}
    return {201: {"description": what, "headers": headers}}


IDEMPOTENT: Final[Responses] = {
    200: {
        "description": "The same key and message again: the message that was stored before",
        "model": MessageResponse,
        "headers": {
            "Idempotency-Replayed": {"schema": {"type": "string", "enum": ["true"]}},
        },
    }
}
