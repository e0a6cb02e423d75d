"""Reading Meta's JSON without trusting it: what is not as it should be is not there."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from whatsapp.domain.outcome import FailureReason
from whatsapp.domain.value_objects import UserId
from whatsapp.infrastructure.cloud_api.code_table import rule_for

MAX_ID_CHARACTERS = 512
"""Longer than any id that Meta gives out, and short enough for an index."""

_WA_ID = re.compile(r"[1-9][0-9]{6,14}")
_MAX_DIGITS = 13  # of a number written as text: milliseconds since 1970
_MAX_CODE = 2**31 - 1  # what a column of PostgreSQL's type integer holds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 10**11  # as seconds this is the year 5138
# WhatsApp began in 2009; what claims to be before that or after 2100 is no time.
_EARLIEST, _LATEST = datetime(2009, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


_ESCAPED_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_MAX_INTEGER_CHARACTERS = 19


def read_json(raw: bytes) -> Any:
    """The JSON in a body, fit for PostgreSQL and UTF-8; None if it is none. Never raises.

    NUL characters and lone surrogates (half an emoji, where somebody cut a name) are replaced
    instead of spoiling the whole; numbers that no float can hold become null.
    """
    if b"\\u0000" in raw:
        raw = _ESCAPED_NUL.sub(rb"\1\\ufffd", raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _read_leniently(raw)


def _read_leniently(raw: bytes) -> Any:
    """As `read_json`, slower and less strict: Python's parser knows how to read half an emoji."""
    try:
        document = json.loads(
            raw.decode("utf-8-sig", "replace"),
            parse_int=_bounded_integer,
            parse_float=_finite,
            parse_constant=_nothing,
        )
        return orjson.loads(json.dumps(document, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _bounded_integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_INTEGER_CHARACTERS else None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _nothing(_constant: str) -> None:
    """What NaN and Infinity, which are not JSON, are worth."""


def is_storable(value: Any) -> bool:
    """Whether a parsed JSON value is nested so little that it can be written out again."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def objects(value: object) -> list[dict[str, Any]]:
    """The objects in a list; whatever else is in it, or instead of it, is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def mapping(value: object) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def identifier(value: object) -> str | None:
    """An id: a text that is not empty and not over-long; Meta's ids are otherwise opaque."""
    found = text(value)
    return found if found and len(found) <= MAX_ID_CHARACTERS else None


def integer(value: object) -> int | None:
    """A whole number, or its ASCII digits; True is not 1 here."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(value: object) -> datetime | None:
    """A time in Unix seconds or milliseconds, both as number or text (Meta sends any of them)."""
    number = integer(value)
    if number is None or not 0 <= number < 10**_MAX_DIGITS:
        return None
    unit = timedelta(milliseconds=1) if number >= _MILLISECONDS_FROM else timedelta(seconds=1)
    at = _EPOCH + number * unit
    return at if _EARLIEST <= at <= _LATEST else None


def person(*candidates: object) -> tuple[str | None, str | None]:
    """The first phone number (as `wa_id`) and the first user id among fields that hold either.

    Meta has been seen to write a user id where a phone number belongs.
    """
    wa_id = user_id = None
    for value in candidates:
        if not isinstance(value, str):
            continue
        if _WA_ID.fullmatch(value):
            wa_id = wa_id or value
        elif UserId.looks_like(value):
            user_id = user_id or value
    return wa_id, user_id


def failure(error: object) -> FailureReason:
    """The reason in one of Meta's error objects, in an answer or a webhook; takes any shape."""
    found = mapping(error)
    code = integer(found.get("code"))
    if code is not None and abs(code) > _MAX_CODE:
        code = None
    if not found:
        return FailureReason(None, "Failed without a reason", "")
    # In a status the title is bare; in an answer `message` is "(#code) title".
    title = text(found.get("title")) or text(found.get("message")) or rule_for(code).title
    return FailureReason(code, title, _details(found))


def failures(value: object) -> tuple[FailureReason, ...]:
    """The reasons in a list of error objects."""
    return tuple(failure(error) for error in objects(value))


def _details(error: dict[str, Any]) -> str:
    """What Meta says about the case; templates and management calls give a bare string."""
    data = error.get("error_data")
    candidates = (
        data.get("details") if isinstance(data, dict) else data,
        error.get("error_user_msg"),
        error.get("message") if error.get("title") else None,
    )
    return next((found for found in map(text, candidates) if found), "")
