"""Problem documents (RFC 9457): the one way in which errors leave over HTTP."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from shared.infrastructure.http.errors import RangeNotSatisfiable, ValidationFailed
from shared.kernel.errors import TellwireError, Unauthenticated

PROBLEM_TYPE: Final = "application/problem+json"
ERROR_REFERENCE: Final = "/docs/errors"
RETRY_AFTER_SECONDS: Final = 1
REQUEST_ID: Final = "tellwire.request_id"
"""Where the id of a request stands in its ASGI scope."""
ERROR_FORM: Final = "tellwire.error_form"
"""Where the form of a request's errors stands in its ASGI scope, if it is another than ours."""
ErrorForm: TypeAlias = Callable[..., Response]
"""Makes an answer of an error, a scope and headers; for paths whose callers expect another form."""


def problem(error: TellwireError, *, instance: str | None = None) -> dict[str, Any]:
    """The members of the document: an error of ours says about itself only what may be shown."""
    members: dict[str, Any] = {
        "type": f"{ERROR_REFERENCE}#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.status >= 500 and not error.retryable:  # noqa: PLR2004  # HTTP's own boundary
        # What went wrong inside is for our log; a caller can do nothing about it.
        members["detail"] = "It was logged under the request id"
    if error.field is not None:
        members["field"] = error.field
    if isinstance(error, ValidationFailed):
        members["errors"] = [
            {"field": one.field, "detail": one.detail, "code": one.code} for one in error.problems
        ]
    if instance is not None:
        members["instance"] = instance
    return members


def problem_response(error: TellwireError, scope: Scope, **headers: str) -> Response:
    """The answer that `error` is, for the request in `scope`."""
    if (form := scope.get(ERROR_FORM)) is not None:
        return cast("ErrorForm", form)(error, scope, **headers)
    body = orjson.dumps(problem(error, instance=scope.get(REQUEST_ID)))
    if error.retryable:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    return Response(body, error.status, headers, media_type=PROBLEM_TYPE)


async def answer_with_problem(request: Request, error: Exception) -> Response:
    """An exception handler for `TellwireError` and all below it."""
    if not isinstance(error, TellwireError):
        raise error
    return problem_response(error, request.scope)
