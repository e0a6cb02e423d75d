"""What turns a FastAPI app into one of ours: layers around it, and one renderer for errors."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from shared.infrastructure.http.body import BodyLimit, BoundedBody
from shared.infrastructure.http.errors import (
    BadRequest,
    BodyTooLarge,
    FieldProblem,
    MalformedBody,
    MethodNotAllowed,
    RouteNotFound,
    ValidationFailed,
)
from shared.infrastructure.http.problem import ErrorForm, answer_with_problem, problem_response
from shared.infrastructure.http.request_context import RequestContext
from shared.infrastructure.observability.metrics import HttpMetrics
from shared.kernel.errors import TellwireError

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PLACES: Final = frozenset({"body", "query", "path", "header", "cookie"})
_FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}")
_NO_OBJECT: Final = "A JSON object is needed"
_BY_STATUS: Final[dict[int, type[TellwireError]]] = {
    400: BadRequest,
    404: RouteNotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
}


def _ours(_path: str) -> ErrorForm | None:
    """Problem documents everywhere."""
    return None


def equip(
    app: FastAPI,
    *,
    metrics: HttpMetrics,
    limit_of: Callable[[str], BodyLimit],
    admit: Callable[[Scope], Awaitable[None]],
    form_of: Callable[[str], ErrorForm | None] = _ours,
) -> None:
    """Give `app` request ids, logs, metrics, bounded bodies and problem documents.

    `admit` refuses whose bodies are not to be read, `form_of` names the paths whose errors have
    another form.
    """
    app.add_middleware(BoundedBody, limit_of=limit_of, admit=admit)
    app.add_middleware(
        RequestContext, metrics=metrics, form_of=form_of
    )  # added last, so it is the outermost
    app.add_exception_handler(TellwireError, answer_with_problem)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)


async def _answer_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return problem_response(validation_error(error.errors()), request.scope)


async def _answer_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error.__cause__, UnicodeDecodeError | RecursionError):
        # What reading JSON ends in, besides what the parser itself calls an error.
        malformed = MalformedBody("JSON in UTF-8 is needed, nested a thousand levels deep at most")
        return problem_response(malformed, request.scope)
    ours = _BY_STATUS.get(error.status_code, BadRequest)
    allowed = {"Allow": _methods_at(request)} if ours is MethodNotAllowed else {}
    return problem_response(ours(), request.scope, **allowed)


def _methods_at(request: Request) -> str:
    """What the address takes by all routes together; Starlette names those of the first alone."""
    routes: Sequence[BaseRoute] = request.app.routes
    return ", ".join(
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    )


def validation_error(faults: Sequence[Any], prefix: str = "") -> TellwireError:
    """The error for what pydantic found; it repeats rules and places, never what was given."""
    if any(fault["type"] == "json_invalid" for fault in faults):
        return MalformedBody()
    return ValidationFailed(
        [
            FieldProblem(f"{prefix}{_path(fault['loc'])}", _detail(fault), _code(fault))
            for fault in faults[:20]
        ]
    )


def _path(place: Sequence[int | str]) -> str:
    """`("body", "text", "rows", 1)` as `text.rows[1]`; the whole body is `body`."""
    parts = place[1:] if place and place[0] in _PLACES else place
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in parts)
    return text.lstrip(".") or "body"


def _shown(name: str) -> str:
    """A caller's own key may hold anything; only what looks like a field's name is repeated."""
    return name if _FIELD_NAME.fullmatch(name) else "?"


def _detail(fault: Any) -> str:
    if fault["type"] == "model_attributes_type":
        # Only what nobody called JSON reaches a model as bytes.
        is_raw = isinstance(fault.get("input"), bytes)
        return "A header Content-Type: application/json is needed" if is_raw else _NO_OBJECT
    # A validator's own message may quote its input; those of pydantic's rules do not.
    return "is not valid" if fault["type"] == "value_error" else str(fault["msg"])


def _code(fault: Any) -> str:
    return str(fault["type"])
