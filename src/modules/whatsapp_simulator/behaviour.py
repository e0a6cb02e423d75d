"""What the simulator is told to do with one message: Meta's errors, a broken line, odd statuses.

A behaviour comes from the recipient's number (see `magic`) or from a rule set over the control API.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

Before = Literal["hang", "reset", "html"]
After = Literal["hang", "reset", "html", "garbage", "empty", "truncated"]
Script = Literal[
    "normal",
    "reversed",
    "doubled",
    "lost",
    "late",
    "read_only",
    "sent_only",
    "delivered_only",
    "no_delivered",
    "early",
    "delivered_first",
    "held",
    "held_failed",
    "sent_after_failed",
]
Identity = Literal["phone", "bsuid", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Deviations from a normal send; each field is independent of the others."""

    error: int | None = None
    """Refuse with this code at once."""
    failed: int | None = None
    """Accept, then report `failed` with this code."""
    failed_after: Literal["accepted", "sent", "delivered"] = "accepted"
    before: Before | None = None
    """What happens to the connection instead of acceptance."""
    after: After | None = None
    """What the client gets instead of the answer, although the message was accepted."""
    http: Annotated[int, Field(ge=200, le=599)] = 502
    """Status of an `html` answer."""
    latency_ms: Annotated[int, Field(ge=0)] = 0
    """Wait before the message is looked at."""
    slow_ms: Annotated[int, Field(ge=0)] = 0
    """Wait between acceptance and answer."""
    script: Script = "normal"
    late_s: Annotated[float, Field(ge=0)] | None = None
    """For `late`; otherwise as configured."""
    identity: Identity = "phone"


NORMAL = Behaviour()
EARLY_ANSWER_MS = 400
"""How much later than its first status the answer of an `early` message leaves."""

# +1 555 F CCCCCC: F is the family. Everything else is an ordinary number.
MAGIC_PREFIX = "1555"
_MAGIC_LENGTH = 11
_CONNECTION: dict[int, Behaviour] = {
    1: Behaviour(before="hang"),
    2: Behaviour(after="hang"),
    3: Behaviour(before="reset"),
    4: Behaviour(after="reset"),
    7: Behaviour(after="garbage"),
    8: Behaviour(after="empty"),
    11: Behaviour(after="truncated"),
}
_SCRIPTS: dict[int, Behaviour] = {
    1: Behaviour(script="reversed"),
    2: Behaviour(script="doubled"),
    3: Behaviour(script="lost"),
    5: Behaviour(script="read_only"),
    6: Behaviour(script="sent_only"),
    7: Behaviour(script="delivered_only"),
    8: Behaviour(script="no_delivered"),
    9: Behaviour(script="early", slow_ms=EARLY_ANSWER_MS),
    10: Behaviour(script="delivered_first"),
    11: Behaviour(script="held"),
    12: Behaviour(script="held_failed"),
    13: Behaviour(script="sent_after_failed"),
}
_IDENTITIES: dict[int, Behaviour] = {
    1: Behaviour(identity="bsuid"),
    2: Behaviour(identity="both"),
}
_LATE = 4
_BAD_GATEWAY = 502
_HTTP_STATUSES = range(200, 600)


@lru_cache(50_000)
def _parse(digits: str) -> Behaviour:
    family, code = digits[4], int(digits[5:])
    kind, argument = divmod(code, 10_000)
    match family:
        case "1":
            behaviour = Behaviour(error=code)
        case "2":
            behaviour = Behaviour(failed=code)
        case "3":
            behaviour = Behaviour(failed=code, failed_after="sent")
        case "4":
            behaviour = _connection(kind, argument)
        case "5" if kind == _LATE:
            behaviour = Behaviour(script="late", late_s=argument or None)
        case "5":
            behaviour = _SCRIPTS.get(kind, NORMAL)
        case "6":
            behaviour = _IDENTITIES.get(kind, NORMAL)
        case _:
            behaviour = NORMAL
    return behaviour


def _connection(kind: int, argument: int) -> Behaviour:
    match kind:
        case 5:
            return Behaviour(latency_ms=argument)
        case 6:
            return Behaviour(slow_ms=argument)
        case 9:
            return Behaviour(before="html", http=_http(argument))
        case 10:
            return Behaviour(after="html", http=_http(argument))
        case _:
            return _CONNECTION.get(kind, NORMAL)


def _http(argument: int) -> int:
    return argument if argument in _HTTP_STATUSES else _BAD_GATEWAY


def magic(recipient: str) -> Behaviour:
    """The behaviour that a recipient's digits (or the digits of a BSUID) ask for."""
    if "." in recipient:
        recipient = recipient.rpartition(".")[2]
    if len(recipient) != _MAGIC_LENGTH or not recipient.startswith(MAGIC_PREFIX):
        return NORMAL
    return _parse(recipient) if recipient.isdecimal() else NORMAL
