"""Meta's error codes as data: what each means for the message, the number and the operator.

Sources: Meta, Cloud API error codes and Graph API error handling; where Meta contradicts itself or
is silent, what production gateways observe. Meta's advice is to branch on the code alone: the HTTP
status, the title and the subcode change without notice. Waits are ours unless a comment says Meta.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType

from whatsapp.domain.outcome import RejectAction, ThrottleScope
from whatsapp.infrastructure.cloud_api.code_rule import (
    FEW_RETRIES,
    HOURS_RETRY,
    MINUTE_RETRY,
    NUMBER_RETRY,
    PAIR_RETRY,
    QUOTA_RETRY,
    REGISTRATION_RETRY,
    SYNC_RETRY,
    CodeRule,
    Seen,
    channel,
    permanent,
    throttle,
    transient,
)

_S, _A, _I = Seen.SYNC, Seen.ASYNC, Seen.INBOUND
_SA = _S | _A
_RECIPIENT = RejectAction.FAIL_RECIPIENT
_TEMPLATE = RejectAction.FAIL_TEMPLATE
_RENEW = "Store a new access token for the channel, verify it, then resume the channel."
_PERMIT = (
    "Give the system user whatsapp_business_messaging and this WhatsApp account in Meta Business "
    "settings, then verify and resume the channel."
)
_PAYLOAD = "Correct the message; `details` names the part that Meta did not like."

_ACCESS: Mapping[int, CodeRule] = {
    0: channel("App user cannot be authenticated", _RENEW),
    3: channel("The app lacks the capability", _PERMIT),
    10: channel("Permission missing or withdrawn", _PERMIT),
    33: channel(
        "The phone number id does not exist any more",
        "The number was deleted or moved. Look its id up in WhatsApp Manager.",
    ),
    102: channel("The session of the token is not valid", _RENEW),
    104: channel(
        "The call needs a proof or a token",
        "The app demands an app-secret proof. Switch that off in the app's advanced settings, or "
        "store the right token.",
    ),
    190: channel("The access token has expired or is not valid", _RENEW),
    368: channel(
        "Blocked for breaking a policy",
        "Meta has blocked the account for a time. Read Account Quality in Meta Business Support, "
        "appeal if it is wrong, and resume when the block is lifted.",
        seen=_SA,
    ),
    803: channel(
        "An object of the request does not exist",
        "Check the phone number id and the account id of the channel.",
    ),
    2500: channel(
        "Meta does not know the path",
        "Check the configured Graph API version and base URL.",
    ),
    131005: channel("Access denied", _PERMIT),
    131031: channel(
        "The account is locked",
        "Meta has locked the account or could not verify its data (the PIN, for one). See Account "
        "Quality in WhatsApp Manager.",
        seen=_SA,
    ),
    131037: channel(
        "The display name of this number is not approved",
        "Have the display name approved in WhatsApp Manager; numbers given by Meta (+1 555) cannot "
        "send before.",
    ),
    131042: channel(
        "Meta cannot charge the account",
        "Add or mend the payment method of the WhatsApp account, then resume the channel.",
        seen=_SA,
    ),
    131045: channel(
        "The number is not registered properly",
        "Register the number anew with its PIN, then resume the channel.",
        seen=_SA,
    ),
    133000: channel(
        "An earlier deregistration has not finished",
        "Deregister the number again, then register it.",
    ),
    133005: channel("Wrong two-step PIN", "Give the right PIN or reset it in WhatsApp Manager."),
    133006: channel(
        "The number has to be verified first",
        "Ask for a verification code, verify the number, then register it.",
    ),
    133008: channel("Too many wrong PINs", "Wait as long as `details` says, then try again."),
    133009: channel("PINs were tried too fast", "Wait as long as `details` says, then try again."),
    133010: channel(
        "The number is not registered",
        "Register the number for the Cloud API with its PIN, then resume the channel.",
    ),
    133015: channel(
        "The number was deleted a moment ago",
        "Wait five minutes, then register the number again.",
        wait=timedelta(minutes=5),  # Meta's figure
    ),
}

_LIMITS: Mapping[int, CodeRule] = {
    4: throttle(
        "The app calls too often",
        "Every channel of the app waits. Look for another program that uses the same app.",
        scope=ThrottleScope.APP,
        retry=QUOTA_RETRY,
    ),
    17: throttle(
        "The token's user calls too often",
        "Every channel of the app waits. Look for another program that uses the same token.",
        scope=ThrottleScope.APP,
        retry=QUOTA_RETRY,
    ),
    341: throttle(
        "The app has reached a limit",
        "Every channel of the app waits.",
        scope=ThrottleScope.APP,
        retry=QUOTA_RETRY,
    ),
    613: throttle(
        "The app calls this too often",
        "Every channel of the app waits.",
        scope=ThrottleScope.APP,
        retry=QUOTA_RETRY,
    ),
    80007: throttle(
        "The WhatsApp account calls too often",
        "Every number of the account waits; management calls count too.",
        scope=ThrottleScope.ACCOUNT,
        retry=QUOTA_RETRY,
    ),
    80008: throttle(
        "The WhatsApp account calls too often",
        "Every number of the account waits; management calls count too.",
        scope=ThrottleScope.ACCOUNT,
        retry=QUOTA_RETRY,
    ),
    130429: throttle(
        "The number's throughput is used up",
        "The number slows down by itself. If it recurs, lower the channel's rate: inbound messages "
        "and other senders of the number count too.",
        scope=ThrottleScope.NUMBER,
        retry=NUMBER_RETRY,
        seen=_SA,
    ),
    131048: throttle(
        "Restricted because recipients block or report the number",
        "Sending waits for hours. Look at the number's quality in WhatsApp Manager and at who gets "
        "these messages.",
        scope=ThrottleScope.NUMBER,
        retry=HOURS_RETRY,
        seen=_SA,
    ),
    131056: throttle(
        "Too many messages to this recipient",
        "Only this recipient waits: one message per six seconds, with bursts of up to 45.",
        scope=ThrottleScope.PAIR,
        retry=PAIR_RETRY,
        seen=_SA,
    ),
    # A limit on templates alone: holding back the account would hold back the replies to customers.
    131064: throttle(
        "Templates are limited because of wrong categories",
        "Meta lifts the limit by itself. Review the categories of the templates.",
        scope=ThrottleScope.MESSAGE,
        retry=HOURS_RETRY,
        seen=_SA,
    ),
    # Meta: ten flow messages per hour while the flow is throttled.
    132069: throttle(
        "The flow is throttled",
        "The flow's endpoint is slow or fails; ten messages per hour pass until it recovers.",
        scope=ThrottleScope.MESSAGE,
        retry=HOURS_RETRY,
    ),
    # Never an answer to a message, so it must not hold back any.
    133016: throttle(
        "The number was registered too often",
        "Wait 72 hours: at most ten registrations per number in that time.",
        scope=ThrottleScope.MESSAGE,
        retry=REGISTRATION_RETRY,  # Meta's figure
    ),
}

_TROUBLE: Mapping[int, CodeRule] = {
    1: transient(
        "Unknown error of the API",
        "Usually passes. If it stays, the request itself may be invalid: compare it with Meta's "
        "reference.",
        retry=FEW_RETRIES,
    ),
    2: transient("The service is down or overloaded", "Wait; see metastatus.com."),
    131000: transient(
        "Something went wrong at Meta", "Usually passes.", retry=FEW_RETRIES, seen=_SA
    ),
    131014: transient(
        "Meta could not fetch an address",
        "Check that the media link answers from the Internet.",
        retry=FEW_RETRIES,
        seen=_A,
    ),
    131016: transient("The service is unavailable", "Wait; see metastatus.com.", seen=_SA),
    131053: transient(
        "The media could not be fetched or uploaded",
        "Check type, size and link of the media; uploading it and sending its id is safer.",
        retry=FEW_RETRIES,  # Final for a wrong file, but links do fail for a moment.
        seen=_SA,
    ),
    131057: transient(
        "The number is in maintenance",
        "Passes in about a minute, after a change of throughput for instance.",
        retry=MINUTE_RETRY,  # Meta's figure
    ),
    133004: transient("The server is unavailable for a moment", "Wait; see metastatus.com."),
    134101: transient(
        "The template is still being synchronised",
        "A new template needs up to ten minutes.",
        retry=SYNC_RETRY,  # Meta's figure
    ),
    2494100: transient(
        "The number is being moved", "Wait until the migration has finished.", retry=MINUTE_RETRY
    ),
}

_REFUSED: Mapping[int, CodeRule] = {
    100: permanent("A parameter is not valid or not known", _PAYLOAD),
    130403: permanent(
        "Your business has blocked this user", "Unblock the user first.", action=_RECIPIENT
    ),
    130472: permanent(
        "The recipient is part of an experiment of Meta's",
        "Never retry: Meta withholds marketing from this person. Wait until the person writes.",
        seen=_A,
    ),
    130497: permanent(
        "The account may not message this country",
        "The kind of business is not allowed to message users in that country.",
        seen=_SA,
        action=_RECIPIENT,
    ),
    130501: permanent("Not supported in groups", "Send this kind of message to single persons."),
    131008: permanent("A required parameter is missing", _PAYLOAD),
    131009: permanent("The value of a parameter is not valid", _PAYLOAD, seen=_SA),
    131021: permanent(
        "Recipient and sender are the same number", "Send to another number.", action=_RECIPIENT
    ),
    131026: permanent(
        "The message cannot be delivered",
        "The number may not be on WhatsApp, use an old app, or not have accepted the terms. Ask "
        "the person by another way to write first; do not retry automatically.",
        seen=_SA,
    ),
    131030: permanent(
        "The recipient is not on the test number's list",
        "Add the recipient in the app's API set-up, or use a real number.",
        action=_RECIPIENT,
    ),
    131047: permanent(
        "More than 24 hours since the customer last wrote",
        "Send an approved template instead.",
        seen=_SA,
    ),
    131049: permanent(
        "Meta chose not to deliver this marketing message",
        "The person gets enough marketing. Wait at least 24 hours, better leave it: repeating at "
        "once can restrict the account.",
        seen=_A,
        wait=timedelta(hours=24),  # Meta's figure
    ),
    131050: permanent(
        "The recipient does not want marketing from you",
        "Take the person off your marketing lists; other messages still arrive.",
        seen=_SA,
        action=_RECIPIENT,
    ),
    131051: permanent(
        "The type of the message is not supported", "Use another type.", seen=_S | _I
    ),
    131052: permanent(
        "The customer's media could not be downloaded",
        "Ask the customer to send it again.",
        seen=_I,
    ),
    131055: permanent("The method is not allowed", "Send through the messages endpoint."),
    131060: permanent(
        "The customer's message is not available", "Ask the customer to send it again.", seen=_I
    ),
    131062: permanent(
        "This message needs a phone number",
        "Authentication templates with one-tap, zero-tap or copy-code buttons cannot go to a user "
        "id.",
        seen=_SA,
        action=_RECIPIENT,
    ),
    131063: permanent(
        "Marketing is switched off for this account on the Cloud API",
        "Send marketing templates through the Marketing Messages API, or switch them on again.",
        action=_TEMPLATE,
    ),
    132000: permanent(
        "The number of template parameters is wrong",
        "Compare the parameters with the approved template.",
    ),
    132001: permanent(
        "The template does not exist in this language, or is not approved",
        "Check name, language and status of the template.",
        action=_TEMPLATE,
    ),
    132005: permanent("The filled-in template is too long", "Shorten the parameters."),
    132007: permanent(
        "The template breaks a content policy", "Change the template.", action=_TEMPLATE
    ),
    132008: permanent("A template parameter has a wrong value", _PAYLOAD),
    132012: permanent("A template parameter has a wrong format", _PAYLOAD),
    132015: permanent(
        "The template is paused for low quality",
        "Improve the template; Meta lifts the pause after some hours.",
        seen=_SA,
        action=_TEMPLATE,
    ),
    132016: permanent(
        "The template is disabled for good",
        "Make a new template with other content.",
        seen=_SA,
        action=_TEMPLATE,
    ),
    132018: permanent("The template's parameters are not valid", _PAYLOAD),
    132068: permanent("The flow is blocked", "Mend the flow and publish it.", action=_TEMPLATE),
    134011: permanent(
        "The terms of payments are not accepted", "Accept them in Meta Business settings."
    ),
    134100: permanent(
        "Only marketing messages are allowed here", "Send it through the messages endpoint."
    ),
    134102: permanent(
        "The template cannot be used for marketing messages",
        "Send it through the messages endpoint, or change the template.",
        action=_TEMPLATE,
    ),
    135000: permanent("A parameter is wrong, Meta does not say which", _PAYLOAD),
    136024: permanent(
        "The number needs no verification code", "The number is verified already; go on."
    ),
    137000: permanent(
        "The recipient's identity has changed",
        "Confirm the identity with the person and store the new identity hash.",
        seen=_A,
        action=_RECIPIENT,
    ),
}

CODES: Mapping[int, CodeRule] = MappingProxyType({**_ACCESS, **_LIMITS, **_TROUBLE, **_REFUSED})
"""The rule of every code that Meta documents by itself."""

_GROUPS = permanent("Refused by the groups API", _PAYLOAD, seen=_SA)

FAMILIES: tuple[tuple[range, CodeRule], ...] = (
    (range(200, 300), channel("Permission of the API is missing", _PERMIT)),
    (range(131020, 131021), _GROUPS),
    (range(131041, 131042), _GROUPS),
    (range(131059, 131060), _GROUPS),
    (range(131200, 131300), _GROUPS),
    (range(138000, 139000), permanent("Refused by the calling API", _PAYLOAD)),
    (range(139000, 139005), permanent("Refused by the flows API", _PAYLOAD, action=_TEMPLATE)),
    (range(139100, 139104), permanent("Refused by the block list", _PAYLOAD)),
    (range(147001, 147006), permanent("Refused by the usernames API", _PAYLOAD)),
    (range(200005, 200008), permanent("Template insights are not available", _PAYLOAD)),
    (range(2388000, 2389000), permanent("Refused by template or number management", _PAYLOAD)),
    (range(2593107, 2593109), permanent("History cannot be synchronised", _PAYLOAD)),
)
"""Families of codes that share a rule; a code with a rule of its own is not looked up here."""

UNKNOWN_CODE = permanent(
    "A code that Tellwire does not know",
    "Look the code up in Meta's error reference; the message was not taken.",
    seen=_SA,
)
UNKNOWN_TRANSIENT_CODE = transient(
    "A code that Tellwire does not know, marked as passing by Meta",
    "Look the code up in Meta's error reference.",
    retry=FEW_RETRIES,
    seen=_SA,
)
_WRONG_OBJECT = channel(
    "The phone number id is wrong or not open to this token",
    "Check the phone number id of the channel, and that its token may use it.",
)
_WRONG_OBJECT_SUBCODE = 33  # of code 100: "unsupported post request"


def rule_for(
    code: int | None, *, subcode: int | None = None, is_transient: bool = False
) -> CodeRule:
    """The rule of a code; for one that nobody knows, permanent unless Meta calls it transient."""
    if code == 100 and subcode == _WRONG_OBJECT_SUBCODE:  # noqa: PLR2004  # Meta's own number
        return _WRONG_OBJECT
    rule = None if code is None else CODES.get(code) or _family(code)
    return rule or (UNKNOWN_TRANSIENT_CODE if is_transient else UNKNOWN_CODE)


def advice_for(code: int | None) -> str | None:
    """What to do about a failure with this code; None for one that has none."""
    return None if code is None else rule_for(code).advice


def _family(code: int) -> CodeRule | None:
    return next((rule for codes, rule in FAMILIES if code in codes), None)


def known_codes() -> Iterator[tuple[str, CodeRule]]:
    """Every row with its code or range in words, for the operator's reference."""
    yield from ((str(code), CODES[code]) for code in sorted(CODES))
    for codes, rule in FAMILIES:
        first, last = codes[0], codes[-1]
        yield (str(first) if first == last else f"{first}-{last}", rule)
