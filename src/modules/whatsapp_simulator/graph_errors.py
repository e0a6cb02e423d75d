"""Meta's error codes as data, and the shapes in which they are answered and reported.

Titles and HTTP statuses follow Meta's list of Cloud API error codes; a code that the list does not
give an HTTP status for is answered 400.
"""

from typing import Any, NamedTuple


class CodeRow(NamedTuple):
    """What Meta says about one code: the HTTP status when answered at once, and the title."""

    http: int
    title: str
    transient: bool = False


DEFAULT_ROW = CodeRow(400, "Unknown error")
THROTTLES = frozenset({4, 80007, 80008, 130429, 131048, 131056})

CODES: dict[int, CodeRow] = {
    0: CodeRow(401, "AuthException"),
    1: CodeRow(400, "API Unknown"),
    2: CodeRow(503, "API Service", transient=True),
    3: CodeRow(500, "API Method"),
    4: CodeRow(400, "API Too Many Calls"),
    10: CodeRow(403, "Permission Denied"),
    33: CodeRow(400, "Parameter value is not valid"),
    100: CodeRow(400, "Invalid parameter"),
    104: CodeRow(401, "An access token is required to request this resource."),
    190: CodeRow(401, "Access token has expired"),
    200: CodeRow(403, "API Permission"),
    299: CodeRow(403, "API Permission"),
    368: CodeRow(403, "Temporarily blocked for policies violations"),
    803: CodeRow(404, "Some of the aliases you requested do not exist"),
    2200: CodeRow(400, "Callback verification failed"),
    2500: CodeRow(400, "Unknown path components"),
    80007: CodeRow(400, "Rate limit issues"),
    80008: CodeRow(400, "Rate limit issues"),
    130403: CodeRow(400, "User is blocked by the business"),
    130429: CodeRow(400, "Rate limit hit"),
    130472: CodeRow(400, "User's number is part of an experiment"),
    130497: CodeRow(403, "Business account is restricted from messaging users in this country"),
    130501: CodeRow(400, "Message type is not currently supported in groups"),
    131000: CodeRow(500, "Something went wrong"),
    131005: CodeRow(403, "Access denied"),
    131008: CodeRow(400, "Required parameter is missing"),
    131009: CodeRow(400, "Parameter value is not valid"),
    131014: CodeRow(400, "Request for url failed"),
    131016: CodeRow(500, "Service unavailable"),
    131021: CodeRow(400, "Recipient cannot be sender"),
    131026: CodeRow(400, "Message undeliverable"),
    131030: CodeRow(400, "Recipient phone number not in allowed list"),
    131031: CodeRow(403, "Account has been locked"),
    131037: CodeRow(400, "WhatsApp provided number needs display name approval"),
    131042: CodeRow(400, "Business eligibility payment issue"),
    131045: CodeRow(500, "Incorrect certificate"),
    131047: CodeRow(400, "Re-engagement message"),
    131048: CodeRow(400, "Spam rate limit hit"),
    131049: CodeRow(400, "Message not delivered to maintain healthy ecosystem engagement"),
    131050: CodeRow(400, "User has stopped marketing messages"),
    131051: CodeRow(400, "Unsupported message type"),
    131052: CodeRow(400, "Media download error"),
    131053: CodeRow(400, "Media upload error"),
    131055: CodeRow(400, "Method not allowed"),
    131056: CodeRow(400, "(Business Account, Consumer Account) pair rate limit hit"),
    131057: CodeRow(500, "Account in maintenance mode"),
    131060: CodeRow(400, "Message is unavailable"),
    131062: CodeRow(400, "Business-scoped user id is not supported for this message"),
    131063: CodeRow(400, "Marketing messages are disabled for this account"),
    131064: CodeRow(400, "Account is limited because of template misclassification"),
    132000: CodeRow(400, "Number of parameters does not match the expected number of params"),
    132001: CodeRow(404, "Template name does not exist in the translation"),
    132005: CodeRow(400, "Translated text too long"),
    132007: CodeRow(400, "Template format character policy violated"),
    132008: CodeRow(400, "Parameter value is not valid"),
    132012: CodeRow(400, "Parameter format does not match format in the created template"),
    132015: CodeRow(400, "Template is paused"),
    132016: CodeRow(400, "Template is disabled"),
    132018: CodeRow(400, "Template parameters are not valid"),
    132068: CodeRow(400, "Flow is in blocked state"),
    132069: CodeRow(400, "Flow is in throttled state"),
    133000: CodeRow(500, "Incomplete deregistration"),
    133004: CodeRow(503, "Server temporarily unavailable"),
    133005: CodeRow(400, "Two step verification PIN mismatch"),
    133006: CodeRow(400, "Phone number re-verification needed"),
    133008: CodeRow(400, "Too many two step verification PIN guesses"),
    133009: CodeRow(400, "Two step verification PIN guessed too fast"),
    133010: CodeRow(400, "Phone number not registered"),
    133015: CodeRow(400, "Phone number was deleted a moment ago"),
    133016: CodeRow(400, "Account register deregister rate limit exceeded"),
    134011: CodeRow(400, "WhatsApp Payments terms of service have not been accepted"),
    134100: CodeRow(400, "Only marketing messages supported"),
    134101: CodeRow(400, "Template is syncing"),
    134102: CodeRow(500, "Template is unavailable"),
    135000: CodeRow(400, "Generic user error"),
    136024: CodeRow(400, "Verification code cannot be requested"),
    137000: CodeRow(400, "Recipient identity key hash does not match"),
}


