"""The one root of every refusal, and the errors that belong to no module.

An error class is the contract: its `code` is stable and documented in `docs/errors.md`, its
`status` is the HTTP status of a problem document, and `retryable` says whether the same call may
succeed later without being changed. No error text holds a token, a digest, a phone number or a
message body.
"""

from typing import ClassVar


class TellwireError(Exception):
    """A refusal with a stable code that says what to do; the message never holds a secret.

    `field` names the offending input as a JSON path (`template.components[1].parameters`), if any.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    title: ClassVar[str] = "Something went wrong inside Tellwire"

    def __init__(self, detail: str = "", *, field: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.field = field


class InvalidInput(TellwireError):
    """What was given cannot be accepted; `field` says which part, the detail says what would be."""

    code = "invalid_input"
    status = 422
    title = "The input is not valid"


def ensure_type(
    value: object,
    kinds: type | tuple[type, ...],
    error: type[InvalidInput] = InvalidInput,
    *,
    field: str | None = None,
) -> None:
    """Raise `error` unless `value` is one of these kinds; it names the types alone."""
    if not isinstance(value, kinds):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        names = " or ".join(kind.__name__ for kind in wanted)
        raise error(f"{names} is needed, not {type(value).__name__}", field=field)


class NotFoundException(TellwireError):
    """The thing asked for does not exist in this tenant."""

    code = "not_found"
    status = 404
    title = "Nothing with this id exists in this tenant"


class Conflict(TellwireError):
    """The request contradicts what is already stored."""

    code = "conflict"
    status = 409
    title = "The request contradicts the stored state"


class Unauthenticated(TellwireError):
    """Nobody was recognised; deliberately says nothing about why."""

    code = "unauthenticated"
    status = 401
    title = "A valid API key or token is required"


class Forbidden(TellwireError):
    """The caller was recognised but may not do this."""

    code = "forbidden"
    status = 403
    title = "This key may not do that"


class SecretUnreadable(TellwireError):
    """A stored secret does not open; trying again gives the same answer.

    Take what the secret belongs to out of use, and alert.
    """

    code = "secret_unreadable"
    title = "A stored secret cannot be read"


class Unavailable(TellwireError):
    """Something that Tellwire needs is gone for now; nothing was done, trying again is safe."""

    code = "unavailable"
    status = 503
    retryable = True
    title = "A service that Tellwire needs does not answer; try again"


class Misconfigured(TellwireError):
    """The process refuses to start: a setting is wrong; the detail says which and what to do."""

    code = "misconfigured"
    status = 500
    title = "A setting is wrong"
