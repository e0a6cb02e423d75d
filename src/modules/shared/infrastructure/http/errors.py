"""Refusals that belong to HTTP itself and to no module."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.kernel.errors import InvalidInput, NotFoundException, TellwireError, Unavailable


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing that is wrong with a request: where, what, and under which code."""

    field: str
    detail: str
    code: str


class ValidationFailed(InvalidInput):
    """The request does not have the shape that is documented; `problems` names every fault."""

    code = "validation_failed"
    title = "The request is not what the API takes"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        first = problems[0]
        super().__init__(first.detail, field=first.field)
        self.problems = tuple(problems)


class MalformedBody(InvalidInput):
    """The body is not JSON."""

    code = "malformed_body"
    status = 400
    title = "The body is not JSON"


class RouteNotFound(NotFoundException):
    """Nothing is at this address."""

    code = "route_not_found"
    title = "Nothing is at this address"


class MethodNotAllowed(TellwireError):
    """The address exists, and not for this method; the header Allow names those it takes."""

    code = "method_not_allowed"
    status = 405
    title = "This address does not take this method"


class BodyTooLarge(InvalidInput):
    """The body is larger than this address takes; it was not read to its end."""

    code = "body_too_large"
    status = 413
    title = "The body is too large"


class EncodingRefused(InvalidInput):
    """The body is compressed, and would be taken for what it is not."""

    code = "encoding_refused"
    status = 415
    title = "Bodies are sent as they are, without Content-Encoding"


class RequestTimedOut(TellwireError):
    """The request did not arrive in time; nothing was done."""

    code = "request_timed_out"
    status = 408
    retryable = True
    title = "The request did not arrive in time"


class RangeNotSatisfiable(InvalidInput):
    """The file is shorter than where the range begins; Content-Range says how long it is."""

    code = "range_not_satisfiable"
    status = 416
    title = "The file ends before the range begins"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes", field="Range")
        self.size = size


class BadRequest(InvalidInput):
    """The request cannot be understood."""

    code = "bad_request"
    status = 400
    title = "The request cannot be understood"


class NotReady(Unavailable):
    """This process cannot serve yet or any more; its detail says what is wrong with what."""

    code = "not_ready"
    title = "Something that this process needs cannot be used"