class GraphError(Exception):
    """A refusal in Meta's terms; `details` is what Meta puts into `error_data.details`."""

    def __init__(
        self,
        code: int,
        details: str | None = None,
        *,
        subcode: int | None = None,
        title: str | None = None,
        http: int | None = None,
    ) -> None:
        row = CODES.get(code, DEFAULT_ROW)
        super().__init__(code)
        self.code = code
        self.subcode = subcode
        self.details = details
        self.title = row.title if title is None else title
        self.http = row.http if http is None else http
        self.transient = row.transient


# Codes that Graph itself answers; their message has no "(#code)" in front and no `error_data`.
_BARE = frozenset({0, 1, 2, 104, 190})
_UNSUPPORTED_REQUEST_SUBCODE = 33
THROUGHPUT_SUBCODE = 2494055
"""Declared dead by Meta, and still shown in Meta's own example of 130429."""


def answer(error: GraphError, trace_id: str) -> dict[str, Any]:
    """The JSON body of an HTTP error."""
    unsupported = error.subcode == _UNSUPPORTED_REQUEST_SUBCODE
    bare = error.code in _BARE or unsupported
    body: dict[str, Any] = {
        "message": error.title if bare else f"(#{error.code}) {error.title}",
        "type": "GraphMethodException" if unsupported else "OAuthException",
        "code": error.code,
    }
    if error.details is not None:
        body["error_data"] = {"messaging_product": "whatsapp", "details": error.details}
    if error.subcode is not None:
        body["error_subcode"] = error.subcode
    if error.transient:
        body["is_transient"] = True
    body["fbtrace_id"] = trace_id
    return {"error": body}


def reported(code: int, details: str | None = None) -> dict[str, Any]:
    """The element of `errors[]` in a `failed` status."""
    title = CODES.get(code, DEFAULT_ROW).title
    return {
        "code": code,
        "title": title,
        "message": title,
        "error_data": {"details": details or title},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }


def unknown_object(object_id: str, method: str) -> GraphError:
    """Graph's answer for an id that does not exist or that the token may not see."""
    return GraphError(
        100,
        subcode=_UNSUPPORTED_REQUEST_SUBCODE,
        title=(
            f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, "
            "cannot be loaded due to missing permissions, or does not support this operation"
        ),
    )
