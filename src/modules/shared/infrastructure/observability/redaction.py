"""Takes tokens, phone numbers and secret fields out of whatever is about to be logged.

The second line of defence: what is secret does not show itself in the first place (`Secret`,
`Masked`). This one is for what others write, such as a library that logs a whole request.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

REMOVED: Final = "[removed]"
MAX_DEPTH: Final = 12
MAX_CHARACTERS: Final = 20_000

SECRET_FIELDS: Final = frozenset(
    {
        *("access_token", "api_key", "apikey", "app_secret", "authorization", "bearer", "cookie"),
        *("encryption_key", "encryption_keys", "hub.verify_token", "password", "passwd", "pin"),
        *("private_key", "proxy_authorization", "secret", "secret_digest", "set_cookie", "token"),
        *("verify_token", "x_api_key", "x_hub_signature_256", "signature", "digest", "dsn"),
        *("previous_secret", "client_secret", "refresh_token", "appsecret_proof"),
    }
)
PERSONAL_FIELDS: Final = frozenset(
    {
        *("to", "recipient", "recipient_id", "phone", "phone_number", "wa_id", "user_id", "from"),
        *("sender", "display_phone_number", "profile_name", "body", "payload", "caption"),
    }
)
_HIDDEN_FIELDS: Final = SECRET_FIELDS | PERSONAL_FIELDS

_RULES: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+"), rf"\1 {REMOVED}"),
    (re.compile(r"(?<![A-Za-z0-9])EAA[A-Za-z0-9_\-]{6,}"), REMOVED),
    (re.compile(r"(?<![A-Za-z0-9])tw_[A-Za-z0-9_\-]{6,}"), REMOVED),
    (re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"), REMOVED),
    # A plus and 7 to 15 digits, in one piece or in groups, also as a URL spells the plus.
    (re.compile(r"(?:\+|%2[Bb])[ (]{0,2}\d(?:[ ().\-/]{0,2}\d){6,14}"), REMOVED),
    # The same digits as Meta writes them, without the plus; not a part of an id or of a number.
    (re.compile(r"(?<![\w.\-+])\d{10,15}(?![\w\-]|\.\d)"), REMOVED),
)


def redact_text(text: str) -> str:
    """The text without tokens, credentials in URLs and phone numbers; long ones are cut."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]} [{len(text) - MAX_CHARACTERS} characters more]"
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redact(value: Any, depth: int = 0) -> Any:
    """A copy of `value` that may be logged: plain data, whatever its nesting."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _redact_inside(value, depth) if depth < MAX_DEPTH else REMOVED
    if isinstance(value, bytes | bytearray | memoryview):
        # Bodies and ciphertexts: nobody reads them in a log, and patterns do not see into them.
        return f"[{len(value)} bytes]"
    return redact_text(value if isinstance(value, str) else repr(value))


def _redact_inside(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return _redact_items(value, depth)
    return [redact(item, depth + 1) for item in value]


def _redact_items(items: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {
        redact_text(str(name)): REMOVED if _is_hidden(name) else redact(item, depth + 1)
        for name, item in items.items()
    }


def _is_hidden(name: object) -> bool:
    return str(name).lower().replace("-", "_") in _HIDDEN_FIELDS


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact a whole event: structlog's last processor before the line is rendered."""
    return {
        name: value if name in _OWN_FIELDS else REMOVED if _is_hidden(name) else redact(value)
        for name, value in event.items()
    }


_OWN_FIELDS: Final = frozenset({"timestamp", "level"})
"""Written by our own processors a moment ago."""
