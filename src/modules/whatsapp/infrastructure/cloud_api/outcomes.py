"""What Meta's answers mean: an HTTP answer or a failed status in, an outcome of the domain out.

The code decides. The HTTP status is looked at only where there is no code: Meta says that it may
change, and the same code has been seen with 400, 403 and 429.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from whatsapp.domain.outcome import (
    Accepted,
    Deferred,
    FailureReason,
    Outcome,
    Refusal,
    RejectAction,
    Rejected,
    Throttled,
    ThrottleScope,
    Unknown,
)
from whatsapp.infrastructure.cloud_api.code_rule import NUMBER_RETRY, CodeClass, CodeRule
from whatsapp.infrastructure.cloud_api.code_table import rule_for
from whatsapp.infrastructure.cloud_api.fields import (
    failure,
    identifier,
    integer,
    mapping,
    objects,
    person,
    read_json,
)

__all__ = [
    "CodeClass",
    "CodeRule",
    "outcome_of_response",
    "outcome_of_status_errors",
    "refusal_of_response",
    "rule_for",
]

MAX_RETRY_AFTER = timedelta(hours=24)
"""The longest wait that a header may ask for; more is a mistake of somebody in between."""

_HELD = ("held_for_quality_assessment", "paused")
_MAX_DIGITS = 10  # of a number written as text

# Without a code of Meta's the status may be a proxy's or a gateway's. 408: nginx and others send it
# on an idle connection, so that it can cross a request that is on its way.
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS = 408, 429
_SUCCESS, _CLIENT_ERROR, _SERVER_ERROR = range(200, 300), 400, 500
# Nor does Meta refuse a message like this: a login page, a wrong address. The message is fine.
_WAY_BARRED = frozenset({401, 403, 404, 405, 407})


def outcome_of_response(
    http_status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> Outcome:
    """What became of a message, from the whole answer to the request that carried it.

    Never raises. A 2xx that does not name a wamid is `Unknown`: something accepted the request.
    """
    document = mapping(read_json(body))
    if (refusal := _refusal_of_error(document, headers)) is not None:
        return refusal
    if http_status >= _SERVER_ERROR or http_status == _REQUEST_TIMEOUT:
        return Unknown(f"HTTP {http_status} without Meta's error")
    if http_status in _SUCCESS:
        return _accepted(document)
    return _refusal_of_status(http_status, headers)


def refusal_of_response(
    http_status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> Refusal | None:
    """Why a call other than a send was refused; None for an answer in the 2xx without an error.

    Without Meta's own error a 5xx is `Deferred` here: these calls can be repeated.
    """
    document = mapping(read_json(body))
    if (refusal := _refusal_of_error(document, headers)) is not None:
        return refusal
    if http_status in _SUCCESS:
        return None
    if http_status >= _SERVER_ERROR:
        return _refusal(rule_for(2), FailureReason(None, f"HTTP {http_status}", ""))
    return _refusal_of_status(http_status, headers)


def outcome_of_status_errors(errors: Sequence[FailureReason]) -> Refusal:
    """What a `failed` status means: the gravest of its errors decides."""
    if not errors:
        return _refusal(rule_for(None), FailureReason(None, "Failed without a reason", ""))
    rules = [(rule_for(error.code), error) for error in errors]
    rule, error = min(rules, key=lambda pair: _GRAVITY.index(pair[0].kind))
    return _refusal(rule, error)


_GRAVITY = (CodeClass.CHANNEL, CodeClass.PERMANENT, CodeClass.THROTTLE, CodeClass.TRANSIENT)


def _refusal_of_error(
    document: Mapping[str, Any], headers: Mapping[str, str] | None
) -> Refusal | None:
    error = document.get("error")
    if not isinstance(error, dict):
        return None
    reason = failure(error)
    if reason.code is None:
        return None
    rule = rule_for(
        reason.code,
        subcode=integer(error.get("error_subcode")),
        is_transient=error.get("is_transient") is True,
    )
    return _refusal(rule, reason, retry_after=_retry_after(headers))


def _refusal(
    rule: CodeRule, reason: FailureReason, *, retry_after: timedelta | None = None
) -> Refusal:
    match rule.kind:
        case CodeClass.THROTTLE if rule.scope is not None and rule.retry is not None:
            return Throttled(reason, rule.scope, rule.retry, retry_after)
        case CodeClass.TRANSIENT if rule.retry is not None:
            return Deferred(reason, rule.retry)
        case _:
            return Rejected(reason, rule.action or RejectAction.FAIL, rule.wait)


def _refusal_of_status(http_status: int, headers: Mapping[str, str] | None) -> Refusal:
    reason = FailureReason(None, f"HTTP {http_status} without Meta's error", "")
    if http_status == _TOO_MANY_REQUESTS:
        return Throttled(reason, ThrottleScope.NUMBER, NUMBER_RETRY, _retry_after(headers))
    if http_status in _WAY_BARRED or http_status < _CLIENT_ERROR:
        return Rejected(reason, RejectAction.PAUSE_CHANNEL)
    return Rejected(reason, RejectAction.FAIL)


def _accepted(document: Mapping[str, Any]) -> Outcome:
    message = next(iter(objects(document.get("messages"))), {})
    wamid = identifier(message.get("id"))
    if wamid is None:
        return Unknown("accepted without a message id")
    contact = next(iter(objects(document.get("contacts"))), {})
    wa_id, user_id = person(contact.get("wa_id"), contact.get("user_id"))
    return Accepted(wamid, wa_id, user_id, held=message.get("message_status") in _HELD)


def _retry_after(headers: Mapping[str, str] | None) -> timedelta | None:
    """The whole seconds of a Retry-After header; its form as a date is not worth a clock."""
    given = (headers or {}).get("Retry-After", "").strip()
    if not (given.isascii() and given.isdigit()) or len(given) > _MAX_DIGITS:
        return None
    return min(timedelta(seconds=int(given)), MAX_RETRY_AFTER)
