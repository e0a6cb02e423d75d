"""Reading what people and Meta wrote without trusting it: what has another shape is not there."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from whatsapp.domain.value_objects.message_content.frozen_json import Json, freeze_anything, thaw

_LATEST_SECOND = 4_102_444_800  # the year 2100; what claims to be later is no time
_MILLISECONDS_FROM = 10**11  # as seconds this is the year 5138


def field_of(value: Json, key: str) -> Json:
    """The field of an object; None where there is no such field, or no object."""
    return value.get(key) if isinstance(value, Mapping) else None


def text_of(value: Json, key: str) -> str | None:
    """The field, where it is a text."""
    text = field_of(value, key)
    return text if isinstance(text, str) else None


def flag_of(value: Json, key: str) -> bool:
    """Whether the field is true, and not merely something."""
    return field_of(value, key) is True


def items_of(value: Json, key: str | None = None) -> Sequence[Json]:
    """The items of an array, or of the array under `key`; none where there is none."""
    items = value if key is None else field_of(value, key)
    return items if isinstance(items, tuple) else ()


def decimal_of(value: Json, key: str) -> Decimal | None:
    """A finite number, also where it is written as a text."""
    number = field_of(value, key)
    if isinstance(number, bool) or not isinstance(number, int | float | str):
        return None
    try:
        decimal = Decimal(str(number))
    except InvalidOperation:
        return None
    return decimal if decimal.is_finite() else None


def integer_of(value: Json, key: str, *, most: int) -> int | None:
    """A whole number of up to `most` in either direction."""
    number = decimal_of(value, key)
    if number is None or not -most <= number <= most:
        return None
    return int(number) if number == int(number) else None


def moment_of(value: Json, key: str) -> datetime | None:
    """A time in Unix seconds or milliseconds, as a number or as a text."""
    number = decimal_of(value, key)
    if number is None or not 0 <= number < 1000 * _LATEST_SECOND:
        return None
    seconds = number / 1000 if number >= _MILLISECONDS_FROM else number
    return datetime.fromtimestamp(float(seconds), UTC)


def embedded_json(value: Json, key: str) -> Any:
    """The JSON in a text, which Meta writes at times where an object could be; or None."""
    try:
        found = json.loads(text_of(value, key) or "null")
    except (ValueError, RecursionError):
        return None
    return thaw(freeze_anything(found))
